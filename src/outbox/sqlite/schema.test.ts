import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { it } from 'node:test';
import { openDatabase, pragma } from './schema.ts';

it('opens the outbox file so that a commit is on disk when it returns', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'schema-'));
  for (const create of [true, false]) {
    const database = openDatabase(path.join(folder, 'outbox.db'), { create });
    // https://www.sqlite.org/pragma.html#pragma_synchronous: 2 is FULL
    assert.equal(pragma(database, 'synchronous'), 2);
    assert.equal(database.prepare('PRAGMA journal_mode').get()?.journal_mode, 'wal');
    database.close();
  }
  await rm(folder, { recursive: true });
});
