import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Consumer, consume } from '../../../test/support/consumer.ts';
import { openGate } from '../../../test/support/gate.ts';
import {
  admission,
  commitAs,
  depthOf,
  ids,
  lastOf,
  letter,
  notification,
  numbered,
  TOPIC,
} from '../../../test/support/outbox.ts';
import { until } from '../../../test/support/process.ts';
import { openHouse } from '../../../test/support/rabbit-outbox.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { closeConnection, connectOnce, openChannel } from '../../rabbitmq/connection.ts';
import type { Outbox, Stored } from '../outbox.ts';
import { namesOf } from './names.ts';
import { END } from './parcel.ts';

/** How many of the topic's partitions each daemon works on, in the order of the given ones. */
function shares(...outboxes: readonly Outbox[]): number[] {
  return outboxes.map((outbox) => {
    const { partitions = [], daemons = [] } = outbox.health().shared ?? {};
    const self = daemons.find((daemon) => daemon.self)?.id;
    return partitions.filter(({ daemon }) => daemon === self).length;
  });
}

/** One for each of many keys. */
const ofKeys = (name: string, count: number) =>
  Array.from({ length: count }, (_, index) => notification(`${name}${index}`, { orderKey: `key${index}` }));

/** Fails if a key's notification, named `round.key`, came after one of a later round. */
function assertInOrder(handed: readonly string[]): void {
  const last = new Map<string, number>();
  for (const id of handed) {
    const [round = '', key = ''] = id.split('.');
    assert.ok(Number(round) > (last.get(key) ?? -1), `${id} after ${last.get(key)}`);
    last.set(key, Number(round));
  }
}

