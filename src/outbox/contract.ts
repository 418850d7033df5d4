/** The suite that every outbox passes. It covers the port's promises, not those of a single implementation. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { type Consumer, consume, turns } from '../../test/support/consumer.ts';
import { until } from '../../test/support/process.ts';
import type { PusherError } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import type { NewDeadLetter } from './dead-letters.ts';
import type { Admission, Outbox, Stored } from './outbox.ts';
import { costOf } from './outbox.ts';

/** One implementation under test. */
export interface OutboxUnderTest {
  /** Opens it: empty the first time in a test, then with its previous content. */
  open(options?: { maxBytes?: number; now?: () => number }): Promise<Outbox>;
  /** Deletes everything after a test. */
  dispose(): Promise<void>;
}

interface Promises {
  /** Whether commits survive a close and reopening. */
  readonly durable: boolean;
  /** Number of random runs for the property. */
  readonly runs?: number;
}

export const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:a';
export const OTHER = 'arn:aws:sns:eu-west-1:123456789012:b';

/** A notification with as many bytes as it states. */
export const notification = (eventId: string, fields: Partial<Notification> = {}): Notification => ({
  eventId,
  topic: TOPIC,
  orderKey: 'alice@localhost',
  at: 1_763_820_191_120,
  message: `{"event":"${eventId}"}`,
  attributes: [],
  bytes: 100,
  ...fields,
});

/** Notifications with the ids `e<from>` and so on. */
export const numbered = (from: number, count: number, fields: Partial<Notification> = {}): Notification[] =>
  Array.from({ length: count }, (_, index) => notification(`e${from + index}`, fields));

export const admission = (...notifications: Notification[]): Admission => ({ notifications, deadLetters: [] });

export const letter = (eventId: string, fields: Partial<NewDeadLetter> = {}): NewDeadLetter => ({
  eventId,
  topic: undefined,
  reason: 'malformed',
  detail: 'at: should not be negative',
  attempts: 0,
  content: { kind: 'raw', event: { kind: 'presence' } },
  ...fields,
});

export const ids = (rows: readonly Pick<Notification, 'eventId'>[]): string[] => rows.map(({ eventId }) => eventId);

export const depthOf = (outbox: Outbox, topic = TOPIC): number =>
  outbox.health().topics.find((each) => each.topic === topic)?.depth ?? 0;

/** Commits a batch of a source with numbered events. */
export async function commitAs(
  outbox: Outbox,
  source: string,
  epoch: string,
  last: number,
  what: Admission,
  missing = 0,
) {
  const cursor = await outbox.source(source, epoch);
  try {
    await cursor.commit(what, { last, missing });
  } finally {
    cursor.release();
  }
}

/** The last number heard of a source's epoch. */
export async function lastOf(outbox: Outbox, source: string, epoch: string): Promise<number | undefined> {
  const cursor = await outbox.source(source, epoch);
  const { last } = cursor;
  cursor.release();
  return last;
}

const strip = ({ seq: _, ...rest }: Stored): Notification => rest;

