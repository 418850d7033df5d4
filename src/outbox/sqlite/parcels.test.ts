import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { consume } from '../../../test/support/consumer.ts';
import { admission, depthOf, ids, notification, numbered, TOPIC } from '../../../test/support/outbox.ts';
import { launch, until } from '../../../test/support/process.ts';
import type { Outbox } from '../outbox.ts';
import { sqliteOutbox } from './sqlite.ts';

describe('parcels of the SQLite outbox', () => {
  let folder: string;
  let file: string;
  let outbox: Outbox;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'outbox-'));
    file = path.join(folder, 'outbox.db');
    outbox = sqliteOutbox({ file });
  });
  afterEach(async () => {
    await outbox.close();
    await rm(folder, { recursive: true, force: true });
  });

  const sql = <T>(text: string): T[] => {
    const database = new DatabaseSync(file);
    const rows = database.prepare(text).all();
    database.close();
    return rows as T[];
  };
  const reopen = async (): Promise<void> => {
    await outbox.close();
    outbox = sqliteOutbox({ file });
  };

  it('a commit adds one row per topic, which is deleted when all of it is settled', async () => {
    await outbox.commit(admission(...numbered(1, 100)));
    assert.equal(sql('SELECT id FROM parcel').length, 1);
    await using topic = consume(outbox, TOPIC);
    const found = await topic.next(100);
    await topic.settle(...found.slice(0, 99));
    assert.equal(sql('SELECT id FROM parcel').length, 1);
    assert.equal(sql('SELECT places FROM settled').length, 1);
    await topic.settle(...found.slice(99));
    assert.deepEqual([sql('SELECT id FROM parcel'), sql('SELECT parcel FROM settled')], [[], []]);
  });

  it('bounds a parcel in notifications and in bytes', async () => {
    await outbox.commit(admission(...numbered(1, 1_000)));
    const message = 'x'.repeat(100_000);
    await outbox.commit(admission(...numbered(1_001, 10, { message })));
    const parcels = sql<{ count: number; length: number }>('SELECT count, length(content) AS length FROM parcel');
    assert.ok(parcels.every(({ count, length }) => count <= 256 && length < 400_000));
    await using topic = consume(outbox, TOPIC);
    assert.deepEqual(ids(await topic.next(1_010)), ids(numbered(1, 1_010)));
  });

  it('after a kill returns only the unsettled part of a parcel', async () => {
    await outbox.close();
    const script = `
      import { sqliteOutbox } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)};
      const outbox = sqliteOutbox({ file: process.argv[1] });
      const topic = ${JSON.stringify(TOPIC)};
      const held = [];
      const backlog = outbox.backlog(topic, (notifications) => held.push(...notifications));
      backlog.request(1_000);
      await outbox.commit(JSON.parse(process.argv[2]));
      while (held.length < 50) await new Promise((resolve) => setImmediate(resolve));
      await backlog.settle(held.filter((_, place) => place % 3 === 0).map((notification) => ({ notification })));
      process.stdout.write('settled\\n');
      setInterval(() => {}, 1_000);`;
    const args = ['--input-type=module', '-e', script, file, JSON.stringify(admission(...numbered(1, 50)))];
    const child = await launch(process.execPath, args);
    await until('the settlement', () => child.output().includes('settled'));
    await child.end('SIGKILL');
    outbox = sqliteOutbox({ file });
    await using topic = consume(outbox, TOPIC);
    const left = ids(numbered(1, 50)).filter((_, place) => place % 3 !== 0);
    assert.equal(depthOf(outbox), left.length);
    const again = await topic.next(left.length);
    assert.deepEqual(ids(again), left);
    await topic.settle(...again);
    assert.deepEqual(sql('SELECT id FROM parcel'), []);
  });

  it("keeps messages with line breaks, or with text that UTF-8 can't represent", async () => {
    const odd = ['', 'a\nb', '\n[1,\t', 'tab\there', 'nul\0', 'half \ud83d', '"\\', '😀', '[0,"k"]\t{}'];
    const notifications = odd.map((message, n) =>
      notification(`e${n}`, { message, bytes: Buffer.byteLength(message) }),
    );
    await outbox.commit(admission(...notifications));
    await reopen();
    await using topic = consume(outbox, TOPIC);
    assert.deepEqual(
      (await topic.next(odd.length)).map(({ message }) => message),
      odd,
    );
  });

  for (const [what, damage] of [
    ['a line that is no JSON', `UPDATE parcel SET content = replace(content, '"e2"', 'e2"')`],
    ['a line without its end', `UPDATE parcel SET content = replace(content, '}' || char(10) || '[2', '}?[2')`],
    ['a line without its middle', `UPDATE parcel SET content = replace(content, char(9) || '{"event":"e2"', '')`],
    ['a message that is cut off', `UPDATE parcel SET content = replace(content, '"event":"e2"', '"event":')`],
    ['a line whose number is another', `UPDATE parcel SET content = replace(content, '[1,', '[9,')`],
    ['content that is no text', `UPDATE parcel SET content = x'ff00ff'`],
  ] as const)
    it(`${what} becomes a dead letter, and the other notifications are returned`, async () => {
      await outbox.commit(admission(...numbered(1, 5)));
      await outbox.commit(admission(notification('after')));
      await outbox.close();
      sql(`${damage} WHERE id = 1`);
      outbox = sqliteOutbox({ file });
      await using topic = consume(outbox, TOPIC);
      const dead = () => outbox.health().deadLetters;
      await until('the dead letters', () => dead() > 0);
      await until('what can be read', () => topic.held.at(-1)?.eventId === 'after');
      assert.equal(topic.held.length + dead(), 6);
      assert.equal(depthOf(outbox), topic.held.length);
      const letters = await outbox.deadLetters.find({}, 10);
      assert.ok(letters.every(({ reason, topic }) => reason === 'unreadable' && topic === TOPIC));
      if (what === 'a line that is no JSON') {
        assert.deepEqual(ids(topic.held), ['e1', 'e3', 'e4', 'e5', 'after']);
        assert.match(String(letters[0]?.content.kind === 'raw' && letters[0].content.event), /^\[1,.*e2/);
      }
      await topic.close();
      await reopen();
      await using next = consume(outbox, TOPIC);
      assert.equal((await next.next(6 - letters.length)).length, 6 - letters.length);
      assert.equal(dead(), letters.length, 'each once');
    });
});
