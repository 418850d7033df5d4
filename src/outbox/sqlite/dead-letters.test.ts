import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { DeadContent, NewDeadLetter } from '../dead-letters.ts';
import { insertDeadLetter, listDeadLetters, purgeDeadLetters, replayRequested, requestReplay } from './dead-letters.ts';
import { openDatabase } from './schema.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:a';

const letter = (eventId: string, fields: Partial<NewDeadLetter> = {}): NewDeadLetter => ({
  eventId,
  topic: TOPIC,
  reason: 'InvalidParameter',
  detail: 'HTTP 400: Invalid parameter',
  attempts: 3,
  content: { kind: 'raw', event: null },
  ...fields,
});

describe('dead letters', () => {
  let folder: string;
  let database: DatabaseSync;
  let files = 0;
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'dead-letters-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));
  beforeEach(() => {
    database = openDatabase(path.join(folder, `${++files}.db`), { create: true });
    insertDeadLetter(database, letter('e1'), 1_001);
    insertDeadLetter(database, letter('e2', { reason: 'malformed', topic: undefined, attempts: 0 }), 1_002);
    insertDeadLetter(database, letter('e3', { topic: `${TOPIC}b` }), 1_003);
    insertDeadLetter(database, letter('e4'), 1_004);
  });

  const listed = (filter = {}, limit = 100, after = 0) =>
    listDeadLetters(database, filter, limit, after).map(({ eventId }) => eventId);

  it('lists dead letters whole, oldest first', () => {
    const [first] = listDeadLetters(database, {}, 1);
    assert.deepEqual(first, { ...letter('e1'), id: 1, diedAt: 1_001, replayRequested: false });
    assert.equal(listDeadLetters(database, { ids: [2] }, 1)[0]?.topic, undefined);
    assert.deepEqual(listed(), ['e1', 'e2', 'e3', 'e4']);
  });

  it('lists dead letters in portions', () => {
    assert.deepEqual(listed({}, 2), ['e1', 'e2']);
    assert.deepEqual(listed({}, 2, 2), ['e3', 'e4']);
    assert.deepEqual(listed({}, 2, 4), []);
  });

  for (const [what, filter, expected] of [
    ['numbers', { ids: [4, 2, 99] }, ['e2', 'e4']],
    ['no numbers at all', { ids: [] }, []],
    ['reason', { reason: 'malformed' }, ['e2']],
    ['topic', { topic: TOPIC }, ['e1', 'e4']],
    ['number, reason and topic', { ids: [1, 3], reason: 'InvalidParameter', topic: TOPIC }, ['e1']],
    ['SQL in a reason, which matches nothing', { reason: "' OR 1=1 --" }, []],
  ] as const)
    it(`dead letters are selected by ${what}`, () => {
      assert.deepEqual(listed(filter), expected);
    });

  it("keeps a dead letter's content of any kind", () => {
    const contents: DeadContent[] = [
      { kind: 'raw', event: ['\u0000', '\ud800', { deep: [null, 1.5, '👩‍👩‍👧‍👦'] }] },
      { kind: 'event', event: { kind: 'presence', jid: 'a@b/c' } },
      {
        kind: 'notification',
        notification: {
          eventId: 'e',
          topic: TOPIC,
          orderKey: 'a@b',
          at: 1,
          message: '{"user_id":"a@b"}',
          attributes: [{ name: 'n', type: 'Binary', value: 'AAE=' }],
          bytes: 20,
        },
      },
    ];
    for (const content of contents) {
      insertDeadLetter(database, letter('whole', { content, reason: 'kept' }), 2_000);
      assert.deepEqual(listDeadLetters(database, { reason: 'kept' }, 10).at(-1)?.content, content);
    }
  });

  it('a dead letter marked for replay stays until the daemon has replaced it', async () => {
    assert.deepEqual(replayRequested(database, 10), []);
    assert.equal(await requestReplay(database, { reason: 'InvalidParameter' }), 3);
    assert.deepEqual(
      replayRequested(database, 2).map(({ eventId, replayRequested }) => [eventId, replayRequested]),
      [
        ['e1', true],
        ['e3', true],
      ],
    );
    assert.equal(listed().length, 4);
  });

  it('deletes dead letters for good, and never reuses a number', async () => {
    assert.equal(await purgeDeadLetters(database, { ids: [1, 4] }), 2);
    assert.deepEqual(listed(), ['e2', 'e3']);
    assert.equal(await purgeDeadLetters(database, {}), 2);
    assert.equal(await purgeDeadLetters(database, {}), 0);
    insertDeadLetter(database, letter('e5'), 3_000);
    assert.equal(listDeadLetters(database, {}, 1)[0]?.id, 5);
  });

  it("ignores an earlier release's audit table", () => {
    database.exec("CREATE TABLE audit (id INTEGER PRIMARY KEY, who TEXT); INSERT INTO audit VALUES (1, 'anna')");
    database.close();
    database = openDatabase(path.join(folder, `${files}.db`), { create: false });
    assert.equal(database.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'audit'").get()?.n, 0);
    assert.equal(listed().length, 4);
  });
});
