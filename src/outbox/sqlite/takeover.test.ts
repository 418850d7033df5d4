import assert from 'node:assert/strict';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { consume } from '../../../test/support/consumer.ts';
import { admission, ids, lastOf, notification } from '../../../test/support/outbox.ts';
import { until } from '../../../test/support/process.ts';
import type { Outbox } from '../outbox.ts';
import { openDatabase, pragma } from './schema.ts';
import { sqliteOutbox } from './sqlite.ts';

const WRITTEN_BY_0_1_0 = path.join(import.meta.dirname, '../../../test/fixtures/0.1.0/outbox/outbox.db');

/** The content of the old table, by topic, in order. */
function waitingIn(file: string): Map<string, string[]> {
  const database = new DatabaseSync(file, { readOnly: true });
  const rows = database
    .prepare('SELECT arn, event_id FROM notification JOIN topic ON topic.id = notification.topic ORDER BY seq')
    .all();
  database.close();
  const byTopic = Map.groupBy(rows, ({ arn }) => String(arn));
  return new Map([...byTopic].map(([arn, of]) => [arn, of.map(({ event_id }) => String(event_id))]));
}

describe('an outbox that version 0.1.0 wrote', () => {
  let folder: string;
  let file: string;
  let outbox: Outbox | undefined;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'outbox-'));
    file = path.join(folder, 'outbox.db');
    await copyFile(WRITTEN_BY_0_1_0, file);
    outbox = undefined;
  });
  afterEach(async () => {
    await outbox?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const open = (): Outbox => {
    outbox = sqliteOutbox({ file });
    return outbox;
  };

  it("takes over 0.1.0's notifications in order, dead letters, positions and holes", async () => {
    const waiting = waitingIn(file);
    assert.equal([...waiting.values()].flat().length, 45);
    const taken = open();
    assert.equal(waiting.size, 3);
    for (const [topic, expected] of waiting) {
      await using consumer = consume(taken, topic);
      const found = await consumer.next(expected.length);
      assert.deepEqual(ids(found), expected, topic);
      assert.deepEqual(await consumer.rest(), []);
      const [first] = found;
      assert.ok(first?.attributes.some(({ name }) => name === 'event_id'));
      assert.equal(typeof JSON.parse(first?.message ?? ''), 'object');
    }
    const { topics, deadLetters, sources } = taken.health();
    assert.equal(
      topics.reduce((sum, { depth }) => sum + depth, 0),
      45,
    );
    assert.equal(deadLetters, 6);
    assert.deepEqual(
      (await taken.deadLetters.counts()).map(({ reason, count }) => [reason, count]),
      [
        ['malformed', 1],
        ['plugin', 5],
      ],
    );
    assert.equal(await lastOf(taken, 'fixture', 'e1'), 61);
    const [source] = sources;
    assert.deepEqual([source?.holes, source?.missing], [1, 10]);
    const holes = taken.health().holes.map(({ source, epoch, first, missing }) => [source, epoch, first, missing]);
    assert.deepEqual(holes, [['fixture', 'e1', undefined, 10]]);
  });

  it('after a takeover returns new notifications after the old ones, and nothing settled', async () => {
    const [[topic, waited] = assert.fail()] = waitingIn(file);
    const taken = open();
    await taken.commit(admission(notification('new', { topic })));
    const consumer = consume(taken, topic);
    const found = await consumer.next(waited.length + 1);
    assert.deepEqual(ids(found), [...waited, 'new']);
    await consumer.settle(...found.slice(0, 3));
    await taken.close();
    await using again = consume(open(), topic);
    assert.deepEqual(ids(await again.next(waited.length - 2)), [...waited.slice(3), 'new']);
  });

  it('completes a takeover that a kill interrupted', async () => {
    const waiting = waitingIn(file);
    const untouched = new DatabaseSync(file);
    // As after the first transaction: the new tables exist, and nothing was moved.
    const { HOLES, PARCELS, VERSION } = await import('./schema.ts');
    untouched.exec(`BEGIN; ${PARCELS} ${HOLES} ALTER TABLE source ADD COLUMN newest_at INTEGER;
      PRAGMA user_version = ${VERSION}; COMMIT`);
    untouched.close();
    const taken = open();
    for (const [topic, expected] of waiting) {
      await using consumer = consume(taken, topic);
      assert.deepEqual(ids(await consumer.next(expected.length)), expected);
    }
  });

  it('makes a dead letter only of an unreadable row, with its content', async () => {
    const database = new DatabaseSync(file);
    database.exec("UPDATE notification SET attributes = '[{' WHERE seq = (SELECT min(seq) FROM notification)");
    database.close();
    const taken = open();
    const letters = await taken.deadLetters.find({ reason: 'unreadable' }, 10);
    assert.equal(letters.length, 1);
    assert.match(JSON.stringify(letters[0]?.content), /to_user_id|user_id/);
    const depth = () => taken.health().topics.reduce((sum, each) => sum + each.depth, 0);
    await until('its depth', () => depth() === 44);
  });

  it('the command line reads a 0.1.0 file without changing it', () => {
    const database = openDatabase(file, { create: false });
    assert.equal(pragma(database, 'user_version'), 1);
    database.close();
    assert.equal([...waitingIn(file).values()].flat().length, 45);
  });
});
