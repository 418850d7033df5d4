import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { consume, turns } from '../../../test/support/consumer.ts';
import {
  admission,
  commitAs,
  depthOf,
  ids,
  insist,
  lastOf,
  notification,
  numbered,
  OTHER,
  TOPIC,
} from '../../../test/support/outbox.ts';
import { until } from '../../../test/support/process.ts';
import { openHouse } from '../../../test/support/rabbit-outbox.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { connectOnce, openChannel, openConfirmChannel } from '../../rabbitmq/connection.ts';
import { FORMAT } from '../../rabbitmq/format.ts';
import { probeBroker } from '../../rabbitmq/probe.ts';
import type { Stored } from '../outbox.ts';
import { namesOf } from './names.ts';

describe('the outbox on RabbitMQ, in trouble', () => {
  let rabbit: RabbitServer;
  let vhost: string;
  before(async () => {
    rabbit = await sharedRabbit();
    vhost = await rabbit.vhost();
  });

  for (const resource of ['memory', 'disk'] as const)
    it(`reports an alarm of the ${resource} that blocks it, and continues afterwards`, async () => {
      await using house = await openHouse(rabbit.url(vhost));
      const outbox = await house.open();
      await outbox.commit(admission(notification('e1')));
      await rabbit.alarm(true, 0, resource);
      await until('the alarm to be met', async () => {
        void outbox.commit(admission(notification('under way'))).catch(() => undefined);
        return outbox.fault !== undefined;
      });
      assert.match(outbox.fault?.message ?? '', new RegExp(`takes nothing new: low on ${resource}.*list_alarms`));
      await assert.rejects(outbox.commit(admission(notification('refused'))), { code: 'OUTBOX_UNUSABLE' });
      assert.match(outbox.health().fault ?? '', new RegExp(resource));
      const found = await probeBroker(rabbit.url(vhost), {}, house.prefix);
      assert.match(`${found?.reason} ${found?.advice}`, new RegExp(`low on ${resource}.*list_alarms`));
      await rabbit.alarm(false, 0, resource);
      await until('its end', () => outbox.fault === undefined);
      await outbox.commit(admission(notification('e2')));
      await outbox.close();
    });

  it('continues after a lost connection, and sends nothing twice', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await commitAs(outbox, 's', 'x', 5, admission(...numbered(1, 5)));
    const [one, two] = (await topic.next(5)) as [Stored, Stored];
    await topic.settle(one);
    await rabbit.nodes[0]?.evaluate('rabbit_networking:close_all_connections("of the test").');
    await until('the loss', () => outbox.fault !== undefined);
    await topic.settle(two);
    await insist(outbox, notification('e6'));
    assert.deepEqual(ids(await topic.next(1)), ['e6']);
    assert.equal(await lastOf(outbox, 's', 'x'), 5);
    await until('the rest to be counted', () => depthOf(outbox) === 4);
    await outbox.close();
  });

  it('loses and repeats nothing when the broker restarts', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await outbox.commit(admission(...numbered(1, 5)));
    const taken = await topic.next(5);
    await rabbit.nodes[0]?.stop();
    await until('the loss', () => outbox.fault !== undefined);
    assert.match(outbox.fault?.message ?? '', /nothing listens there|reconnecting|retrying/);
    await rabbit.nodes[0]?.start();
    await insist(outbox, notification('e6'));
    assert.deepEqual(ids(await topic.next(1)), ['e6']);
    await topic.settle(...taken);
    await until('the first ones to be gone', () => depthOf(outbox) === 1);
    await outbox.close();
  });

  it('declares a deleted queue again, and refuses events for it meanwhile', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await outbox.commit(admission(notification('e1')));
    await topic.next(1);
    const connection = await connectOnce(rabbit.url(vhost));
    await (await openChannel(connection)).deleteQueue(namesOf(house.prefix).partition(TOPIC, 1, 0));
    await connection.close();
    await insist(outbox, notification('e2'));
    assert.deepEqual(ids(await topic.next(1)), ['e2']);
    await until('nothing to be wrong', () => outbox.health().fault === undefined);
    await outbox.close();
  });

  it('starts with a baseline if the queue of a position was deleted', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const outbox = await house.open();
    await commitAs(outbox, 's', 'x', 5, admission(notification('e1')));
    const connection = await connectOnce(rabbit.url(vhost));
    await (await openChannel(connection)).deleteQueue(namesOf(house.prefix).position('s', 'x'));
    await connection.close();
    await until('it to be taken', () =>
      commitAs(outbox, 's', 'x', 6, admission(notification('e2'))).then(
        () => true,
        () => false,
      ),
    );
    assert.equal(await lastOf(outbox, 's', 'x'), 6);
    await outbox.close();
  });

  it('refuses events for a queue declared differently, reports it, and continues once it is deleted', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const queue = namesOf(house.prefix).partition(TOPIC, 1, 0);
    const connection = await connectOnce(rabbit.url(vhost));
    const channel = await openChannel(connection);
    await channel.assertQueue(queue, { durable: true });
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await assert.rejects(outbox.commit(admission(notification('e1'))), /x-queue-type|inequivalent arg|delete it/);
    await until('it to be said', () => /declared|inequivalent/.test(outbox.health().fault ?? ''));
    await channel.deleteQueue(queue);
    await insist(outbox, notification('e1'));
    assert.deepEqual(ids(await topic.next(1)), ['e1']);
    await until('nothing to be wrong', () => outbox.health().fault === undefined);
    await connection.close();
    await outbox.close();
  });

  for (const [lacking, permissions] of [
    ['configure', ['', '.*', '.*']],
    ['write', ['.*', '^nothing$', '.*']],
    ['read', ['.*', '.*', '^nothing$']],
  ] as const)
    it(`reports that the user may not ${lacking}, also in check, and continues once permitted`, async () => {
      const login = `lacks-${lacking}`;
      await rabbit.user(login, 'secret', vhost, permissions);
      const url = rabbit.url(vhost, { login: `${login}:secret` });
      await using house = await openHouse(url);
      assert.match((await probeBroker(url, {}, house.prefix))?.reason ?? '', new RegExp(`permission to ${lacking}`));
      const outbox = await house.open({ connected: false });
      await until('it to be said', () => new RegExp(`permission to .*${lacking}`).test(outbox.fault?.message ?? ''));
      await rabbit.user(login, 'secret', vhost, ['^t', '^(t|amq\\.default$)', '^t']);
      assert.equal(await probeBroker(url, {}, house.prefix), undefined);
      await insist(outbox, notification('e1'));
      await using topic = consume(outbox, TOPIC);
      assert.deepEqual(ids(await topic.next(1)), ['e1']);
      await outbox.close();
    });

  it('renews the channel of a waiting topic, and repeats nothing', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1, renewMs: 40 });
    const outbox = await house.open();
    await using topic = consume(outbox, TOPIC);
    await outbox.commit(admission(...numbered(1, 3)));
    await outbox.commit(admission(notification('e4')));
    const taken = await topic.next(4);
    const renewals = async () => {
      const connection = await connectOnce(rabbit.url(vhost));
      const channel = await openChannel(connection);
      await channel.checkQueue(namesOf(house.prefix).partition(TOPIC, 1, 0));
      await connection.close();
    };
    // More often than RabbitMQ 4 would deliver a message without our limit.
    for (let n = 0; n < 30; n++) await renewals();
    assert.deepEqual(await topic.rest(), []);
    await topic.settle(...taken);
    await until('it to be gone', () => depthOf(outbox) === 0);
    await turns();
    await outbox.commit(admission(notification('e5')));
    assert.deepEqual(ids(await topic.next(1)), ['e5']);
    await outbox.close();
  });

  it('a topic that waits with all that it may hold does not hold up another one', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1, prefetch: 2, renewMs: 40 });
    const outbox = await house.open();
    await using waiting = consume(outbox, OTHER);
    await using topic = consume(outbox, TOPIC);
    // One parcel each.
    for (let n = 1; n <= 5; n++) await outbox.commit(admission(notification(`w${n}`, { topic: OTHER })));
    const held = await waiting.next(2);
    for (let n = 1; n <= 20; n++) {
      await outbox.commit(admission(notification(`e${n}`)));
      await topic.settle(...(await topic.next(1)));
    }
    assert.deepEqual(await waiting.rest(), []);
    await waiting.settle(...held);
    assert.deepEqual(ids([...held, ...(await waiting.next(2))]), ['w1', 'w2', 'w3', 'w4']);
    await outbox.close();
  });

  /** How often the node ended a channel for a delivery that was not acknowledged in time. */
  const timeouts = () =>
    (rabbit.nodes[0]?.log().match(/has timed out|acknowledgement on channel \d+ timed out/g) ?? []).length;
  const limitDeliveries = (timeoutMs: number, lookMs: number) =>
    rabbit.nodes[0]?.evaluate(
      `application:set_env(rabbit, consumer_timeout, ${timeoutMs}), application:set_env(rabbit, channel_tick_interval, ${lookMs}).`,
    );

  it("a waiting topic outlasts RabbitMQ's consumer_timeout, and repeats nothing even if it strikes", async () => {
    await limitDeliveries(3_000, 200);
    try {
      await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
      const outbox = await house.open({ renewMs: 500 });
      await using topic = consume(outbox, TOPIC);
      const before = timeouts();
      await outbox.commit(admission(...numbered(1, 3)));
      const waiting = await topic.next(3);
      await sleep(4_500);
      assert.equal(timeouts(), before);
      assert.deepEqual(await topic.rest(), []);
      await topic.settle(...waiting);
      await until('it to be gone', () => depthOf(outbox) === 0);
      await outbox.close();

      // As after a machine was suspended: nothing renewed the channel in time.
      const late = await house.open();
      await using met = consume(late, TOPIC);
      await late.commit(admission(...numbered(4, 3)));
      const held = await met.next(3);
      await until('the channel to be ended', () => timeouts() > before);
      await insist(late, notification('e7'));
      const next = await met.next(1);
      assert.deepEqual(ids(next), ['e7']);
      await met.settle(...held, ...next);
      await until('it to be gone', () => depthOf(late) === 0);
      await until('nothing to be wrong', () => late.health().fault === undefined);
      await late.close();
    } finally {
      await limitDeliveries(1_800_000, 60_000);
    }
  });

  it('check finds a policy that limits deliveries of a message', async () => {
    const url = rabbit.url(await rabbit.vhost());
    const limited = new URL(url).pathname.slice(1);
    assert.equal(await probeBroker(url, {}, 'xep'), undefined);
    await rabbit.nodes[0]?.evaluate(
      `rabbit_policy:set(<<"${limited}">>, <<"limit">>, <<"^xep">>, [{<<"delivery-limit">>, 20}], 0, <<"queues">>, <<"test">>).`,
    );
    assert.match((await probeBroker(url, {}, 'xep'))?.advice ?? '', /delivery-limit/);
    assert.equal(await probeBroker(url, {}, 'other'), undefined);
  });

  /** Puts into a queue what a newer release would write there. */
  const writeNewer = async (queue: string, content: string, exchange = '') => {
    const connection = await connectOnce(rabbit.url(vhost));
    const channel = await openConfirmChannel(connection);
    const headers = { v: FORMAT + 1, n: 1, at: Date.now() };
    channel.publish(exchange, queue, Buffer.from(content), { persistent: true, messageId: 'newer.1', headers });
    await channel.waitForConfirms();
    await connection.close();
  };
  /** Takes the first message of a queue away, as a newer release would; answers it. */
  const takeFirst = async (queue: string) => {
    const connection = await connectOnce(rabbit.url(vhost));
    const channel = await openChannel(connection);
    await channel.prefetch(1);
    const { promise, resolve } = Promise.withResolvers<string>();
    await channel.consume(queue, (message) => {
      if (!message) return;
      channel.ack(message);
      void channel.close().then(() => resolve(message.content.toString()));
    });
    const content = await promise;
    await connection.close();
    return content;
  };
  const NEWER = new RegExp(`format ${FORMAT + 1}.*a newer release wrote.*upgrade this daemon`);

  it("leaves a newer release's parcel, and those after it, in the queue until a daemon can read it", async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const queue = namesOf(house.prefix).partition(TOPIC, 1, 0);
    const outbox = await house.open();
    await outbox.commit(admission(notification('e1')));
    await writeNewer(queue, 'it cannot be read');
    await outbox.commit(admission(notification('e3')));
    const before = consume(outbox, TOPIC);
    const taken = await before.next(1);
    assert.deepEqual(ids(taken), ['e1']);
    await until('it to be said', () => NEWER.test(outbox.health().fault ?? ''));
    await before.settle(...taken);
    await turns();
    assert.deepEqual(await before.rest(), []);
    assert.equal(outbox.health().deadLetters, 0);
    await before.close();
    await outbox.close();
    assert.equal(await takeFirst(queue), 'it cannot be read');
    const next = await house.open();
    await using topic = consume(next, TOPIC);
    assert.deepEqual(ids(await topic.next(1)), ['e3']);
    assert.equal(next.health().fault, undefined);
    await next.close();
  });

  it('refuses only a source whose position a newer release wrote, until it can be read', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const outbox = await house.open();
    await commitAs(outbox, 'other', 'x', 1, admission(notification('e1')));
    const queue = namesOf(house.prefix).position('s', 'x');
    await commitAs(outbox, 's', 'x', 5, admission(notification('e2')));
    await outbox.close();
    await writeNewer(queue, '{}');
    const next = await house.open();
    await assert.rejects(next.source('s', 'x'), { code: 'OUTBOX_UNUSABLE', message: NEWER });
    assert.equal(await lastOf(next, 'other', 'x'), 1);
    // Whoever can read it gets at it.
    await takeFirst(queue);
    assert.equal(await lastOf(next, 's', 'x'), undefined);
    await next.close();
  });

  it('refuses events while the directory or another daemon has an unknown format', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const { directory, daemons } = namesOf(house.prefix);
    const outbox = await house.open();
    await outbox.commit(admission(notification('e1')));
    await writeNewer('', '{}', daemons);
    await until('it to hear of the other', () => NEWER.test(outbox.fault?.message ?? ''));
    await outbox.close();
    await writeNewer(directory, '{}');
    const next = await house.open({ connected: false });
    await until('it to be said', () => NEWER.test(next.fault?.message ?? ''));
    await assert.rejects(next.commit(admission(notification('e2'))), { code: 'OUTBOX_UNUSABLE' });
    await takeFirst(directory);
    await insist(next, notification('e2'));
    await next.close();
  });
});
