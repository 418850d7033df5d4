import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { describe, it } from 'node:test';
import { addMoments, addSpan, HISTORY, readHistory } from './history-file.ts';

const START = 1_763_820_000_000;
const MINUTE = 60_000;
const DAY = 86_400_000;
const span = (at: number, rate = 1) => ({ at, in: rate, out: rate, backlog: rate, p50: rate, p99: rate });

function setUp() {
  const database = new DatabaseSync(':memory:');
  database.exec(HISTORY);
  return database;
}

describe('the history in the file', () => {
  it('stores minutes, and ten minutes as one span', () => {
    const database = setUp();
    for (let n = 1; n <= 20; n++) addSpan(database, span(START + n * MINUTE, n));
    const { minutes, tens } = readHistory(database);
    assert.equal(minutes.length, 20);
    assert.deepEqual(
      tens.map(({ at, in: came, backlog, p50, p99 }) => [at - START, came, backlog, p50, p99]),
      [
        [10 * MINUTE, 5.5, 10, 5.5, 10],
        [20 * MINUTE, 15.5, 20, 15.5, 20],
      ],
    );
  });

  it('keeps minutes for a day, and ten minutes and incidents for 30 days', () => {
    const database = setUp();
    const moment = { kind: 'start', text: '' };
    for (const at of [START, START + 2 * DAY, START + 31 * DAY]) {
      addSpan(database, span(at));
      addMoments(database, [{ at, ...moment }]);
    }
    const { minutes, tens, moments } = readHistory(database);
    const at = (list: readonly { at: number }[]) => list.map((each) => (each.at - START) / DAY);
    assert.deepEqual([at(minutes), at(tens), at(moments)], [[31], [2, 31], [2, 31]]);
  });

  it('keeps at most 5,000 incidents', () => {
    const database = setUp();
    for (let n = 0; n < 10; n++)
      addMoments(
        database,
        Array.from({ length: 600 }, (_, m) => ({ at: START + n * 600 + m, kind: 'try', text: '' })),
      );
    const { moments } = readHistory(database);
    assert.deepEqual([moments.length, moments.at(-1)?.at], [5_000, START + 5_999]);
  });
});
