import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { consume } from '../../../test/support/consumer.ts';
import { admission, depthOf, ids, insist, notification, numbered, TOPIC } from '../../../test/support/outbox.ts';
import { until } from '../../../test/support/process.ts';
import { openHouse } from '../../../test/support/rabbit-outbox.ts';
import { channelsOf, type RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { closeConnection, connectOnce, openChannel } from '../../rabbitmq/connection.ts';
import { namesOf } from './names.ts';

describe('the outbox on RabbitMQ, while the broker does not answer', () => {
  let rabbit: RabbitServer;
  before(async () => {
    rabbit = await sharedRabbit();
  });

  it('writes over another channel when one gets no confirms', async () => {
    const vhost = await rabbit.vhost();
    await using house = await openHouse(rabbit.url(vhost));
    const outbox = await house.open({ confirmMs: 200 });
    await outbox.commit(admission(notification('e1')));
    await rabbit.nodes[0]?.evaluate(`[sys:suspend(P) || P <- ${channelsOf(vhost, 'confirm, true')}].`);
    await assert.rejects(outbox.commit(admission(notification('e2'))), { code: 'OUTBOX_UNUSABLE' });
    await insist(outbox, notification('e3'));
    await outbox.close();
  });

  it('reconnects when its channel to write to is closed and others do not answer', async () => {
    const vhost = await rabbit.vhost();
    await using house = await openHouse(rabbit.url(vhost));
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await outbox.commit(admission(notification('e1')));
    await topic.settle(...(await topic.next(1)));
    // As where a channel waits for a queue without a leader: RabbitMQ answers a close when all channels have ended.
    const [writing, others] = [channelsOf(vhost, 'confirm, true'), channelsOf(vhost, 'confirm, false')];
    const close = `{'channel.close', 541, <<"INTERNAL_ERROR - of the test">>, 0, 0}`;
    await rabbit.nodes[0]?.evaluate(
      `W = ${writing}, [sys:suspend(P) || P <- ${others}], [rabbit_channel:send_command(P, ${close}) || P <- W].`,
    );
    await until('the loss', () => outbox.fault !== undefined);
    await insist(outbox, notification('e2'));
    assert.deepEqual(ids(await topic.next(1)), ['e2']);
    await outbox.close();
  });

  it('declares a deleted queue again although nothing is written to it', async () => {
    const vhost = await rabbit.vhost();
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await outbox.commit(admission(notification('e1')));
    await topic.settle(...(await topic.next(1)));
    await until('it to be gone', () => depthOf(outbox) === 0);
    const connection = await connectOnce(rabbit.url(vhost));
    await (await openChannel(connection)).deleteQueue(namesOf(house.prefix).partition(TOPIC, 1, 0));
    await closeConnection(connection);
    await until('the loss', () => outbox.health().fault !== undefined);
    await until('nothing to be wrong', () => outbox.health().fault === undefined);
    await outbox.close();
  });

  it('stops, and hands over what it knows, while nothing answers', async () => {
    const vhost = await rabbit.vhost();
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const outbox = await house.open({ stopMs: 100 });
    const topic = consume(outbox, TOPIC);
    await outbox.commit(admission(...numbered(1, 5)));
    const taken = await topic.next(5);
    await topic.settle(...taken.slice(0, 2));
    rabbit.nodes[0]?.hang(true);
    try {
      let closed = false;
      void outbox.close().then(() => {
        closed = true;
      });
      await until('it to be closed', () => closed, 20_000);
    } finally {
      rabbit.nodes[0]?.hang(false);
    }
    const next = await house.open();
    await using rest = consume(next, TOPIC);
    assert.deepEqual(ids(await rest.next(3)), ['e3', 'e4', 'e5']);
    await next.close();
  });

  it('stops during an alarm', async () => {
    const vhost = await rabbit.vhost();
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1, renewMs: 300, confirmMs: 300 });
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await outbox.commit(admission(notification('e1')));
    await topic.next(1);
    await rabbit.alarm(true);
    try {
      await until('the alarm to be met', async () => {
        void outbox.commit(admission(notification('under way'))).catch(() => undefined);
        return outbox.fault !== undefined;
      });
      // Time for a channel to be renewed.
      await sleep(600);
      let closed = false;
      void outbox.close().then(() => {
        closed = true;
      });
      await until('it to be closed', () => closed);
    } finally {
      await rabbit.alarm(false);
    }
  });
});