export function outboxContract(name: string, make: () => Promise<OutboxUnderTest>, promises: Promises): void {
  describe(`${name}, as any outbox`, () => {
    let under: OutboxUnderTest;
    let outbox: Outbox;
    beforeEach(async () => {
      under = await make();
      outbox = await under.open();
    });
    afterEach(async () => {
      await outbox.close();
      await under.dispose();
    });

    async function reopen(): Promise<void> {
      await outbox.close();
      outbox = await under.open();
    }

    it('returns commits whole, once, in order, and separately for each topic', async () => {
      const attributes = [
        { name: 'n', type: 'Number', value: '1' },
        { name: 'b', type: 'Binary', value: 'AAE=' },
      ] as const;
      const first = notification('e1', { attributes, message: '{"message":"👩‍👩‍👧‍👦 \\u0000"}' });
      await using topic = consume(outbox, TOPIC);
      await using other = consume(outbox, OTHER);
      await outbox.commit(admission(first, notification('e2'), notification('f1', { topic: OTHER })));
      await outbox.commit(admission(notification('e3')));
      const taken = await topic.next(3);
      assert.deepEqual(taken.map(strip), [first, notification('e2'), notification('e3')]);
      assert.ok(taken.every(({ seq }, index) => index === 0 || seq > (taken[index - 1] as Stored).seq));
      assert.deepEqual(ids(await other.next(1)), ['f1']);
      assert.deepEqual([await topic.rest(), await other.rest()], [[], []]);
    });

    it('returns notifications committed before the backlog was opened', async () => {
      await outbox.commit(admission(...numbered(1, 3)));
      await using topic = consume(outbox, TOPIC);
      await outbox.commit(admission(notification('e4')));
      assert.deepEqual(ids(await topic.next(4)), ['e1', 'e2', 'e3', 'e4']);
    });

    it('returns the unsettled ones of the last consumer to the next one, before newer ones', async () => {
      await outbox.commit(admission(...numbered(1, 5)));
      const before = consume(outbox, TOPIC);
      const [one, two] = (await before.next(3)) as [Stored, Stored, Stored];
      await before.settle(two);
      await before.close();
      await outbox.commit(admission(notification('e6')));
      await using topic = consume(outbox, TOPIC);
      const again = await topic.next(5);
      assert.deepEqual(ids(again), ['e1', 'e3', 'e4', 'e5', 'e6']);
      assert.deepEqual(strip(again[0] as Stored), strip(one));
      assert.deepEqual(await topic.rest(), []);
    });

    it('allows one open backlog for each topic', async () => {
      await using _ = consume(outbox, TOPIC);
      assert.throws(() => outbox.backlog(TOPIC, () => undefined), /is open already/);
    });

    it('returns no more than the credit, and the rest with more credit', async () => {
      await using topic = consume(outbox, TOPIC, 2);
      await outbox.commit(admission(...numbered(1, 5)));
      assert.deepEqual(ids(await topic.next(2)), ['e1', 'e2']);
      assert.deepEqual(await topic.rest(), []);
      topic.backlog.request(1);
      assert.deepEqual(ids(await topic.next(1)), ['e3']);
      topic.backlog.request(10);
      assert.deepEqual(ids(await topic.next(2)), ['e4', 'e5']);
    });

    it('a large notification takes credit for its memory', async () => {
      const bytes = 250_000;
      await using topic = consume(outbox, TOPIC, costOf(bytes) + 1);
      await outbox.commit(admission(...numbered(1, 5, { bytes })));
      assert.deepEqual(ids(await topic.next(2)), ['e1', 'e2']);
      assert.deepEqual(await topic.rest(), []);
      topic.backlog.request(2 * costOf(bytes));
      assert.deepEqual(ids(await topic.next(1)), ['e3']);
    });

    it('returns everything once and in order to a slow consumer during commits', async () => {
      await outbox.commit(admission(...numbered(1, 500)));
      await using topic = consume(outbox, TOPIC, 0);
      const all: Stored[] = [];
      for (let next = 501; next <= 530; next++) {
        topic.backlog.request(20);
        await outbox.commit(admission(notification(`e${next}`)));
        all.push(...(await topic.rest()));
      }
      topic.backlog.request(1_000);
      all.push(...(await topic.next(530 - all.length)));
      assert.deepEqual(ids(all), ids(numbered(1, 530)));
      await outbox.commit(admission(notification('last')));
      assert.deepEqual(ids(await topic.next(1)), ['last']);
    });

    it('loads unsettled bodies by number, in order', async () => {
      await outbox.commit(admission(...numbered(1, 4)));
      await using topic = consume(outbox, TOPIC);
      const [one, two, three, four] = (await topic.next(4)) as [Stored, Stored, Stored, Stored];
      await topic.settle(two);
      assert.deepEqual(await topic.backlog.load([four.seq, two.seq, one.seq]), [one, four]);
      assert.deepEqual(await topic.backlog.load([three.seq]), [three]);
    });

    it('moves notifications that the sink never accepts to the dead letters', async () => {
      await outbox.commit(admission(...numbered(1, 2)));
      await using topic = consume(outbox, TOPIC);
      const [one] = (await topic.next(2)) as [Stored, Stored];
      const dead = { reason: 'InvalidParameter', detail: 'HTTP 400: Invalid parameter', attempts: 3 };
      await topic.backlog.settle([{ notification: one, dead }]);
      await until('it to be counted', () => depthOf(outbox) === 1 && outbox.health().deadLetters === 1);
      const [found] = await outbox.deadLetters.find({}, 10);
      const { id: _, diedAt: __, ...rest } = found ?? assert.fail('no dead letter');
      const content = { kind: 'notification', notification: strip(one) };
      assert.deepEqual(rest, { eventId: 'e1', topic: TOPIC, ...dead, replayRequested: false, content });
    });

    it('counts a notification settled twice once', async () => {
      await outbox.commit(admission(...numbered(1, 2)));
      await using topic = consume(outbox, TOPIC);
      const [one] = (await topic.next(2)) as [Stored, Stored];
      await topic.settle(one);
      const dead = { reason: 'x', detail: 'late', attempts: 1 };
      await topic.backlog.settle([{ notification: one, dead }]);
      await until('it to be counted', () => depthOf(outbox) === 1);
      assert.equal(outbox.health().deadLetters, 0);
    });

    it('knows the position of each source and epoch, and none of others', async () => {
      assert.equal(await lastOf(outbox, 's', 'x'), undefined);
      await commitAs(outbox, 's', 'x', 7, admission(notification('e1')));
      assert.equal(await lastOf(outbox, 's', 'x'), 7);
      // Events without a notification move it too.
      await commitAs(outbox, 's', 'x', 12, admission(), 3);
      await commitAs(outbox, 's', 'y', 4, admission());
      assert.deepEqual([await lastOf(outbox, 's', 'x'), await lastOf(outbox, 's', 'y')], [12, 4]);
      assert.equal(await lastOf(outbox, 's2', 'x'), undefined);
    });

    it("keeps each source's holes with range and time until acknowledged", async () => {
      let now = 1_000;
      await outbox.close();
      outbox = await under.open({ now: () => now });
      await commitAs(outbox, 's', 'x', 7, admission());
      await commitAs(outbox, 's', 'x', 12, admission(), 3);
      now = 2_000;
      await commitAs(outbox, 't', 'y', 4, admission());
      await commitAs(outbox, 't', 'y', 9, admission(), 1);
      const told = () =>
        outbox
          .health()
          .holes.map(({ source, epoch, first, last, missing, at }) => [source, epoch, first, last, missing, at]);
      const [ofT, ofS] = [
        ['t', 'y', 5, 5, 1, 2_000],
        ['s', 'x', 8, 10, 3, 1_000],
      ];
      assert.deepEqual(told(), [ofT, ofS]);
      if (promises.durable) {
        await reopen();
        assert.deepEqual(told(), [ofT, ofS]);
      }
      assert.deepEqual(await outbox.sources.holes(), outbox.health().holes);
      assert.equal(await outbox.sources.acknowledge('s'), 1);
      assert.deepEqual(told(), [ofT]);
      assert.equal(await outbox.sources.acknowledge(), 1);
      assert.deepEqual(told(), []);
      const sums = (await outbox.sources.list(10)).map(({ source, holes, missing }) => [source, holes, missing]);
      assert.deepEqual(sums.toSorted(), [
        ['s', 1, 3],
        ['t', 1, 1],
      ]);
    });

    it('forgets a retired source with its positions and holes', async () => {
      for (const epoch of ['x', 'y']) await commitAs(outbox, 's', epoch, 7, admission());
      await commitAs(outbox, 's', 'x', 12, admission(), 3);
      await commitAs(outbox, 'other', 'x', 1, admission());
      assert.equal(await outbox.sources.retire('s'), true);
      assert.equal(await outbox.sources.retire('s'), false);
      assert.equal(await lastOf(outbox, 's', 'x'), undefined);
      const { sources, holes } = outbox.health();
      assert.deepEqual([sources.map(({ source }) => source), holes], [['other'], []]);
      if (promises.durable) await reopen();
      assert.equal(await lastOf(outbox, 's', 'y'), undefined);
      assert.equal(await lastOf(outbox, 'other', 'x'), 1);
    });

    it("knows the time of an epoch's newest event", async () => {
      const newest = async () => {
        const cursor = await outbox.source('s', 'x');
        cursor.release();
        return cursor.newestAt;
      };
      const commit = async (last: number, newestAt?: number) => {
        const cursor = await outbox.source('s', 'x');
        await cursor.commit(admission(), { last, missing: 0, newestAt });
        cursor.release();
      };
      assert.equal(await newest(), undefined);
      await commit(1, 5_000);
      await commit(2, 4_000);
      await commit(3);
      assert.equal(await newest(), 5_000);
      if (promises.durable) await reopen();
      assert.equal(await newest(), 5_000);
    });

    it('gives a position to one holder at a time, in the order of requests', async () => {
      const first = await outbox.source('s', 'x');
      const order: string[] = [];
      const waiting = [1, 2].map(async (n) => {
        const cursor = await outbox.source('s', 'x');
        order.push(`${n} sees ${cursor.last}`);
        await cursor.commit(admission(), { last: n * 10, missing: 0 });
        cursor.release();
      });
      const elsewhere = await outbox.source('s', 'y');
      elsewhere.release();
      await turns();
      assert.deepEqual(order, []);
      await first.commit(admission(), { last: 5, missing: 0 });
      first.release();
      await Promise.all(waiting);
      assert.deepEqual(order, ['1 sees 5', '2 sees 10']);
    });

    it('asks for a consumer if a topic without one gets notifications', async () => {
      const called: string[] = [];
      const stop = outbox.onTopic((topic) => void called.push(topic));
      const topic = consume(outbox, TOPIC);
      await outbox.commit(admission(notification('e1'), notification('f1', { topic: OTHER })));
      await topic.next(1);
      assert.deepEqual(called, [OTHER]);
      assert.deepEqual([...outbox.topics()].toSorted(), [TOPIC, OTHER]);
      await topic.close();
      await outbox.commit({ ...admission(), deadLetters: [letter('d')] });
      assert.deepEqual(called, [OTHER]);
      await outbox.commit(admission(notification('e2')));
      await until('the call', () => called.includes(TOPIC));
      stop();
      await outbox.commit(admission(notification('e3')));
      assert.deepEqual(called, [OTHER, TOPIC]);
    });

    it('replaces a replayed dead letter by the result', async () => {
      await outbox.commit({ ...admission(), deadLetters: [letter('d1'), letter('d2')] });
      const [first] = await outbox.deadLetters.find({}, 1);
      await outbox.commit({ ...admission(notification('d1')), replaces: [first?.id ?? 0] });
      assert.deepEqual(ids(await outbox.deadLetters.find({}, 10)), ['d2']);
      await using topic = consume(outbox, TOPIC);
      assert.deepEqual(ids(await topic.next(1)), ['d1']);
    });

    it('refuses a commit without room, keeps none of it, and accepts more after settlements', async () => {
      await outbox.close();
      outbox = await under.open({ maxBytes: 300_000 });
      const body = { message: 'x'.repeat(20_000), bytes: 20_000 };
      let refused: PusherError | undefined;
      for (let n = 1; !refused && n < 1_000; n++)
        await commitAs(outbox, 's', 'x', n, admission(notification('fill', body))).catch((error: PusherError) => {
          refused = error;
        });
      assert.equal(refused?.code, 'OUTBOX_FULL');
      const depth = depthOf(outbox);
      assert.equal(await lastOf(outbox, 's', 'x'), depth);
      await using topic = consume(outbox, TOPIC);
      await topic.settle(...(await topic.next(depth)));
      await until('room', () =>
        outbox.commit(admission(notification('again room'))).then(
          () => true,
          () => false,
        ),
      );
      assert.deepEqual(ids(await topic.next(1)), ['again room']);
    });

    it("reports its size and its oldest notification's age", async () => {
      let now = 1_000;
      await outbox.close();
      outbox = await under.open({ now: () => now });
      assert.equal(outbox.health().oldestAt, undefined);
      await outbox.commit(admission(notification('e1')));
      now = 2_000;
      await outbox.commit(admission(notification('e2')));
      await until('it to be known', () => outbox.health().oldestAt === 1_000);
      assert.equal(depthOf(outbox), 2);
      await using topic = consume(outbox, TOPIC);
      const [one, two] = (await topic.next(2)) as [Stored, Stored];
      await topic.settle(one);
      await until('it to be known', () => outbox.health().oldestAt === 2_000);
      await topic.settle(two);
      await until('it to be known', () => outbox.health().oldestAt === undefined);
      const { bytes, maxBytes, fault } = outbox.health();
      assert.ok(bytes <= maxBytes);
      assert.equal(fault, undefined);
    });

    it('refuses calls after its close, and ignores settlements', async () => {
      await outbox.commit(admission(notification('e1')));
      const topic = consume(outbox, TOPIC);
      const [one] = (await topic.next(1)) as [Stored];
      await topic.close();
      await outbox.close();
      await assert.rejects(outbox.commit(admission(notification('late'))), { code: 'OUTBOX_CLOSED' });
      await topic.settle(one);
      await outbox.close();
      assert.equal(typeof outbox.health().bytes, 'number');
      assert.deepEqual(depthOf(outbox), 1);
    });

    for (const maxBytes of [0, -1, Number.NaN])
      it(`refuses to open with ${maxBytes} bytes`, async () => {
        await outbox.close();
        await assert.rejects(() => under.open({ maxBytes }), { code: 'CONFIG_INVALID' });
      });

    if (promises.durable) {
      it('a new opening has the unsettled notifications whole and in order, positions and dead letters', async () => {
        const attributes = [{ name: 'n', type: 'String.Array', value: '["a"]' }] as const;
        const parameters = { Subject: 'ü', MessageGroupId: 'tea' };
        const names = ['Alice@Localhost/Phone "1"', 'bücher@localhost', 'm\n1'];
        await commitAs(outbox, 's', 'x', 5, admission(...numbered(1, 5, { attributes, parameters, names })));
        await outbox.commit({ ...admission(), deadLetters: [letter('d1')] });
        const before = consume(outbox, TOPIC);
        const [one, , three] = (await before.next(3)) as [Stored, Stored, Stored];
        await before.settle(one, three);
        await before.close();
        await reopen();
        await until('its depth', () => depthOf(outbox) === 3);
        assert.equal(await lastOf(outbox, 's', 'x'), 5);
        assert.deepEqual(ids(await outbox.deadLetters.find({}, 10)), ['d1']);
        await using topic = consume(outbox, TOPIC);
        assert.deepEqual(
          (await topic.next(3)).map(strip),
          ['e2', 'e4', 'e5'].map((id) => notification(id, { attributes, parameters, names })),
        );
        const others = [notification('e6', { parameters }), notification('e7', { names })];
        await outbox.commit(admission(...others));
        assert.deepEqual((await topic.next(2)).map(strip), others);
      });

      it('writes pending data at the close', async () => {
        const pending = outbox.commit(admission(...numbered(1, 2)));
        await outbox.close();
        await pending;
        outbox = await under.open();
        await using topic = consume(outbox, TOPIC);
        assert.deepEqual(ids(await topic.next(2)), ['e1', 'e2']);
      });
    }

    it('loses nothing, returns nothing settled, and keeps the order of each key under any operations (property)', async () => {
      const step = fc.oneof(
        {
          weight: 4,
          arbitrary: fc.record({
            kind: fc.constant('commit' as const),
            keys: fc.array(fc.nat(3), { minLength: 1, maxLength: 6 }),
          }),
        },
        {
          weight: 3,
          arbitrary: fc.record({ kind: fc.constant('request' as const), credit: fc.integer({ min: 1, max: 5 }) }),
        },
        {
          weight: 3,
          arbitrary: fc.record({
            kind: fc.constant('settle' as const),
            share: fc.double({ min: 0, max: 1, noNaN: true }),
          }),
        },
        { weight: 1, arbitrary: fc.constant({ kind: 'consumer' as const }) },
        ...(promises.durable ? [{ weight: 1, arbitrary: fc.constant({ kind: 'open' as const }) }] : []),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
          const fresh = await make();
          let box = await fresh.open();
          let consumer: Consumer = consume(box, TOPIC, 0);
          let committed = 0;
          const settled: string[] = [];
          let handed: Stored[] = [];
          const collect = async () => {
            await turns(5);
            handed.push(...consumer.held.slice(handed.length));
          };
          for (const each of steps) {
            if (each.kind === 'commit')
              await box.commit(
                admission(...each.keys.map((key) => notification(`${++committed}`, { orderKey: `${key}` }))),
              );
            else if (each.kind === 'request') consumer.backlog.request(each.credit);
            else if (each.kind === 'settle') {
              await collect();
              // A consumer settles one key's notifications in their order.
              const open = handed.filter(({ eventId }) => !settled.includes(eventId));
              const now = open.slice(0, Math.ceil(open.length * each.share));
              await consumer.settle(...now);
              settled.push(...ids(now));
            } else {
              await consumer.close();
              handed = [];
              if (each.kind === 'open') {
                await box.close();
                box = await fresh.open();
              }
              consumer = consume(box, TOPIC, 0);
            }
          }
          await consumer.close();
          consumer = consume(box, TOPIC);
          const left = await consumer.next(committed - settled.length);
          assert.deepEqual(await consumer.rest(), []);
          assert.deepEqual(new Set([...settled, ...ids(left)]).size, committed);
          const keys = new Set(left.map(({ orderKey }) => orderKey));
          for (const key of keys) {
            const order = left.filter(({ orderKey }) => orderKey === key).map(({ eventId }) => Number(eventId));
            assert.deepEqual(
              order,
              order.toSorted((a, b) => a - b),
            );
          }
          await consumer.close();
          await box.close();
          await fresh.dispose();
        }),
        { numRuns: promises.runs ?? 50 },
      );
    });
  });
}
