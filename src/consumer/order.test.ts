import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ordered } from './order.ts';
import { reorder } from './reorder.ts';

interface Event {
  readonly id: string;
  readonly source: string;
  readonly epoch: string;
  readonly seq: number;
  readonly at: number;
}

/** Consecutive runs of one source. Many events share a millisecond, and within a run the clock may step back. */
const history = (source: string) =>
  fc
    .array(fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 3 })), { minLength: 1, maxLength: 12 }), {
      maxLength: 4,
    })
    .chain((runs) =>
      fc
        .uniqueArray(fc.string({ minLength: 1 }).map(slashless), { minLength: runs.length, maxLength: runs.length })
        .map((epochs) =>
          runs.flatMap((run, index) => {
            let seq = 0;
            return run.map(([ms, step]): Event => {
              seq += step;
              const epoch = epochs[index] as string;
              return { id: `${source}/${epoch}/${seq}`, source, epoch, seq, at: index * 10 + ms };
            });
          }),
        ),
    );
const slashless = (text: string) => `e${text.replaceAll('/', '_')}`;

/** Some of the events, some repeated, in any order. */
const deliveriesOf = <T>(events: readonly T[]) =>
  fc
    .array(fc.nat(Math.max(0, events.length - 1)), { maxLength: events.length * 2 })
    .map((picks) => picks.flatMap((pick) => events.slice(pick, pick + 1)));

const withoutRepetition = <T>(list: readonly T[]): T[] => [...new Set(list)];

describe('ordered', () => {
  it("restores a source's order after any shuffling, repetition and loss, whatever its clock", () => {
    const deliveries = history('node').chain((events) => deliveriesOf(events).map((list) => ({ events, list })));
    const property = fc.property(deliveries, ({ events, list }) => {
      const expected = events.filter((event) => list.includes(event));
      assert.deepEqual(withoutRepetition(ordered(list)), expected);
      assert.equal(ordered(list).length, list.length);
    });
    fc.assert(property, { numRuns: 500 });
  });

  it('keeps the order of several sources, independent of the order of arrival', () => {
    const sources = fc.tuple(history('a/1'), history('b'), history('c'));
    const shuffled = sources.chain((all) =>
      fc.shuffledSubarray(all.flat(), { minLength: all.flat().length }).map((list) => ({ all, list })),
    );
    const property = fc.property(shuffled, ({ all, list }) => {
      const result = ordered(list);
      for (const events of all)
        assert.deepEqual(
          result.filter(({ source }) => source === events[0]?.source),
          events,
        );
      assert.deepEqual(result, ordered(all.flat()));
    });
    fc.assert(property, { numRuns: 300 });
  });

  it('orders unnumbered events by time; those without a time come first, in order of arrival', () => {
    const [late, early, first, second] = [{ id: 'u1', at: 5 }, { id: 'u2', at: 2 }, { id: 'x' }, { id: 'y' }];
    assert.deepEqual(ordered([late, first, early, second]), [first, second, early, late]);
  });
});

describe('a reorder buffer', () => {
  const event = (seq: number, source = 'node'): Event => ({ id: `${source}/e/${seq}`, source, epoch: 'e', seq, at: 0 });

  it('releases everything once and in order if no delivery is later than the wait', () => {
    const delays = fc.array(fc.nat(99), { minLength: 1, maxLength: 40 });
    const property = fc.property(delays, fc.integer({ min: 1, max: 30 }), (delayOf, stepMs) => {
      let time = 0;
      const buffer = reorder<Event>({ waitMs: 100, now: () => time });
      // Event n happens at 3n ms and arrives after its delay.
      const arrivals = delayOf.map((delay, n) => ({ event: event(n + 1), at: n * 3 + delay }));
      const out = [];
      for (; time < delayOf.length * 3 + 300; time += stepMs) {
        buffer.add(arrivals.filter(({ at }) => at > time - stepMs && at <= time).map((arrival) => arrival.event));
        out.push(...buffer.take());
      }
      assert.deepEqual(
        out.map(({ notification }) => notification.seq),
        delayOf.map((_, n) => n + 1),
      );
      assert.ok(out.every(({ late }) => !late));
    });
    fc.assert(property);
  });

  it('releases and marks late deliveries', () => {
    let time = 0;
    const buffer = reorder<Event>({ waitMs: 10, now: () => time });
    buffer.add([event(2)]);
    time = 10;
    assert.deepEqual(buffer.take(), [{ notification: event(2), late: false }]);
    buffer.add([event(1), event(1, 'other')]);
    assert.deepEqual(buffer.take(), []);
    time = 20;
    assert.deepEqual(
      buffer.take().map(({ notification, late }) => [notification.source, late]),
      [
        ['node', true],
        ['other', false],
      ],
    );
  });

  it('limits what it holds, and releases the earliest first', () => {
    const buffer = reorder<Event>({ waitMs: 1_000, maxHeld: 2, now: () => 0 });
    buffer.add([event(3), event(1), event(2), event(4)]);
    assert.deepEqual(
      buffer.take().map(({ notification }) => notification.seq),
      [1, 2],
    );
    assert.deepEqual(
      buffer.flush().map(({ notification }) => notification.seq),
      [3, 4],
    );
    assert.deepEqual(buffer.flush(), []);
  });
});