describe('several daemons on RabbitMQ', () => {
  let rabbit: RabbitServer;
  let vhost: string;
  before(async () => {
    rabbit = await sharedRabbit();
    vhost = await rabbit.vhost();
  });

  it('daemons spread the partitions evenly as they start and stop', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 6 });
    const a = await house.open({ daemon: 'a' });
    await a.commit(admission(...ofKeys('e', 10)));
    await using _a = consume(a, TOPIC);
    await until('the first to have all', () => shares(a)[0] === 6);
    const b = await house.open({ daemon: 'b' });
    await using _b = consume(b, TOPIC);
    const c = await house.open({ daemon: 'c' });
    await using _c = consume(c, TOPIC);
    await until('each to have two', () => shares(a, b, c).join() === '2,2,2', 30_000);
    const owners = (outbox: Outbox) => outbox.health().shared?.partitions.map(({ daemon }) => daemon);
    await until('each to know who has which', () => new Set([a, b, c].map((each) => `${owners(each)}`)).size === 1);
    await c.close();
    await until('the others to have three', () => shares(a, b).join() === '3,3', 30_000);
    await Promise.all([a.close(), b.close()]);
  });

  it('each notification is sent once and in order while daemons join and leave', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 6 });
    const handed: string[] = [];
    const settling: Promise<void>[] = [];
    /** A daemon that settles whatever it is handed. */
    const start = async (daemon: string) => {
      const outbox = await house.open({ daemon });
      const take = (notifications: readonly Stored[]) => {
        handed.push(...ids(notifications));
        settling.push(backlog.settle(notifications.map((each) => ({ notification: each }))));
      };
      const backlog = outbox.backlog(TOPIC, take);
      backlog.request(1_000_000);
      return outbox;
    };
    const first = await start('a');
    let stopped = false;
    let rounds = 0;
    const load = (async () => {
      for (; !stopped; rounds++) await first.commit(admission(...ofKeys(`${rounds}.`, 20)));
    })();
    const second = await start('b');
    await until('the second to have its share', () => shares(second)[0] === 3, 30_000);
    await second.close();
    const third = await start('c');
    await until('the third to have its share', () => shares(third)[0] === 3, 30_000);
    stopped = true;
    await load;
    await until('everything to be handed out', () => handed.length >= rounds * 20);
    await Promise.all(settling);
    assert.equal(new Set(handed).size, rounds * 20);
    assert.equal(handed.length, rounds * 20);
    assertInOrder(handed);
    await Promise.all([first.close(), third.close()]);
  });

  it('a partly settled partition is handed over with only the rest', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const a = await house.open({ daemon: 'a' });
    await a.commit(admission(...ofKeys('e', 10)));
    const before = consume(a, TOPIC);
    const taken = await before.next(10);
    await before.settle(...(taken.slice(0, 4) as Stored[]));
    const b = await house.open({ daemon: 'b' });
    await using next = consume(b, TOPIC);
    await before.close();
    await a.close();
    assert.deepEqual(ids(await next.next(6)), ids(taken.slice(4)));
    await until('its depth', () => depthOf(b) === 6);
    await next.settle(...next.held);
    await b.close();
  });

  it('waiting notifications are recalled when another daemon takes a partition', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 2 });
    const a = await house.open({ daemon: 'a' });
    const recalled: number[] = [];
    const held: Stored[] = [];
    const backlog = a.backlog(
      TOPIC,
      (notifications) => void held.push(...notifications),
      (seqs) => {
        recalled.push(...seqs);
        return [...seqs];
      },
    );
    backlog.request(1_000);
    await a.commit(admission(...ofKeys('e', 20)));
    await until('all of it', () => held.length === 20);
    const b = await house.open({ daemon: 'b' });
    await using other: Consumer = consume(b, TOPIC);
    await until('some to be recalled', () => recalled.length > 0);
    const there = ids(held.filter(({ seq }) => recalled.includes(seq)));
    assert.deepEqual(ids(await other.next(recalled.length)).toSorted(), there.toSorted());
    await backlog.close();
    await Promise.all([a.close(), b.close()]);
  });

  it("a dead daemon's notifications are taken over in order", async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 2, silentMs: 1_500 });
    const a = await house.open({ daemon: 'a' });
    const b = await house.open({ daemon: 'b' });
    await a.commit(admission(...ofKeys('e', 20)));
    await using _a = consume(a, TOPIC);
    await using survivor = consume(b, TOPIC);
    await until('each to have one', () => shares(a, b).join() === '1,1', 30_000);
    // Its connection ends as with the process, and it does not come back.
    await rabbit.nodes[0]?.evaluate('rabbit_networking:close_all_connections("of the test").');
    await a.close();
    await until('the other to have both', () => shares(b)[0] === 2, 30_000);
    await until('all of it', () => new Set(ids(survivor.held)).size === 20);
    await b.close();
  });

  it('daemons that lost their connections go on with their partitions, and repeat nothing', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 2, silentMs: 60_000 });
    let shut = false;
    await using gate = await openGate(rabbit.nodes[0]?.port ?? 0, () => shut);
    const a = await house.open({ daemon: 'a' });
    const detour = new URL(rabbit.url(vhost));
    detour.port = String(gate.port);
    const b = await house.open({ daemon: 'b', urls: [detour.href] });
    await a.commit(admission(notification('first')));
    await using mine = consume(a, TOPIC);
    await using theirs = consume(b, TOPIC);
    await until('it', () => mine.held.length + theirs.held.length === 1);
    for (const each of [mine, theirs]) await each.settle(...(await each.rest()));
    await until('each to have one', () => shares(a, b).join() === '1,1', 30_000);
    await a.commit(admission(...ofKeys('e', 20)));
    await until('all of it', () => new Set(ids([...mine.held, ...theirs.held])).size === 20);
    const before = ids(theirs.held);
    await theirs.settle(...theirs.held.slice(0, 3));
    shut = true;
    await rabbit.nodes[0]?.evaluate('rabbit_networking:close_all_connections("of the test").');
    await until('a lost connection', () => b.fault !== undefined);
    await until('the first to be back', () => a.fault === undefined);
    // Time in which it could take the other one's partition.
    await sleep(500);
    shut = false;
    gate.update();
    await until('the other to be back', () => b.fault === undefined);
    await theirs.settle(...theirs.held.slice(3));
    await mine.settle(...mine.held);
    await until('nothing to be left', () => depthOf(a) + depthOf(b) === 0);
    assert.deepEqual(ids(theirs.held), before);
    assert.equal(mine.held.length, 20 - before.length);
    await Promise.all([a.close(), b.close()]);
  });

  it('the notifications of a daemon that is cut off go to another one, and it goes on when it is let in', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 2, silentMs: 1_500 });
    let shut = false;
    await using gate = await openGate(rabbit.nodes[0]?.port ?? 0, () => shut);
    const a = await house.open({ daemon: 'a' });
    const detour = new URL(rabbit.url(vhost));
    detour.port = String(gate.port);
    // RabbitMQ gives a silent connection up after two to three seconds then.
    detour.searchParams.set('heartbeat', '1');
    const b = await house.open({ daemon: 'b', urls: [detour.href] });
    await a.commit(admission(...ofKeys('e', 20)));
    await using mine = consume(a, TOPIC);
    await using theirs = consume(b, TOPIC);
    await until('each to have one', () => shares(a, b).join() === '1,1', 30_000);
    shut = true;
    gate.update();
    await until('all of it at the other one', () => new Set(ids(mine.held)).size === 20);
    await until('the loss', () => b.fault !== undefined);
    shut = false;
    gate.update();
    await until('it to be back', () => b.fault === undefined);
    await mine.settle(...mine.held);
    await until('each to have one', () => shares(a, b).join() === '1,1', 30_000);
    await b.commit(admission(...ofKeys('f', 20)));
    const ofLast = () => ids([...mine.held, ...theirs.held]).filter((id) => id.startsWith('f'));
    await until('what comes then', () => new Set(ofLast()).size === 20);
    assert.equal(ofLast().length, 20);
    await Promise.all([a.close(), b.close()]);
  });

  it('a source can switch daemons with every batch', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const outboxes = [await house.open({ daemon: 'a' }), await house.open({ daemon: 'b' })] as const;
    for (let n = 1; n <= 6; n++) {
      const outbox = outboxes[n % 2] as Outbox;
      assert.equal(await lastOf(outbox, 's', 'x'), n === 1 ? undefined : (n - 1) * 10);
      await commitAs(outbox, 's', 'x', n * 10, admission(notification(`s/x/${n * 10}`)), n === 4 ? 2 : 0);
    }
    assert.deepEqual(
      (await outboxes[1].sources.list(10)).map(({ source, missing }) => [source, missing]),
      [['s', 2]],
    );
    await until('both to know of the hole', () => outboxes.every((each) => each.health().holes.length === 1));
    assert.equal(await outboxes[1].sources.acknowledge(), 1);
    await until('both to forget it', () => outboxes.every((each) => each.health().holes.length === 0));
    await Promise.all(outboxes.map((each) => each.close()));
  });

  it('after a change of their number the former partitions are emptied first, in the order of each key', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 3 });
    const before = await house.open();
    for (let round = 0; round < 3; round++) await before.commit(admission(...ofKeys(`${round}.`, 12)));
    await before.close();
    const a = await house.open({ partitions: 2 });
    const b = await house.open({ partitions: 2, daemon: 'b' });
    for (let round = 3; round < 5; round++) await a.commit(admission(...ofKeys(`${round}.`, 12)));
    const handed: string[] = [];
    const backlogs = [a, b].map((outbox) => {
      const backlog = outbox.backlog(TOPIC, (notifications) => {
        handed.push(...ids(notifications));
        void backlog.settle(notifications.map((each) => ({ notification: each })));
      });
      backlog.request(1_000_000);
      return backlog;
    });
    await until('all of it', () => handed.length >= 60);
    assert.equal(new Set(handed).size, 60);
    assertInOrder(handed);
    await until('the former ones to be gone', () => a.health().shared?.partitions.length === 2);
    const c = await house.open({ partitions: 3, daemon: 'c', connected: false });
    await until('both sides to refuse', () =>
      [a, c].every(({ fault }) => /outbox.partitions = /.test(fault?.message ?? '')),
    );
    await c.close();
    await until('the others to go on', () => a.fault === undefined && b.fault === undefined);
    await Promise.all(backlogs.map((backlog) => backlog.close()));
    await Promise.all([a.close(), b.close()]);
  });

  it('the former partitions are deleted also if their end marker is lost', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const before = await house.open();
    await before.commit(admission(notification('e1')));
    await before.close();
    const outbox = await house.open({ partitions: 2 });
    await outbox.commit(admission(notification('e2')));
    // As a daemon does that gets it before the directory has the new number.
    const connection = await connectOnce(rabbit.url(vhost));
    const channel = await openChannel(connection);
    const taken = Promise.withResolvers<void>();
    await channel.consume(namesOf(house.prefix).partition(TOPIC, 1, 0), (message) => {
      if (message?.content.toString() !== END) return;
      channel.ack(message);
      taken.resolve();
    });
    await taken.promise;
    // The broker handles the acknowledgement before it answers.
    await channel.close();
    await closeConnection(connection);
    await using topic = consume(outbox, TOPIC);
    for (const id of ['e1', 'e2']) {
      const [next] = (await topic.next(1)) as [Stored];
      assert.equal(next.eventId, id);
      await topic.settle(next);
    }
    await outbox.close();
  });

  it('keeps large parcels in memory up to a limit, counts the others, and hands out all in order', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1, mostBytes: 1_000_000 });
    const outbox = await house.open();
    const large = numbered(1, 30, { message: 'x'.repeat(240_000), bytes: 240_000 });
    for (const each of large) await outbox.commit(admission(each));
    await using topic = consume(outbox, TOPIC);
    const first = await topic.next(4);
    await until('the depth to be right', () => depthOf(outbox) === 30);
    assert.deepEqual(await topic.rest(), []);
    await topic.settle(...first);
    const handed = [...first];
    while (handed.length < 30) {
      const next = await topic.next(1);
      handed.push(...next);
      await topic.settle(...next);
    }
    assert.deepEqual(ids(handed), ids(large));
    await until('all to be gone', () => depthOf(outbox) === 0);
    assert.deepEqual(await topic.rest(), []);
    await outbox.close();
  });

  it('keeps the order if one daemon after the other stops before it sent anything', async () => {
    await using house = await openHouse(rabbit.url(vhost), { partitions: 1 });
    const all = numbered(1, 40);
    const writer = await house.open();
    for (const each of all) await writer.commit(admission(each));
    await writer.close();
    for (const daemon of ['b', 'c', 'd']) {
      const outbox = await house.open({ daemon });
      const topic = consume(outbox, TOPIC);
      assert.deepEqual(ids(await topic.next(10)), ids(all.slice(0, 10)));
      await topic.close();
      await outbox.close();
    }
    const last = await house.open({ daemon: 'e' });
    await using topic = consume(last, TOPIC);
    const handed: Stored[] = [];
    while (handed.length < 40) {
      const next = await topic.next(1);
      handed.push(...next);
      await topic.settle(...next);
    }
    assert.deepEqual(ids(handed), ids(all));
    await last.close();
  });

  it('a repeated batch without a stored position adds no duplicates', async () => {
    await using house = await openHouse(rabbit.url(vhost));
    const a = await house.open({ daemon: 'a' });
    await using topic = consume(a, TOPIC);
    const batch = (from: number) =>
      admission(...[0, 1, 2].map((index) => notification(`s/x/${from + index}`, { orderKey: `k${index}` })));
    await commitAs(a, 's', 'x', 3, batch(1));
    await commitAs(a, 's', 'x', 6, batch(4));
    await topic.next(6);
    // As another daemon would that read the position before it was moved.
    await commitAs(a, 's', 'x', 6, batch(4));
    await a.commit({ ...admission(notification('s/x/5')), deadLetters: [letter('d')] });
    // A replay has the number that it had, and is none.
    assert.deepEqual(ids(await topic.next(1)), ['s/x/5']);
    await until('the repetitions to be gone', () => depthOf(a) === 7);
    await a.close();
  });
});
