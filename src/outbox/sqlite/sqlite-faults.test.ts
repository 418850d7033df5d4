/** How the outbox handles an unusable file, a failing disk, and a second daemon. Needs root to mount a small disk. */
import assert from 'node:assert/strict';
import fs, { copyFileSync } from 'node:fs';
import {
  chown,
  mkdir,
  mkdtempDisposable,
  open as openFile,
  readdir,
  readFile,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, it, type TestContext } from 'node:test';
import { consume } from '../../../test/support/consumer.ts';
import { beforeEachWithFile } from '../../../test/support/new-file.ts';
import {
  admission,
  notification as anyNotification,
  commitAs,
  ids,
  lastOf,
  TOPIC,
} from '../../../test/support/outbox.ts';
import { launch, until } from '../../../test/support/process.ts';
import { mountSmallDisk } from '../../../test/support/tmpfs.ts';
import { PusherError } from '../../errors.ts';
import type { Outbox, Stored } from '../outbox.ts';
import { openDatabase, ownerProblem } from './schema.ts';
import { sqliteOutbox } from './sqlite.ts';

const notification = (eventId: string, message = '{}') => anyNotification(eventId, { message, bytes: message.length });

/** Returns the error with which an outbox refuses to open; fails if it opens. */
async function faultOf(file: string): Promise<PusherError> {
  let outbox: Outbox;
  try {
    outbox = sqliteOutbox({ file });
  } catch (error) {
    assert.ok(error instanceof PusherError, `a fault of our own, not ${error}`);
    assert.doesNotMatch(error.message, /\n/, 'one line');
    assert.ok(error.message.includes(file), `names the file: ${error.message}`);
    return error;
  }
  await outbox.close();
  throw new Error('it opened');
}

