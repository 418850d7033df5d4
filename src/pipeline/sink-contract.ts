/** The suite that every sink passes. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Notification } from '../notification/notification.ts';
import type { Sink, SinkReceipt } from './sink.ts';

/** A sink under test. */
export interface SinkUnderTest {
  readonly sink: Sink;
  readonly topic: string;
  /** Whether it gives receipts. */
  readonly gives?: 'receipts';
  /** The messages that arrived, in order. */
  arrived(): readonly string[];
  /** Makes later requests fail; absent if the sink can't fail. */
  readonly fail?: (how: 'away' | 'denied' | 'refuses the third' | 'refuses all for the third') => void;
  dispose(): Promise<void>;
}

export function sinkContract(name: string, make: () => Promise<SinkUnderTest>): void {
  describe(`${name}, as any sink`, () => {
    let under: SinkUnderTest;
    beforeEach(async () => {
      under = await make();
    });
    afterEach(() => under.dispose());

    const notifications = (count: number): Notification[] =>
      Array.from({ length: count }, (_, n) => ({
        eventId: `s/x/${n + 1}`,
        topic: under.topic,
        orderKey: `user${n}@localhost`,
        at: 1,
        message: `{"n":${n + 1},"text":"<&>\\u0000 👩‍👩‍👧‍👦 +%"}`,
        attributes: [{ name: 'a', type: 'String', value: 'b c&d' }],
        bytes: 60,
      }));
    const messages = (list: readonly Notification[]) => list.map(({ message }) => message);

    it("reports a topic's limits for one request", () => {
      const { maxEntries, maxBytes } = under.sink.limits(under.topic);
      assert.ok(Number.isInteger(maxEntries) && maxEntries >= 1);
      assert.ok(Number.isInteger(maxBytes) && maxBytes >= 1_024);
    });

    it('accepts one notification, and as many as its limit, each unchanged', async () => {
      const { maxEntries } = under.sink.limits(under.topic);
      const [one] = notifications(1) as [Notification];
      assert.deepEqual(await under.sink.publish(under.topic, [one]), [undefined]);
      const many = notifications(maxEntries);
      assert.deepEqual(
        await under.sink.publish(under.topic, many),
        many.map(() => undefined),
      );
      assert.deepEqual(under.arrived(), messages([one, ...many]));
    });

    it('gives a receipt with ids for the accepted ones, if it gives any', async () => {
      const receipts: SinkReceipt[] = [];
      const entries = notifications(Math.min(3, under.sink.limits(under.topic).maxEntries));
      await under.sink.publish(under.topic, entries, (receipt) => receipts.push(receipt));
      for (const { messageIds } of receipts) {
        assert.equal(messageIds.length, entries.length);
        for (const id of messageIds) assert.ok(typeof id === 'string' && id !== '');
      }
      assert.equal(receipts.length, under.gives === 'receipts' ? 1 : 0);
    });

    it('gives a verdict with reason and advice for each refused one', async (t) => {
      if (!under.fail) return t.diagnostic('nothing can fail here');
      for (const [how, kind] of [
        ['away', 'retry'],
        ['denied', 'pause'],
      ] as const) {
        under.fail(how);
        const verdicts = await under.sink.publish(under.topic, notifications(2));
        assert.ok(verdicts !== 'split');
        for (const verdict of verdicts) {
          assert.equal(verdict?.kind, kind);
          for (const text of [verdict?.reason, verdict?.shown, verdict?.advice]) assert.ok(text);
        }
      }
      assert.deepEqual(under.arrived(), []);
    });

    it('gives the result of each notification separately', async (t) => {
      if (!under.fail) return t.diagnostic('nothing can fail here');
      under.fail('refuses the third');
      const verdicts = await under.sink.publish(under.topic, notifications(4));
      assert.ok(verdicts !== 'split');
      assert.deepEqual(
        verdicts.map((verdict) => verdict?.kind),
        [undefined, undefined, 'dead', undefined],
      );
      assert.equal(under.arrived().length, 3);
    });

    it('asks for smaller requests until the culprit is alone', async (t) => {
      if (!under.fail) return t.diagnostic('nothing can fail here');
      under.fail('refuses all for the third');
      const [one, two, three] = notifications(3) as [Notification, Notification, Notification];
      assert.equal(await under.sink.publish(under.topic, [one, two, three]), 'split');
      assert.deepEqual(await under.sink.publish(under.topic, [one, two]), [undefined, undefined]);
      const verdicts = await under.sink.publish(under.topic, [three]);
      assert.ok(verdicts !== 'split');
      assert.equal(verdicts[0]?.kind, 'dead');
    });
  });
}
