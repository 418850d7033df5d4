/** How the outbox handles other processes and people that touch its files. Needs root to mount a small disk. */
import assert from 'node:assert/strict';
import { copyFile, link, mkdtemp, open as openFile, rename, rm, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { consume } from '../../../test/support/consumer.ts';
import { admission, ids, letter, notification, numbered, TOPIC } from '../../../test/support/outbox.ts';
import { launch, until } from '../../../test/support/process.ts';
import { mountSmallDisk } from '../../../test/support/tmpfs.ts';
import type { PusherError } from '../../errors.ts';
import type { Outbox } from '../outbox.ts';
import { sqliteOutbox } from './sqlite.ts';

describe('the SQLite outbox, with others at its files', () => {
  let folder: string;
  let file: string;
  let outbox: Outbox;
  let logged: string[];
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'outbox-'));
    file = path.join(folder, 'outbox.db');
    logged = [];
    outbox = open();
  });
  afterEach(async () => {
    await outbox.close();
    await rm(folder, { recursive: true, force: true });
  });

  function open(): Outbox {
    const note = (_: object, message: string) => void logged.push(message);
    const log = { error: note, warn: note, info: note, debug: note };
    return sqliteOutbox({ file, log });
  }

  const problem = async (pattern: RegExp): Promise<void> => {
    await until('the fault to show', () => pattern.test(outbox.health().fault ?? ''));
    await assert.rejects(outbox.commit(admission(notification('refused'))), { code: 'OUTBOX_UNUSABLE' });
    assert.match(outbox.fault?.message ?? '', pattern);
  };

  it('refuses events when its file was moved away, and accepts them when it is back', async () => {
    await outbox.commit(admission(notification('kept')));
    await rename(file, `${file}.moved`);
    await problem(/outbox\.db was removed or moved while the daemon had it open: put it back/);
    await rename(`${file}.moved`, file);
    await until('it to be found', () => outbox.health().fault === undefined);
    await outbox.commit(admission(notification('again')));
    await outbox.close();
    outbox = open();
    await using topic = consume(outbox, TOPIC);
    assert.deepEqual(ids(await topic.next(2)), ['kept', 'again']);
  });

  it('refuses events when its WAL was removed', async () => {
    await outbox.commit(admission(notification('kept')));
    await unlink(`${file}-wal`);
    await problem(/outbox\.db-wal was removed or moved/);
  });

  it('refuses events when its file was replaced by a copy', async () => {
    await copyFile(file, `${file}.copy`);
    await rename(`${file}.copy`, file);
    await problem(/was replaced by another file/);
  });

  it('refuses events when its file was truncated', async () => {
    await outbox.commit(admission(...numbered(1, 200)));
    // Everything is in the file, whose size the next opening checks.
    await outbox.close();
    outbox = open();
    await truncate(file, 4_096);
    await problem(/was cut short|is damaged/);
  });

  for (const [what, name, prepare] of [
    ['whose lock was removed', 'outbox.db', () => unlink(`${file}.lock`)],
    ['by another name of the same file', 'second.db', () => link(file, path.join(folder, 'second.db'))],
  ] as const)
    it(`prevents a second daemon from opening an outbox ${what}`, async () => {
      await prepare();
      const script = `
        import { sqliteOutbox } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)};
        try {
          sqliteOutbox({ file: process.argv[1] });
          console.log('opened');
        } catch (error) {
          console.log(error.code, error.message);
        }`;
      const second = await launch(process.execPath, ['--input-type=module', '-e', script, path.join(folder, name)]);
      await second.exited;
      assert.match(second.output(), /OUTBOX_LOCKED outbox .* is open in another process: another daemon, perhaps by/);
      await outbox.commit(admission(notification('kept')));
    });

  it('counts and reports a WAL that a reader blocks, and refuses events at the limit', async () => {
    await outbox.close();
    // The WAL's usual size depends on the disk's.
    await using disk = await mountSmallDisk('96m');
    file = path.join(disk.folder, 'outbox.db');
    outbox = open();
    await outbox.commit(admission(notification('first')));
    const reader = new DatabaseSync(file);
    reader.exec('BEGIN; SELECT * FROM parcel');
    const before = outbox.health().bytes;
    const message = 'x'.repeat(200_000);
    const fill = async () => {
      for (let n = 0; ; n++) await outbox.commit(admission(notification(`fill${n}`, { message })));
    };
    const error = (await fill().catch((fault: unknown) => fault)) as PusherError;
    assert.equal(error.code, 'OUTBOX_UNUSABLE', error.message);
    assert.match(error.message, /has grown to [\d.]+ MB, because another process keeps a read transaction open/);
    assert.ok(outbox.health().bytes > before + 20_000_000);
    await until('it to be said', () =>
      logged.some((line) => /can't empty the outbox's write-ahead log: another process/.test(line)),
    );
    reader.close();
    await until('it to be emptied', () => outbox.health().fault === undefined);
    await outbox.commit(admission(notification('after')));
  });

  it('does not block the event loop while another process writes, and commits afterwards', async () => {
    const writer = new DatabaseSync(file);
    writer.exec('BEGIN IMMEDIATE');
    let done = false;
    const committing = outbox.commit(admission(notification('late'))).then(() => {
      done = true;
    });
    let longest = 0;
    let last = performance.now();
    for (const begin = last; last - begin < 600; ) {
      await new Promise((resolve) => setImmediate(resolve));
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
    }
    assert.equal(done, false);
    // Earlier releases waited 5 s and more at a time: only such a wait fails here, not a busy machine.
    assert.ok(longest < 2_000, `${longest} ms`);
    writer.exec('COMMIT');
    writer.close();
    await committing;
  });

  it('fails only an invalid write, without blaming the disk', async () => {
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    const bad = { ...letter('bad'), content: { kind: 'raw' as const, event: circular } };
    const results = await Promise.allSettled([
      outbox.commit(admission(notification('before'))),
      outbox.deadLetters.put([bad]),
      outbox.commit(admission(notification('behind'))),
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.equal(outbox.health().fault, undefined);
    await using topic = consume(outbox, TOPIC);
    assert.deepEqual(ids(await topic.next(2)), ['before', 'behind']);
  });

  it('reports a damaged page, and is not ready', async () => {
    await outbox.commit(admission(...numbered(1, 2_000, { message: 'x'.repeat(500) })));
    await outbox.close();
    const handle = await openFile(file, 'r+');
    const { size } = await handle.stat();
    // Inner pages of the parcels table, beyond those that a start reads.
    for (let page = 12; page < size / 4_096; page++) await handle.write(Buffer.alloc(64, 0xff), 0, 64, page * 4_096);
    await handle.close();
    try {
      outbox = open();
    } catch (error) {
      assert.match((error as PusherError).message, /is damaged.*outbox\.md/);
      outbox = sqliteOutbox({ file: path.join(folder, 'other.db') });
      return;
    }
    await using topic = consume(outbox, TOPIC);
    const damaged = () => outbox.health().deadLetters > 0 || /is damaged.*outbox\.md/.test(outbox.health().fault ?? '');
    await until('the damage to show', damaged);
    assert.ok(topic.held.length < 2_000);
  });

  it('reports in one line that the disk is too full to start', async () => {
    await using disk = await mountSmallDisk('1m');
    await writeFile(path.join(disk.folder, 'ballast'), Buffer.alloc(1_048_576)).catch(() => undefined);
    const there = path.join(disk.folder, 'outbox.db');
    assert.throws(
      () => sqliteOutbox({ file: there }),
      ({ code, message }: PusherError) =>
        code === 'OUTBOX_UNUSABLE' && message === `outbox ${there} can't grow: the disk is full`,
    );
  });
});
