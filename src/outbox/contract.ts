/** The suite that every outbox passes. It covers the port's promises, not those of a single implementation. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { consume } from '../../test/support/consumer.ts';
import {
  admission,
  commitAs,
  depthOf,
  ids,
  lastOf,
  letter,
  notification,
  numbered,
  OTHER,
  TOPIC,
} from '../../test/support/outbox.ts';
import { until } from '../../test/support/process.ts';
import type { PusherError } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import { orderContract } from './order-contract.ts';
import { costOf, type Outbox, type Stored } from './outbox.ts';
import { sourcesContract } from './sources-contract.ts';

/** One implementation under test. */
export interface OutboxUnderTest {
  /** Opens it: empty the first time in a test, then with its previous content. */
  open(options?: { maxBytes?: number; now?: () => number }): Promise<Outbox>;
  /** Deletes everything after a test. */
  dispose(): Promise<void>;
}

export interface Promises {
  /** Whether commits survive a close and reopening. */
  readonly durable: boolean;
  /** Number of random runs for the property. */
  readonly runs?: number;
}

/** The outbox of the running test. */
export interface OutboxBench {
  readonly outbox: Outbox;
  /** Closes it and opens it again with its content. */
  reopen(options?: Parameters<OutboxUnderTest['open']>[0]): Promise<void>;
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

    async function reopen(options?: Parameters<OutboxUnderTest['open']>[0]): Promise<void> {
      await outbox.close();
      outbox = await under.open(options);
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

    sourcesContract(
      {
        get outbox() {
          return outbox;
        },
        reopen,
      },
      promises.durable,
    );

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
      const kept = (await lastOf(outbox, 's', 'x')) ?? 0;
      await until('its depth', () => depthOf(outbox) === kept);
      await using topic = consume(outbox, TOPIC);
      await topic.settle(...(await topic.next(kept)));
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
      await until('its depth', () => depthOf(outbox) === 2);
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

    orderContract(make, promises);
  });
}
