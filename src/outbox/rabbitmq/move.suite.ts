import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { consume } from '../../../test/support/consumer.ts';
import { createDaemon } from '../../../test/support/daemon.ts';
import { admission, commitAs, depthOf, ids, lastOf, notification, OTHER, TOPIC } from '../../../test/support/outbox.ts';
import { until } from '../../../test/support/process.ts';
import { openHouse } from '../../../test/support/rabbit-outbox.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { moveOutbox } from '../move.ts';
import { sqliteOutbox } from '../sqlite/sqlite.ts';

describe('moving an outbox', () => {
  let rabbit: RabbitServer;
  let folder: string;
  before(async () => {
    rabbit = await sharedRabbit();
    folder = await mkdtemp(path.join(tmpdir(), 'move-'));
  });
  after(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  it('moves the backlog and the positions from the file to RabbitMQ and back, in the order of each key', async () => {
    const file = sqliteOutbox({ file: path.join(folder, 'outbox.db') });
    const events = Array.from({ length: 300 }, (_, index) =>
      notification(`s/x/${index + 1}`, { orderKey: `key${index % 5}`, parameters: { Subject: `${index}` } }),
    );
    await commitAs(file, 's', 'x', 300, admission(...events));
    await file.commit(admission(notification('f1', { topic: OTHER })));
    await using house = await openHouse(rabbit.url(await rabbit.vhost()));
    const broker = await house.open();

    assert.deepEqual(await moveOutbox(file, broker, 0), { notifications: 301, sources: 1 });
    assert.deepEqual([depthOf(file), depthOf(file, OTHER)], [0, 0]);
    assert.equal(await lastOf(broker, 's', 'x'), 300);
    assert.deepEqual(await moveOutbox(file, broker, 0), { notifications: 0, sources: 1 });

    assert.deepEqual(await moveOutbox(broker, file, 500), { notifications: 301, sources: 1 });
    assert.equal(await lastOf(file, 's', 'x'), 300);
    await using topic = consume(file, TOPIC);
    const back = await topic.next(300);
    for (let key = 0; key < 5; key++) {
      const of = (all: readonly { orderKey: string; eventId: string }[]) =>
        ids(all.filter((each) => each.orderKey === `key${key}`));
      assert.deepEqual(of(back), of(events));
    }
    const { seq: _, ...first } = back.find(({ eventId }) => eventId === 's/x/1') ?? assert.fail('it is not there');
    assert.deepEqual(first, events[0]);
    await Promise.all([broker.close(), file.close()]);
  });

  it('outbox migrate refuses while a daemon uses either outbox', async () => {
    const vhost = await rabbit.vhost();
    await using house = await openHouse(rabbit.url(vhost));
    await using daemon = await createDaemon(
      { url: 'http://127.0.0.1:1', region: 'eu-west-1', accountId: '123456789012' },
      {
        outbox: `engine = "rabbitmq"\nurl = "${rabbit.url(vhost)}"\nprefix = "${house.prefix}"\npartitions = 2`,
        here: true,
      },
    );
    const migrate = (to: string) => daemon.command('outbox', 'migrate', '--to', to);
    const open = () => sqliteOutbox({ file: path.join(daemon.folder, 'outbox.db') });
    const events = Array.from({ length: 3 }, (_, index) => notification(`s/x/${index + 1}`));
    const before = open();
    await commitAs(before, 's', 'x', 3, admission(...events));
    const locked = await migrate('rabbitmq');
    assert.match(locked.output, /outbox\.db.*(in use|another)/s);
    assert.notEqual(locked.code, 0);
    await before.close();

    const elsewhere = await house.open({ daemon: 'elsewhere' });
    const running = await migrate('rabbitmq');
    assert.match(running.output, /1 daemon .*stop all of them/);
    assert.notEqual(running.code, 0);
    await elsewhere.close();

    const there = await migrate('rabbitmq');
    assert.match(there.output, /^moved 3 notifications and the positions of 1 epoch to rabbitmq; start .*"rabbitmq"/);
    const broker = await house.open();
    assert.equal(await lastOf(broker, 's', 'x'), 3);
    // How many a parcel holds shows only to the daemon that reads it.
    await until('a depth', () => depthOf(broker) > 0);
    await broker.close();

    const back = await migrate('sqlite');
    assert.match(back.output, /^moved 3 notifications and the positions of 1 epoch to sqlite; start .*"sqlite"/);
    const after = open();
    await using topic = consume(after, TOPIC);
    assert.deepEqual(ids(await topic.next(3)), ids(events));
    assert.equal(await lastOf(after, 's', 'x'), 3);
    await after.close();
  });
});
