/** What the outbox does about a file that it can't use, a disk that fails, and a second daemon. Needs root, to mount a small disk. */
import assert from 'node:assert/strict';
import fs, { copyFileSync } from 'node:fs';
import {
  mkdir,
  mkdtemp,
  open as openFile,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, beforeEach, describe, it, type TestContext } from 'node:test';
import { launch, until } from '../../../test/support/process.ts';
import { mountSmallDisk } from '../../../test/support/tmpfs.ts';
import { PusherError } from '../../errors.ts';
import type { Notification } from '../../notification/notification.ts';
import type { Intake, Outbox, Stored } from '../outbox.ts';
import { openDatabase } from './schema.ts';
import { openSqliteOutbox } from './sqlite.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:a';

const notification = (eventId: string, message = '{}'): Notification => ({
  eventId,
  topic: TOPIC,
  orderKey: 'alice@localhost',
  at: 1,
  message,
  attributes: [],
  bytes: message.length,
});

const intake = (...notifications: Notification[]): Intake => ({ position: undefined, notifications, deadLetters: [] });

/** The fault with which an outbox refuses to open; closes it and fails where it opens. */
async function faultOf(file: string): Promise<PusherError> {
  let outbox: Outbox;
  try {
    outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
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
  let files = 0;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'outbox-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  beforeEach(() => {
    file = path.join(folder, `${++files}.db`);
  });

  it('names a file that is no database', async () => {
    await writeFile(file, 'just some text, and more of it than a header has: '.repeat(50));
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /is damaged, or no SQLite database: move it away to start empty/);
  });

  it('names a file that is damaged behind an intact header, and leaves it as it is', async () => {
    const outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
    for (let n = 0; n < 50; n++) await outbox.commit(intake(notification(`e${n}`, 'x'.repeat(2_000))));
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

  it("names another program's database", async () => {
    const database = new DatabaseSync(file);
    database.exec('CREATE TABLE theirs (id INTEGER)');
    database.close();
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /is another program's SQLite database; set outbox\.path/);
  });

  it('names a file that a newer release wrote', async () => {
    await openSqliteOutbox({ file, maxBytes: 1e9 }).close();
    const database = new DatabaseSync(file);
    database.exec('PRAGMA user_version = 99');
    database.close();
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /was written by a newer release \(schema 99, this one knows \d+\); run that one/);
  });

  it('takes an empty file for a new one, and closes what was open too far', async () => {
    await writeFile(file, '', { mode: 0o666 });
    await openSqliteOutbox({ file, maxBytes: 1e9 }).close();
    assert.equal((await stat(file)).mode & 0o777, 0o600);
  });

  it('names a folder that is not there, and a folder where the file should be', async () => {
    const nowhere = await faultOf(path.join(folder, 'nowhere', 'outbox.db'));
    assert.equal(nowhere.code, 'OUTBOX_UNUSABLE');
    assert.match(nowhere.message, /can't be made: there is no folder .*nowhere$/);
    await mkdir(file, { mode: 0o755 });
    const inPlace = await faultOf(file);
    assert.equal(inPlace.code, 'OUTBOX_UNUSABLE');
    assert.match(inPlace.message, /is a folder; set outbox\.path to a file$/);
    assert.equal((await stat(file)).mode & 0o777, 0o755, 'left as it was');
  });

  it('tells the command line that there is no file yet, and makes none', async () => {
    assert.throws(() => openDatabase(file, { create: false }), {
      code: 'OUTBOX_UNUSABLE',
      message: `outbox ${file} does not exist: the daemon makes it at its first start`,
    });
    await assert.rejects(stat(file), { code: 'ENOENT' });
  });

  it('names a disk that is read-only', async () => {
    await using disk = await mountSmallDisk('4m');
    const onDisk = path.join(disk.folder, 'outbox.db');
    await openSqliteOutbox({ file: onDisk, maxBytes: 1e9 }).close();
    await disk.makeReadOnly();
    const fault = await faultOf(onDisk);
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.match(fault.message, /can't be written: check the owner and mode of the file and its folder/);
  });

  it('keeps a second daemon out, names the first, and is free again however that ends', async () => {
    const script = `
      import { openSqliteOutbox } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)};
      openSqliteOutbox({ file: process.argv[1], maxBytes: 1e9 });
      process.stdout.write('open\\n');
      setInterval(() => {}, 1_000);`;
    const first = await launch(process.execPath, ['--input-type=module', '-e', script, file]);
    await until('the first daemon', () => first.output().includes('open'));
    const fault = await faultOf(file);
    assert.equal(fault.code, 'OUTBOX_LOCKED');
    assert.equal(
      fault.message,
      `outbox ${file} is in use by another daemon (process ${first.pid}); each needs a file of its own`,
    );
    // The command line works beside a running daemon all the same.
    openDatabase(file, { create: false }).close();
    await first.end('SIGKILL');
    await openSqliteOutbox({ file, maxBytes: 1e9 }).close();
  });

  it('frees its lock when it could not open the file', async () => {
    await writeFile(file, 'no database, but long enough to be taken for one: '.repeat(50));
    await faultOf(file);
    await unlink(file);
    await openSqliteOutbox({ file, maxBytes: 1e9 }).close();
  });

  it('refuses what does not fit on a full disk, keeps what it had, and goes on by itself when there is room', async () => {
    await using disk = await mountSmallDisk('2m');
    const onDisk = path.join(disk.folder, 'outbox.db');
    const outbox = openSqliteOutbox({ file: onDisk, maxBytes: 1e9 });
    const ballast = path.join(disk.folder, 'ballast');
    await outbox.commit(intake(notification('kept')));
    await writeFile(ballast, Buffer.alloc(2_000_000)).catch(() => undefined);

    const big = () => outbox.commit({ ...intake(notification('refused', 'x'.repeat(500_000))), position: POSITION });
    const fault = (await big().catch((error: unknown) => error)) as PusherError;
    assert.equal(fault.code, 'OUTBOX_UNUSABLE');
    assert.equal(fault.message, `outbox ${onDisk} can't grow: the disk is full`);
    assert.equal(outbox.state().fault, fault.message);
    assert.equal(outbox.positionOf('s', 'x'), 0, 'the position is part of what was refused');
    assert.equal(outbox.state().topics[0]?.depth, 1);

    // A verdict waits for the disk instead of being lost.
    const [kept] = (await outbox.take(TOPIC, 10)) as [Stored];
    assert.equal(kept.eventId, 'kept');
    const settled = outbox.settle([{ notification: kept }]);
    await unlink(ballast);
    await settled;
    await until('the disk to be usable again', () => outbox.state().fault === undefined);
    await outbox.commit({ ...intake(notification('now')), position: POSITION });
    assert.equal(outbox.state().fault, undefined);
    assert.equal(outbox.positionOf('s', 'x'), 5);
    await outbox.close();

    const again = openSqliteOutbox({ file: onDisk, maxBytes: 1e9 });
    assert.deepEqual(
      (await again.take(TOPIC, 10)).map(({ eventId }) => eventId),
      ['now'],
    );
    await again.close();
  });

  it('strikes out what SNS has on a disk that its own notifications filled, also after a kill, and goes on', async () => {
    await using disk = await mountSmallDisk('6m');
    const onDisk = path.join(disk.folder, 'outbox.db');
    let outbox = openSqliteOutbox({ file: onDisk, maxBytes: 1e9 });
    let committed = 0;
    const fill = async () => {
      for (;;) {
        const batch = Array.from({ length: 20 }, (_, n) => notification(`e${committed + n}`, 'x'.repeat(1_000)));
        await outbox.commit(intake(...batch));
        committed += batch.length;
      }
    };
    await assert.rejects(fill, { code: 'OUTBOX_UNUSABLE', message: /the disk is full/ });
    assert.ok(committed > 1_000, `${committed} fitted`);
    const depth = () => outbox.state().topics[0]?.depth;

    for (let round = 0; depth() !== 0; round++) {
      const taken = await outbox.take(TOPIC, 100);
      await outbox.settle(taken.map((notification) => ({ notification })));
      if (round !== 3) continue;
      // As after a kill: what was not settled is still there, and a start needs room too.
      await outbox.close();
      outbox = openSqliteOutbox({ file: onDisk, maxBytes: 1e9 });
    }
    await until('the disk to be usable again', () => outbox.state().fault === undefined);
    await outbox.commit(intake(notification('again')));
    assert.deepEqual(
      (await outbox.take(TOPIC, 10)).map(({ eventId }) => eventId),
      ['again'],
    );
    await outbox.close();
  });

  it('keeps a verdict until the disk takes it, and takes nothing new meanwhile', async (t) => {
    const outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
    await outbox.commit(intake(notification('delivered')));
    const [row] = (await outbox.take(TOPIC, 1)) as [Stored];
    const exec = t.mock.method(DatabaseSync.prototype, 'exec', () => {
      throw Object.assign(new Error('disk I/O error'), { errcode: 10 });
    });
    let settled = false;
    const settling = outbox.settle([{ notification: row }]).then(() => {
      settled = true;
    });
    await until('the fault to show', () => outbox.state().fault !== undefined);
    assert.equal(outbox.state().fault, `outbox ${file} can't be used: disk I/O error`);
    await assert.rejects(outbox.commit(intake(notification('refused'))), { code: 'OUTBOX_UNUSABLE' });
    assert.equal(settled, false);
    exec.mock.restore();
    await settling;
    await until('the fault to be over', () => outbox.state().fault === undefined);
    await outbox.commit(intake(notification('after it')));
    await outbox.close();
    const again = openSqliteOutbox({ file, maxBytes: 1e9 });
    assert.deepEqual(
      (await again.take(TOPIC, 10)).map(({ seq, eventId }) => [seq, eventId]),
      [[2, 'after it']],
      'no number is given twice',
    );
    await again.close();
  });

  describe('while the disk syncs', () => {
    /** Lets syncs of the log wait, or fail, as `sync` says; until the test is over. */
    function interceptSyncs(t: TestContext, sync: (done: (error: Error | null) => void) => void): void {
      t.mock.method(fs, 'fdatasync', (_: number, done: (error: Error | null) => void) => sync(done));
      syncBuiltinESMExports();
      t.after(() => {
        t.mock.restoreAll();
        syncBuiltinESMExports();
      });
    }
    const ids = (list: readonly Stored[]) => list.map(({ eventId }) => eventId);

    /** Commits `kept`, whose sync fails; answers the fault then, and what another commit got in that moment. */
    async function failOneSync(t: TestContext, outbox: Outbox, onKept = () => {}): Promise<[string, PusherError]> {
      const failed = Promise.withResolvers<[string, PusherError]>();
      interceptSyncs(t, (done) => {
        done(Object.assign(new Error('i/o error, fdatasync'), { code: 'EIO' }));
        const fault = String(outbox.state().fault);
        const refused = outbox.commit(intake(notification('refused')));
        refused.catch((error: PusherError) => failed.resolve([fault, error]));
        t.mock.restoreAll();
        syncBuiltinESMExports();
      });
      void outbox.commit(intake(notification('kept'))).then(onKept);
      return failed.promise;
    }

    it('neither acknowledges nor publishes what a loss of power could undo, and loses no order', async (t) => {
      const syncs: ((error: Error | null) => void)[] = [];
      interceptSyncs(t, (done) => syncs.push(done));
      const outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
      const done: string[] = [];
      const commit = async (id: string) => {
        await outbox.commit({ ...intake(notification(id)), position: POSITION });
        done.push(id);
      };
      const first = commit('first');
      await until('the first sync', () => syncs.length === 1);
      const rest = [commit('second'), commit('third')];
      await until('all to be committed', () => outbox.state().topics[0]?.depth === 3);
      assert.deepEqual(await outbox.take(TOPIC, 10), []);
      outbox.rewind();
      assert.deepEqual(await outbox.take(TOPIC, 10), [], 'nor is it read from the file');
      assert.equal(outbox.positionOf('s', 'x'), 0);
      assert.deepEqual(done, []);
      syncs[0]?.(null);
      await first;
      assert.deepEqual(ids(await outbox.take(TOPIC, 10)), ['first']);
      assert.deepEqual(done, ['first']);
      // What was committed meanwhile shares one.
      assert.equal(syncs.length, 2);
      syncs[1]?.(null);
      await Promise.all(rest);
      assert.deepEqual(ids(await outbox.take(TOPIC, 10)), ['second', 'third']);
      assert.equal(outbox.positionOf('s', 'x'), 5);
      await outbox.close();
    });

    it('strikes out what SNS has without waiting for it', async (t) => {
      const outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
      await outbox.commit(intake(notification('delivered')));
      interceptSyncs(t, () => undefined);
      const [row] = (await outbox.take(TOPIC, 1)) as [Stored];
      await outbox.settle([{ notification: row }]);
      assert.equal(outbox.state().topics[0]?.depth, 0);
      await outbox.close();
    });

    it('acknowledges after a sync that failed only what another way has brought to the disk', async (t) => {
      const outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
      const [fault, refused] = await failOneSync(t, outbox);
      assert.equal(fault, `outbox ${file} can't be used: i/o error, fdatasync`);
      assert.equal(refused.code, 'OUTBOX_UNUSABLE');
      await until('the fault to be over', () => outbox.state().fault === undefined);
      assert.deepEqual(ids(await outbox.take(TOPIC, 10)), ['kept']);
      await outbox.close();
    });

    it('takes no later sync for the one that failed, while its log can not be emptied', async (t) => {
      const outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
      await outbox.commit(intake(notification('before')));
      // Who reads the log keeps it from being emptied.
      const reader = new DatabaseSync(file);
      reader.exec('BEGIN; SELECT * FROM notification');
      let kept = false;
      await failOneSync(t, outbox, () => {
        kept = true;
      });
      const [before] = (await outbox.take(TOPIC, 1)) as [Stored];
      void outbox.settle([{ notification: before }]);
      await until('the recovery to say why it fails', () =>
        /another process reads it/.test(outbox.state().fault ?? ''),
      );
      assert.equal(kept, false);
      assert.deepEqual(await outbox.take(TOPIC, 10), []);
      reader.close();
      await until('the fault to be over', () => outbox.state().fault === undefined);
      assert.equal(kept, true);
      assert.deepEqual(ids(await outbox.take(TOPIC, 10)), ['kept']);
      await outbox.close();
    });

    it('has on disk what it acknowledged, whenever the power fails', async (t) => {
      const real = fs.fdatasync;
      let began = 0;
      let synced = 0;
      /** What is certainly on the disk when a sync is over: what was there when it began. */
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
      const outbox = openSqliteOutbox({ file, maxBytes: 1e9 });
      const acknowledged = new Map<string, number>();
      const commits: Promise<void>[] = [];
      // Whatever the disk takes for a sync.
      for (let n = 0; n < 300 || synced <= 5; n++) {
        commits.push(outbox.commit(intake(notification(`e${n}`))).then(() => void acknowledged.set(`e${n}`, synced)));
        if (n % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(commits);
      await outbox.close();
      assert.ok(synced > 5, `${synced} syncs`);
      for (let sync = 1; sync <= synced; sync++) {
        const copy = new DatabaseSync(copyOf(sync));
        const has = new Set(
          copy
            .prepare('SELECT event_id FROM notification')
            .all()
            .map((row) => row.event_id),
        );
        copy.close();
        for (const [id, after] of acknowledged) if (after <= sync) assert.ok(has.has(id), `${id} after sync ${sync}`);
      }
    });
  });

  it('finds its log where a link points to', async () => {
    const elsewhere = path.join(folder, 'elsewhere');
    await mkdir(elsewhere);
    await openSqliteOutbox({ file, maxBytes: 1e9 }).close();
    const link = path.join(elsewhere, 'link.db');
    await symlink(file, link);
    const outbox = openSqliteOutbox({ file: link, maxBytes: 1e9 });
    await outbox.commit(intake(notification('linked')));
    assert.throws(() => openSqliteOutbox({ file, maxBytes: 1e9 }), { code: 'OUTBOX_LOCKED' });
    await outbox.close();
    assert.deepEqual(await readdir(elsewhere), ['link.db']);
  });

  it('fails a whole group and keeps nothing of it when the disk fails it', async () => {
    await using disk = await mountSmallDisk('2m');
    const outbox = openSqliteOutbox({ file: path.join(disk.folder, 'outbox.db'), maxBytes: 1e9 });
    const group = ['a', 'b', 'c'].map((id) => outbox.commit(intake(notification(id, 'x'.repeat(1_000_000)))));
    for (const result of await Promise.allSettled(group)) {
      assert.equal(result.status, 'rejected');
      assert.equal((result.reason as PusherError).code, 'OUTBOX_UNUSABLE');
    }
    assert.deepEqual(await outbox.take(TOPIC, 10), []);
    await until('the disk to be usable again', () => outbox.state().fault === undefined);
    await outbox.commit(intake(notification('small')));
    const taken = await outbox.take(TOPIC, 10);
    assert.deepEqual(
      taken.map(({ seq, eventId }) => [seq, eventId]),
      [[1, 'small']],
    );
    await outbox.close();
  });
});

const POSITION = { source: 's', epoch: 'x', last: 5, missing: 0 };
