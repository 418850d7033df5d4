import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { countedAmong, createReader, type LedgerRecord, MOST_SEEN, snapshotOf } from './records.ts';
import { Sessions } from './sessions.ts';

const PHONE = 'alice@localhost/phone';
const LAPTOP = 'alice@localhost/laptop';

describe("a user's sessions, counted", () => {
  /** How many sessions the user has after each event. */
  const countsAfter = (...events: readonly (readonly [string, boolean])[]) => {
    const sessions = new Sessions();
    return events.map(([jid, present]) => sessions.change(jid, present));
  };

  it('the count is 1 while the first of two devices is online, and 0 after the last one leaves', () => {
    assert.deepEqual(countsAfter([PHONE, true], [LAPTOP, true], [PHONE, false], [LAPTOP, false]), [1, 2, 1, 0]);
  });

  it('the count is 1 after a takeover, in either order of its events', () => {
    assert.equal(countsAfter([PHONE, true], [PHONE, true], [PHONE, false]).at(-1), 1);
    assert.equal(countsAfter([PHONE, true], [PHONE, false], [PHONE, true]).at(-1), 1);
  });

  it('the count is never below 0', () => {
    assert.deepEqual(countsAfter([PHONE, false], [PHONE, false], [PHONE, true], [PHONE, false]), [0, 0, 1, 0]);
    assert.deepEqual(countsAfter([LAPTOP, true], [PHONE, false]), [1, 1]);
  });

  it('keeps nothing of users who are offline', () => {
    const sessions = new Sessions();
    sessions.change(PHONE, true);
    sessions.change('bob@localhost', true);
    sessions.change(PHONE, false);
    assert.deepEqual([...sessions.entries()], [['bob@localhost', 1]]);
    assert.equal(sessions.size, 1);
  });
});

describe('the ledger of sessions', () => {
  const readAll = (records: readonly LedgerRecord[]) => {
    const reader = createReader();
    for (const record of records) reader.read(Buffer.from(JSON.stringify(record)));
    return reader.state();
  };

  it('reads back what was written, after any changes', () => {
    const jids = fc.constantFrom(PHONE, LAPTOP, 'bob@localhost/a', 'bob@localhost/b');
    const change = fc.tuple(jids, fc.boolean());
    fc.assert(
      fc.property(fc.array(change), fc.array(change), (before, after) => {
        const sessions = new Sessions();
        for (const [jid, present] of before) sessions.change(jid, present);
        const records = [...snapshotOf({ sessions, seen: ['x'] }, 'one')];
        for (const [jid, present] of after) {
          sessions.change(jid, present);
          records.push({ term: 'one', kind: 'delta', counts: [[jid, sessions.count(jid)]], seen: [`${present}`] });
        }
        const read = readAll(records);
        assert.deepEqual(new Map(read.sessions.entries()), new Map(sessions.entries()));
        assert.deepEqual(read.seen, ['x', ...after.map(([, present]) => `${present}`)].slice(-MOST_SEEN));
        for (const jid of [PHONE, 'bob@localhost/a']) assert.equal(read.sessions.ofUser(jid), sessions.ofUser(jid));
      }),
    );
  });

  it('takes several records for many sessions', () => {
    const sessions = new Sessions();
    for (let n = 0; n < 5_000; n++) sessions.change(`user${n}@localhost/r`, true);
    const records = [...snapshotOf({ sessions, seen: [] }, 'one')];
    assert.equal(records.length, 4);
    assert.equal(readAll(records).sessions.size, 5_000);
  });

  it('ignores a daemon that lost the queue, and an incomplete snapshot', () => {
    const state = readAll([
      { term: 'old', kind: 'begin' },
      { term: 'old', kind: 'delta', counts: [[PHONE, 1]], seen: ['a'] },
      { term: 'unfinished', kind: 'part', counts: [[LAPTOP, 1]] },
      { term: 'old', kind: 'delta', counts: [['bob@localhost/x', 1]], seen: ['b'] },
      { term: 'new', kind: 'part', counts: [[PHONE, 1]] },
      { term: 'new', kind: 'begin', after: 'old', seen: ['a', 'b'] },
      { term: 'old', kind: 'delta', counts: [[PHONE, 0]], seen: ['c'] },
      { term: 'old', kind: 'end' },
      { term: 'late', kind: 'part', counts: [[LAPTOP, 1]] },
      { term: 'late', kind: 'begin', after: 'old' },
    ]);
    assert.deepEqual([[...state.sessions.entries()], state.seen], [[[PHONE, 1]], ['a', 'b']]);
  });

  it('counts invalid records, and continues', () => {
    const reader = createReader();
    reader.read(Buffer.from('nonsense'));
    reader.read(Buffer.from('{"term":"one","kind":"other"}'));
    reader.read(Buffer.from('{"term":"one","kind":"begin"}'));
    reader.read(Buffer.from(JSON.stringify({ term: 'one', kind: 'delta', counts: [[PHONE, 1]] })));
    assert.deepEqual([reader.state().unreadable, reader.state().sessions.count(PHONE)], [2, 1]);
  });

  it('recognizes redelivered events that were counted already', () => {
    const seen = ['a', 'b', 'c', 'd'];
    assert.equal(countedAmong(seen, ['c', 'd', 'e']), 2);
    assert.equal(countedAmong(seen, ['a', 'b', 'c', 'd']), 4);
    assert.equal(countedAmong(seen, ['e', 'f']), 0);
    assert.equal(countedAmong(seen, ['c', 'e']), 0);
    assert.equal(countedAmong(seen, []), 0);
    // Nothing is left to recognise after an orderly stop.
    assert.equal(countedAmong([], ['d']), 0);
  });
});
