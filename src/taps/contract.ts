/** The suite that every tap passes. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { PusherError } from '../errors.ts';
import type { Batch, Receipt, Tap } from './tap.ts';

/** A tap under test, and a source for it. */
export interface TapUnderTest {
  readonly tap: Tap;
  /** Sends a batch; rejects, or returns undefined, if the tap does not acknowledge it. */
  hand(batch: {
    source: string;
    epoch?: string;
    first?: number;
    events: readonly unknown[];
  }): Promise<Receipt | 'acknowledged' | undefined>;
  /**
   * The name of the only source, for events from a queue: they have no numbers, there are no receipts, and
   * unacknowledged events stay in the queue and come again.
   */
  readonly queue?: string;
  dispose(): Promise<void>;
}

const EVENT = {
  kind: 'presence',
  at: 1_800_000_000_000,
  host: 'localhost',
  jid: 'alice@localhost/phone',
  present: true,
};
const RECEIPT: Receipt = { accepted: 1, duplicates: 2, rejected: [{ index: 1, reason: 'should be an object' }] };

export function tapContract(name: string, make: () => Promise<TapUnderTest>): void {
  describe(`${name}, as any tap`, () => {
    let under: TapUnderTest;
    let batches: Batch[];
    let answer: () => Promise<Receipt>;
    const receive = (batch: Batch) => {
      batches.push(batch);
      return answer();
    };
    beforeEach(async () => {
      under = await make();
      batches = [];
      answer = async () => RECEIPT;
    });
    afterEach(async () => {
      await under.tap.stop();
      await under.dispose();
    });

    const acknowledged = (answer: Receipt | 'acknowledged' | undefined) =>
      assert.deepEqual(answer, under.queue === undefined ? RECEIPT : 'acknowledged');

    it("passes events on in their source's order, validated, and acknowledges them", async () => {
      await under.tap.start(receive);
      const given = { source: 'chat1', epoch: 'x', first: 5, events: [EVENT, 5, { ...EVENT, jid: '@' }] };
      acknowledged(await under.hand(given));
      const [batch] = batches as [Batch];
      if (under.queue !== undefined) {
        for (const { tap, source, numbering } of batches)
          assert.deepEqual(
            { tap, source, numbering },
            { tap: under.tap.name, source: under.queue, numbering: undefined },
          );
        const [first, ...others] = batches.flatMap(({ events }) => events);
        assert.partialDeepStrictEqual(first, EVENT);
        assert.deepEqual(
          others.map((event) => 'problem' in event),
          [true, true],
        );
        return;
      }
      assert.deepEqual(
        { ...batch, traceparent: undefined },
        {
          tap: under.tap.name,
          source: 'chat1',
          numbering: { epoch: 'x', first: 5 },
          events: [
            EVENT,
            { problem: 'should be an object', raw: 5 },
            { problem: 'jid: should be a JID', raw: { ...EVENT, jid: '@' } },
          ],
          traceparent: undefined,
        },
      );
    });

    it('accepts a batch whose events have no numbers', async () => {
      await under.tap.start(receive);
      await under.hand({ source: 'chat1', events: [EVENT] });
      assert.equal(batches[0]?.numbering, undefined);
    });

    it('acknowledges nothing before it is safe', async () => {
      const { promise, resolve } = Promise.withResolvers<Receipt>();
      answer = () => promise;
      await under.tap.start(receive);
      let acknowledged = false;
      const handing = under.hand({ source: 's', events: [EVENT] }).then(() => {
        acknowledged = true;
      });
      while (batches.length === 0) await turn();
      for (let n = 0; n < 20; n++) await turn();
      assert.equal(acknowledged, false);
      resolve(RECEIPT);
      await handing;
      assert.equal(acknowledged, true);
    });

    it('does not acknowledge a batch that could not be kept, and accepts it again', async () => {
      answer = async () => {
        throw new PusherError('OUTBOX_FULL', 'the outbox is full');
      };
      await under.tap.start(receive);
      const batch = { source: 's', epoch: 'x', first: 1, events: [EVENT] };
      assert.equal(await under.hand(batch).catch(() => undefined), undefined);
      answer = async () => RECEIPT;
      acknowledged(await under.hand(batch));
    });

    it('refuses batches before its start and after its stop, and can be restarted', async () => {
      const batch = { source: 's', events: [EVENT] };
      const refuses = async () => assert.equal(await under.hand(batch).catch(() => undefined), undefined);
      await refuses();
      assert.ok(under.tap.state().problem);
      assert.equal(under.tap.state().at, undefined);
      for (let round = 0; round < 2; round++) {
        await under.tap.start(receive);
        assert.equal(under.tap.state().problem, undefined);
        assert.ok(under.tap.state().at);
        acknowledged(await under.hand(batch));
        await under.tap.stop();
        await refuses();
        assert.ok(under.tap.state().problem);
      }
      const handed = batches.flatMap(({ events }) => events).length;
      // Batches refused before each start waited in the queue.
      assert.equal(handed, under.queue === undefined ? 2 : 4);
    });

    it('a stop waits for the batches in progress', async () => {
      const { promise, resolve } = Promise.withResolvers<Receipt>();
      answer = () => promise;
      await under.tap.start(receive);
      const handing = under.hand({ source: 's', events: [EVENT] });
      while (batches.length === 0) await turn();
      const stopping = under.tap.stop();
      resolve(RECEIPT);
      await stopping;
      acknowledged(await handing);
    });
  });
}
