/** A seed replays a run: it draws the same faults, whatever the daemon does. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Fault } from '../support/stub-sns.ts';
import { eventId, eventOf, plantFlaws } from './adapters.ts';
import { createFaults, planFaults } from './faults.ts';
import { randomOf, whole } from './random.ts';

const SOURCES = ['chaos@node1', 'chaos@node2'];
const TOTAL = 2_000;

const sourcesOf = (seed: number) => {
  const planted = plantFlaws(seed, SOURCES, TOTAL, 5);
  return SOURCES.map((source) => ({ source, total: TOTAL, flaws: planted.get(source) ?? new Map() }));
};

/** Sends all events until nothing fails, with batches and order drawn from `packing`; returns the faults that came. */
function play(seed: number, packing: number): [string, number][] {
  const faults = createFaults(planFaults(seed, sourcesOf(seed)));
  const random = randomOf(packing, 'packing');
  let left = SOURCES.flatMap((source) => Array.from({ length: TOTAL }, (_, index) => eventId(source, index + 1)));
  while (left.length > 0) {
    const order = left.map((id) => [random(), id] as const).sort(([a], [b]) => a - b);
    const again: string[] = [];
    for (let at = 0; at < order.length; ) {
      const batch = order.slice(at, at + 1 + whole(random, 10)).map(([, id]) => id);
      at += batch.length;
      if (faults.draw(requestOf(batch))) again.push(...batch);
    }
    left = again;
  }
  assert.equal(faults.left, 0, 'all that was planned has come');
  return [...faults.met].sort();
}

const requestOf = (ids: readonly string[]) => ({
  path: '/',
  topicArn: 'arn',
  entries: ids.map((id) => ({
    id: '0',
    message: '',
    attributes: new Map([['event_id', id]]),
    groupId: undefined,
    deduplicationId: undefined,
    bytes: 0,
  })),
});

describe('a seed', () => {
  it('a seed gives the same events, flaws and faults', () => {
    const draw = (seed: number) => [
      planFaults(seed, sourcesOf(seed)),
      sourcesOf(seed),
      Array.from({ length: 50 }, (_, seq) => ({ ...(eventOf(seed, 'chaos@node1', seq, undefined) as object), at: 0 })),
    ];
    assert.deepEqual(draw(7), draw(7));
    assert.notDeepEqual(draw(7), draw(8));
  });

  it('a seed gives the same faults for any batches and order', () => {
    assert.deepEqual(play(7, 1), play(7, 2));
    assert.deepEqual(play(7, 1), play(7, 3));
  });

  it('every kind of fault occurs at any size', () => {
    const kinds: Fault['kind'][] = ['error', 'reset', 'hang', 'truncated', 'some-fail', 'ids', 'slow'];
    const planned = [...planFaults(7, [{ source: 'chaos@node1', total: 100, flaws: new Map() }]).values()];
    for (const kind of kinds) assert.ok(planned.filter(({ fault }) => fault.kind === kind).length >= 2, kind);
    const ways = new Set(planned.map(({ way }) => way));
    for (const name of ['Throttling', 'error 503', 'reset after accepting', 'an id left out'])
      assert.ok(ways.has(name), name);
  });
});
