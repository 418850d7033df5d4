import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { trendOf, type Volume } from './trend.ts';

/** One every 2 s for a minute. */
const volumes = (waiting: (second: number) => number, bytes = (second: number) => waiting(second) * 1_000): Volume[] =>
  Array.from({ length: 31 }, (_, n) => ({ at: n * 2_000, waiting: waiting(2 * n), bytes: bytes(2 * n) }));

describe('the trend of what waits', () => {
  for (const [what, given, text] of [
    ['nothing is known', [], ''],
    ['nothing waits', volumes(() => 0), ''],
    ['there are only a few samples', volumes((s) => s * 10).slice(-3), ''],
    ['it does not change', volumes(() => 500), 'steady'],
    ['it grows by a few in a minute', volumes((s) => 500 + Math.floor(s / 5)), 'steady'],
    ['it shrinks', volumes((s) => 3_000 - 12.5 * s - 2.5), 'empty in about 3 min'],
    ['it hardly shrinks', volumes((s) => 10_000_000 - s), 'shrinking 1/s'],
    ['it grows', volumes((s) => 58 * s), 'growing 58/s, full in 5 h'],
    [
      'it grows and the outbox has room for weeks',
      volumes(
        (s) => 1_000 * s,
        (s) => s,
      ),
      'growing 1,000/s',
    ],
    [
      'it grows though the outbox is full',
      volumes(
        (s) => 58 * s,
        (s) => 1e9 + 58 * s,
      ),
      'growing 58/s, full in 1 s',
    ],
    ['it turned half a minute ago', volumes((s) => (s < 30 ? 100 * s : 3_000 - 25 * (s - 30))), 'empty in about 90 s'],
  ] as const)
    it(`the trend is "${text}" if ${what}`, () => {
      assert.equal(trendOf(given, 1_000_000_000).text, text);
    });
});
