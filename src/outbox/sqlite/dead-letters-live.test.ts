import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { DeadLetterFilter, DeadLetterSort, DeadLetterStore } from '../dead-letters.ts';
import { linesOfLetters } from '../letter-lines.ts';
import { deadLettersOn, insertDeadLetter, replayRequested } from './dead-letters.ts';
import { openDatabase } from './schema.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:a';

describe('dead letters of a running daemon', () => {
  let folder: string;
  let database: DatabaseSync;
  let letters: Omit<DeadLetterStore, 'put'>;
  let files = 0;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'dead-letters-live-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));
  beforeEach(() => {
    database = openDatabase(path.join(folder, `${++files}.db`), { create: true });
    letters = deadLettersOn(database);
  });

  const insert = (count: number, reason: string, topic?: string) => {
    database.exec('BEGIN');
    for (let n = 0; n < count; n++) {
      const content = { kind: 'raw', event: { body: `${n}` } } as const;
      insertDeadLetter(database, { eventId: `${n}`, topic, reason, detail: 'd', attempts: 1, content }, 1_000);
    }
    database.exec('COMMIT');
  };
  const newest = async (limit: number, offset = 0) =>
    (await letters.browse({ filter: {}, sort: 'id', descending: true, offset, limit })).letters;
  const ids = async (limit: number, offset = 0) => (await newest(limit, offset)).map(({ id }) => id);

  it('lists dead letters newest first, page by page, without their content', async () => {
    insert(5, 'malformed');
    assert.deepEqual(await ids(2), [5, 4]);
    assert.deepEqual(await ids(2, 2), [3, 2]);
    assert.deepEqual(await ids(2, 4), [1]);
    const [summary] = await newest(1);
    assert.deepEqual(Object.keys(summary ?? {}).includes('content'), false);
    assert.deepEqual((await letters.read(5))?.content, { kind: 'raw', event: { body: '4' } });
    assert.equal(await letters.read(6), undefined);
  });

  it('counts dead letters by reason and topic', async () => {
    insert(2, 'malformed');
    insert(3, 'InvalidParameter', TOPIC);
    insert(1, 'InvalidParameter', `${TOPIC}b`);
    await letters.requestReplay({ ids: [4] });
    assert.deepEqual(await letters.counts(), [
      { reason: 'InvalidParameter', topic: TOPIC, count: 3, replaying: 1, newestId: 5 },
      { reason: 'InvalidParameter', topic: `${TOPIC}b`, count: 1, replaying: 0, newestId: 6 },
      { reason: 'malformed', topic: undefined, count: 2, replaying: 0, newestId: 2 },
    ]);
  });

  it('counts dead letters from an index, without reading them', () => {
    const query =
      'SELECT reason, topic_arn, count(*), sum(replay), max(id) FROM dead_letter GROUP BY reason, topic_arn';
    const plan = database.prepare(`EXPLAIN QUERY PLAN ${query}`).all();
    assert.match(JSON.stringify(plan), /USING COVERING INDEX dead_letter_reason/);
  });

  it('replays and deletes thousands of dead letters without blocking the event loop', async () => {
    insert(2_500, 'malformed');
    insert(10, 'plugin');
    let turns = 0;
    let done = false;
    const count = () => {
      turns += 1;
      if (!done) setImmediate(count);
    };
    setImmediate(count);
    assert.equal(await letters.requestReplay({ reason: 'malformed' }), 2_500);
    assert.equal(await letters.requestReplay({ reason: 'malformed' }), 0, 'they are marked already');
    assert.equal(replayRequested(database, 5_000).length, 2_500);
    assert.equal(await letters.purge({ reason: 'malformed' }), 2_500);
    done = true;
    assert.ok(turns >= 4, `${turns} turns`);
    assert.equal((await ids(100)).length, 10);
  });

  it('searches, sorts and exports thousands, giving way to other work', async () => {
    insert(20_000, 'malformed');
    const turnsOf = async (work: () => Promise<unknown>) => {
      let turns = 0;
      let done = false;
      const count = () => {
        turns += 1;
        if (!done) setImmediate(count);
      };
      setImmediate(count);
      await work();
      done = true;
      return turns;
    };
    const browse = (filter: DeadLetterFilter, sort: DeadLetterSort) =>
      letters.browse({ filter, sort, descending: true, offset: 7_000, limit: 20 });
    const sorted = await turnsOf(async () => {
      const { letters: page, total } = await browse({}, 'reason');
      assert.deepEqual([page.length, page[0]?.id, total], [20, 13_000, 20_000]);
    });
    const searched = await turnsOf(async () => {
      const { letters: page, total } = await browse({ match: '1' }, 'id');
      assert.ok(page.length === 20 && total > 7_000 && total < 20_000);
    });
    let lines = 0;
    const exported = await turnsOf(async () => {
      for await (const text of linesOfLetters(letters, { match: '99' })) lines += text.split('\n').length - 1;
    });
    assert.ok(lines > 100);
    assert.ok(Math.min(sorted, searched, exported) >= 10, `${sorted}, ${searched}, ${exported} turns`);
  });

  it('leaves dead letters alone that are newer than the listing', async () => {
    insert(5, 'malformed');
    assert.equal(await letters.purge({ reason: 'malformed', upToId: 3 }), 3);
    assert.equal(await letters.requestReplay({ upToId: 4 }), 1);
    assert.deepEqual(await ids(10), [5, 4]);
  });
});