describe('SQLite outbox, when something is wrong', () => {
  let folder: string;
  let file: string;
  beforeEachWithFile((at) => {
    ({ folder, file } = at);
  });

  it('reports a file that is not a database', async () => {
    await writeFile(file, 'just some text, and more of it than a header has: '.repeat(50));
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(
      fault.message,
      /is damaged, or is not an SQLite database: .* backup, save what can be read.* move it away.*outbox\.md/,
    );
  });

  it('reports a file damaged behind an intact header, and leaves it unchanged', async () => {
    const outbox = sqliteOutbox({ file });
    for (let n = 0; n < 50; n++) await outbox.commit(admission(notification(`e${n}`, 'x'.repeat(2_000))));
    await outbox.close();
    const handle = await openFile(file, 'r+');
    const { size } = await handle.stat();
    await handle.write(Buffer.alloc(size - 4_096, 0xff), 0, size - 4_096, 4_096);
    await handle.close();
    const before = await readFile(file);
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /is damaged/);
    assert.deepEqual(await readFile(file), before);
  });

  it("reports another program's database", async () => {
    const database = new DatabaseSync(file);
    database.exec('CREATE TABLE theirs (id INTEGER)');
    database.close();
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /is another program's SQLite database; set outbox\.path/);
  });

  it('reports a file from a newer release', async () => {
    await sqliteOutbox({ file }).close();
    const database = new DatabaseSync(file);
    database.exec('PRAGMA user_version = 99');
    database.close();
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /was written by a newer release \(schema 99, this one knows \d+\); run that one/);
  });

  it('accepts an empty file as a new one, and removes too open permissions', async () => {
    await writeFile(file, '', { mode: 0o666 });
    await sqliteOutbox({ file }).close();
    assert.equal((await stat(file)).mode & 0o777, 0o600);
  });

  it("gives what root creates to the folder's owner, and names a file that belongs to somebody else", async () => {
    const nobody = 65_534;
    await using own = await mkdtempDisposable(path.join(tmpdir(), 'outbox-'));
    const [place, outboxFile] = [own.path, path.join(own.path, 'outbox.db')];
    await chown(place, nobody, nobody);
    const outbox = sqliteOutbox({ file: outboxFile });
    const owners = await Promise.all(
      (await readdir(place)).map(async (name) => `${name} ${(await stat(path.join(place, name))).uid}`),
    );
    const names = ['', '-shm', '-wal', '.lock', '.reserve'].map((end) => `outbox.db${end} ${nobody}`);
    assert.deepEqual(owners.toSorted(), names.toSorted());
    await outbox.close();
    assert.equal(ownerProblem(outboxFile), undefined);

    await chown(`${outboxFile}.lock`, 0, 0);
    const seen = `${outboxFile}.lock belongs to root, and its folder to user ${nobody}`;
    const advice = `run \`chown --reference=${place} ${outboxFile}*\` as root`;
    assert.deepEqual(ownerProblem(outboxFile), { seen, advice });
    process.seteuid?.(nobody);
    const fault = faultOf(outboxFile);
    process.seteuid?.(0);
    assert.equal((await fault).message, `outbox ${outboxFile} can't be written: ${seen}: ${advice}`);
  });

  it('reports a missing folder, and a folder in place of the file', async () => {
    const nowhere = await faultOf(path.join(folder, 'nowhere', 'outbox.db'));
    assert.equal(nowhere.code, 'OUTBOX_UNUSABLE');
    assert.match(nowhere.message, /can't be created: the folder .*nowhere does not exist$/);
    await mkdir(file, { mode: 0o755 });
    const inPlace = await faultOf(file);
    assert.equal(inPlace.code, 'OUTBOX_UNUSABLE');
    assert.match(inPlace.message, /is a folder; set outbox\.path to a file$/);
    assert.equal((await stat(file)).mode & 0o777, 0o755, 'left as it was');
  });

  it('reports to the command line that there is no file yet, and creates none', async () => {
    assert.throws(() => openDatabase(file, { create: false }), {
      code: 'OUTBOX_UNUSABLE',
      message: `outbox ${file} does not exist: the daemon creates it at its first start`,
    });
    await assert.rejects(stat(file), { code: 'ENOENT' });
  });

  it('reports a read-only disk', async () => {
    await using disk = await mountSmallDisk('4m');
    const onDisk = path.join(disk.folder, 'outbox.db');
    await sqliteOutbox({ file: onDisk }).close();
    await disk.makeReadOnly();
    const fault = await faultOf(onDisk);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /can't be written: check the owner and mode of the file and its folder/);
  });

  it('refuses a second daemon, names the first, and is available again however the first ends', async () => {
    const script = `
      import { sqliteOutbox } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)};
      sqliteOutbox({ file: process.argv[1] });
      process.stdout.write('open\\n');
      setInterval(() => {}, 1_000);`;
    const first = await launch(process.execPath, ['--input-type=module', '-e', script, file]);
    await until('the first daemon', () => first.output().includes('open'));
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_LOCKED');
    assert.equal(
      fault.message,
      `outbox ${file} is in use by another daemon (process ${first.pid}); each needs its own file`,
    );
    // The command line still works beside a running daemon.
    openDatabase(file, { create: false }).close();
    await first.end('SIGKILL');
    await sqliteOutbox({ file }).close();
  });

  it("releases its lock if it can't open the file", async () => {
    await writeFile(file, 'no database, but long enough to be taken for one: '.repeat(50));
    await faultOf(file);
    await unlink(file);
    await sqliteOutbox({ file }).close();
  });

  it('refuses new events on a full disk, keeps the old ones, and recovers when there is space', async () => {
    await using disk = await mountSmallDisk('2m');
    const onDisk = path.join(disk.folder, 'outbox.db');
    const outbox = sqliteOutbox({ file: onDisk });
    const ballast = path.join(disk.folder, 'ballast');
    await outbox.commit(admission(notification('kept')));
    await writeFile(ballast, Buffer.alloc(2_000_000)).catch(() => undefined);

    const big = () => commitAs(outbox, 's', 'x', 5, admission(notification('refused', 'x'.repeat(500_000))));
    const fault = (await big().catch((error: unknown) => error)) as PusherError;
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.equal(fault.message, `outbox ${onDisk} can't grow: the disk is full`);
    assert.equal(outbox.health().fault, fault.message);
    assert.equal(await lastOf(outbox, 's', 'x'), undefined, 'the position is part of what was refused');
    assert.equal(outbox.health().topics[0]?.depth, 1);

    // A verdict waits for the disk instead of being lost.
    const topic = consume(outbox, TOPIC);
    const [kept] = (await topic.next(1)) as [Stored];
    assert.equal(kept.eventId, 'kept');
    const settled = topic.settle(kept);
    await unlink(ballast);
    await settled;
    await until('the disk to be usable again', () => outbox.health().fault === undefined);
    await commitAs(outbox, 's', 'x', 5, admission(notification('now')));
    assert.equal(outbox.health().fault, undefined);
    assert.equal(await lastOf(outbox, 's', 'x'), 5);
    await outbox.close();

    const again = sqliteOutbox({ file: onDisk });
    assert.deepEqual(ids(await consume(again, TOPIC).rest()), ['now']);
    await again.close();
  });

  it('settles notifications on a disk that the outbox itself filled, also after a kill', async () => {
    await using disk = await mountSmallDisk('6m');
    const onDisk = path.join(disk.folder, 'outbox.db');
    let outbox = sqliteOutbox({ file: onDisk });
    let committed = 0;
    const fill = async () => {
      for (;;) {
        const batch = Array.from({ length: 20 }, (_, n) => notification(`e${committed + n}`, 'x'.repeat(1_000)));
        await outbox.commit(admission(...batch));
        committed += batch.length;
      }
    };
    await assert.rejects(fill, { code: 'OUTBOX_UNUSABLE', message: /the disk is full/ });
    assert.ok(committed > 1_000, `${committed} fitted`);
    const depth = () => outbox.health().topics[0]?.depth ?? 0;

    let topic = consume(outbox, TOPIC);
    for (let round = 0; depth() !== 0; round++) {
      await topic.settle(...(await topic.next(Math.min(100, depth()))));
      if (round !== 3) continue;
      // As after a kill: unsettled notifications are still there, and a start needs room too.
      await topic.close();
      await outbox.close();
      outbox = sqliteOutbox({ file: onDisk });
      topic = consume(outbox, TOPIC);
    }
    await until('the disk to be usable again', () => outbox.health().fault === undefined);
    await outbox.commit(admission(notification('again')));
    assert.deepEqual(ids(await topic.next(1)), ['again']);
    await outbox.close();
  });

  it('keeps a verdict until it is on disk, and refuses new events meanwhile', async (t) => {
    const outbox = sqliteOutbox({ file });
    await outbox.commit(admission(notification('delivered')));
    const topic = consume(outbox, TOPIC);
    const [row] = (await topic.next(1)) as [Stored];
    const exec = t.mock.method(DatabaseSync.prototype, 'exec', () => {
      throw Object.assign(new Error('disk I/O error'), { errcode: 10 });
    });
    let settled = false;
    const settling = topic.settle(row).then(() => {
      settled = true;
    });
    await until('the fault to show', () => outbox.health().fault !== undefined);
    assert.equal(outbox.health().fault, `outbox ${file} can't be used: disk I/O error`);
    await assert.rejects(outbox.commit(admission(notification('refused'))), { code: 'OUTBOX_UNUSABLE' });
    assert.equal(settled, false);
    exec.mock.restore();
    await settling;
    await until('the fault to be over', () => outbox.health().fault === undefined);
    await outbox.commit(admission(notification('after it')));
    await outbox.close();
    const again = sqliteOutbox({ file });
    assert.deepEqual(
      (await consume(again, TOPIC).rest()).map(({ seq, eventId }) => [seq > row.seq, eventId]),
      [[true, 'after it']],
      'no number is given twice',
    );
    await again.close();
  });

  describe('while the disk syncs', () => {
    /** Delays or fails syncs of the WAL until the end of the test, as `sync` decides. */
    function interceptSyncs(t: TestContext, sync: (done: (error: Error | null) => void) => void): void {
      t.mock.method(fs, 'fdatasync', (_: number, done: (error: Error | null) => void) => sync(done));
      syncBuiltinESMExports();
      t.after(() => {
        t.mock.restoreAll();
        syncBuiltinESMExports();
      });
    }

    /** Commits `kept`, whose sync fails; returns the fault and the error of a simultaneous commit. */
    async function failOneSync(t: TestContext, outbox: Outbox, onKept = () => {}): Promise<[string, PusherError]> {
      const failed = Promise.withResolvers<[string, PusherError]>();
      interceptSyncs(t, (done) => {
        done(Object.assign(new Error('i/o error, fdatasync'), { code: 'EIO' }));
        const fault = String(outbox.health().fault);
        const refused = outbox.commit(admission(notification('refused')));
        refused.catch((error: PusherError) => failed.resolve([fault, error]));
        t.mock.restoreAll();
        syncBuiltinESMExports();
      });
      void outbox.commit(admission(notification('kept'))).then(onKept);
      return failed.promise;
    }

    it('neither acknowledges nor publishes an event before its sync, and keeps the order', async (t) => {
      const syncs: ((error: Error | null) => void)[] = [];
      interceptSyncs(t, (done) => syncs.push(done));
      const outbox = sqliteOutbox({ file });
      const done: string[] = [];
      const cursor = await outbox.source('s', 'x');
      const commit = async (id: string) => {
        await outbox.commit(admission(notification(id)));
        done.push(id);
      };
      let topic = consume(outbox, TOPIC);
      const first = cursor
        .commit(admission(notification('first')), { last: 5, missing: 0 })
        .then(() => done.push('first'));
      await until('the first sync', () => syncs.length === 1);
      const rest = [commit('second'), commit('third')];
      await until('all to be committed', () => outbox.health().topics[0]?.depth === 3);
      assert.deepEqual(await topic.rest(), []);
      await topic.close();
      topic = consume(outbox, TOPIC);
      assert.deepEqual(await topic.rest(), [], 'nor is it read from the file');
      assert.equal(cursor.last, undefined);
      assert.deepEqual(done, []);
      syncs[0]?.(null);
      await first;
      assert.deepEqual(ids(await topic.next(1)), ['first']);
      assert.equal(cursor.last, 5);
      assert.deepEqual(done, ['first']);
      // Commits made meanwhile share one sync.
      assert.equal(syncs.length, 2);
      syncs[1]?.(null);
      await Promise.all(rest);
      assert.deepEqual(ids(await topic.next(2)), ['second', 'third']);
      await outbox.close();
    });

    it('settles notifications without waiting for a sync', async (t) => {
      const outbox = sqliteOutbox({ file });
      await outbox.commit(admission(notification('delivered')));
      interceptSyncs(t, () => undefined);
      const topic = consume(outbox, TOPIC);
      await topic.settle(...(await topic.next(1)));
      assert.equal(outbox.health().topics[0]?.depth, 0);
      await outbox.close();
    });

    it('after a failed sync acknowledges only events that reached the disk another way', async (t) => {
      const outbox = sqliteOutbox({ file });
      const [fault, refused] = await failOneSync(t, outbox);
      assert.equal(fault, `outbox ${file} can't be used: i/o error, fdatasync`);
      assert.equal(refused.code, 'OUTBOX_UNUSABLE');
      await until('the fault to be over', () => outbox.health().fault === undefined);
      assert.deepEqual(ids(await consume(outbox, TOPIC).next(1)), ['kept']);
      await outbox.close();
    });

    it("does not trust a later sync after a failed one while the WAL can't be checkpointed", async (t) => {
      const outbox = sqliteOutbox({ file });
      await outbox.commit(admission(notification('before')));
      // A reader of the WAL prevents checkpoints.
      const reader = new DatabaseSync(file);
      reader.exec('BEGIN; SELECT * FROM parcel');
      let kept = false;
      await failOneSync(t, outbox, () => {
        kept = true;
      });
      const topic = consume(outbox, TOPIC);
      void topic.settle(...(await topic.next(1)));
      await until('the recovery to say why it fails', () =>
        /another process reads it/.test(outbox.health().fault ?? ''),
      );
      assert.equal(kept, false);
      assert.deepEqual(await topic.rest(), []);
      reader.close();
      await until('the fault to be over', () => outbox.health().fault === undefined);
      assert.equal(kept, true);
      assert.deepEqual(ids(await topic.next(1)), ['kept']);
      await outbox.close();
    });

    it('every acknowledged event survives a power failure at any moment', async (t) => {
      const real = fs.fdatasync;
      let began = 0;
      let synced = 0;
      /** What is certainly on disk after a sync: what existed when it began. */
      const copyOf = (sync: number) => path.join(folder, `power-${sync}.db`);
      t.mock.method(fs, 'fdatasync', (log: number, done: (error: Error | null) => void) => {
        const sync = ++began;
        for (const end of ['', '-wal']) copyFileSync(file + end, copyOf(sync) + end);
        real(log, (error) => {
          synced = sync;
          done(error);
        });
      });
      syncBuiltinESMExports();
      t.after(() => {
        t.mock.restoreAll();
        syncBuiltinESMExports();
      });
      const outbox = sqliteOutbox({ file });
      const acknowledged = new Map<string, number>();
      const commits: Promise<void>[] = [];
      // Independent of the disk's idea of a sync.
      for (let n = 0; n < 300 || synced <= 5; n++) {
        commits.push(
          outbox.commit(admission(notification(`e${n}`))).then(() => void acknowledged.set(`e${n}`, synced)),
        );
        if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(commits);
      await outbox.close();
      assert.ok(synced > 5, `${synced} syncs`);
      for (let sync = 1; sync <= synced; sync++) {
        const copy = new DatabaseSync(copyOf(sync));
        const has = copy
          .prepare('SELECT content FROM parcel')
          .all()
          .map((row) => String(row.content))
          .join('');
        copy.close();
        for (const [id, after] of acknowledged)
          if (after <= sync) assert.ok(has.includes(`"${id}"`), `${id} after sync ${sync}`);
      }
    });
  });

  it('opens the WAL beside the target of a symbolic link', async () => {
    const elsewhere = path.join(folder, 'elsewhere');
    await mkdir(elsewhere);
    await sqliteOutbox({ file }).close();
    const link = path.join(elsewhere, 'link.db');
    await symlink(file, link);
    const outbox = sqliteOutbox({ file: link });
    await outbox.commit(admission(notification('linked')));
    assert.throws(() => sqliteOutbox({ file }), { code: 'OUTBOX_LOCKED' });
    await outbox.close();
    assert.deepEqual(await readdir(elsewhere), ['link.db']);
  });

  it('a disk error fails the whole group of commits and keeps nothing of it', async () => {
    await using disk = await mountSmallDisk('2m');
    const outbox = sqliteOutbox({ file: path.join(disk.folder, 'outbox.db') });
    const group = ['a', 'b', 'c'].map((id) => outbox.commit(admission(notification(id, 'x'.repeat(1_000_000)))));
    for (const result of await Promise.allSettled(group)) {
      assert.equal(result.status, 'rejected');
      assert.equal((result.reason as PusherError).code, 'OUTBOX_UNUSABLE');
    }
    const topic = consume(outbox, TOPIC);
    assert.deepEqual(await topic.rest(), []);
    await until('the disk to be usable again', () => outbox.health().fault === undefined);
    await outbox.commit(admission(notification('small')));
    assert.deepEqual(ids(await topic.next(1)), ['small']);
    await outbox.close();
  });
});
