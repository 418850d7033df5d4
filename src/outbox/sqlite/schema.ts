/** The SQLite file of the embedded outbox: opening it, its tables, and the lock that keeps a second daemon out. */
import { chmodSync, closeSync, existsSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { messageOf, PusherError } from '../../errors.ts';
import { createPrivate, foreignFile } from '../../private-file.ts';
import { shellWord } from '../../quote.ts';

// "xevp" in ASCII: identifies our file among SQLite databases
// (https://www.sqlite.org/pragma.html#pragma_application_id).
const APPLICATION_ID = 0x78657670;
/** Version of the tables; 1 had a row for each notification. */
export const VERSION = 2;

/** The tables of `parcels.ts`, which files of schema 1 lack. Columns read for many rows come before the content. */
export const PARCELS = `
  CREATE TABLE parcel (
    id INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    content TEXT NOT NULL
  );
  CREATE TABLE settled (parcel INTEGER PRIMARY KEY, places BLOB NOT NULL);
`;

/** The table for unacknowledged holes. */
export const HOLES = `
  CREATE TABLE hole (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    epoch TEXT NOT NULL,
    first INTEGER,
    last INTEGER,
    missing INTEGER NOT NULL,
    at INTEGER NOT NULL
  );
`;

// AUTOINCREMENT only where a number must not be reused: a person may keep a dead letter's id. With dead_letter_reason
// they are counted without reading their content. Transactions that change `topic.depth` store it, so that a start does
// not have to count a million rows.
const TABLES = `${PARCELS} ${HOLES}
  CREATE TABLE topic (id INTEGER PRIMARY KEY, arn TEXT NOT NULL UNIQUE, depth INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE source (
    source TEXT NOT NULL,
    epoch TEXT NOT NULL,
    last INTEGER NOT NULL,
    holes INTEGER NOT NULL DEFAULT 0,
    missing INTEGER NOT NULL DEFAULT 0,
    heard_at INTEGER NOT NULL,
    newest_at INTEGER,
    PRIMARY KEY (source, epoch)
  ) WITHOUT ROWID;
  CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    topic_arn TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    died_at INTEGER NOT NULL,
    host TEXT,
    user TEXT,
    room TEXT,
    content TEXT NOT NULL,
    replay INTEGER NOT NULL DEFAULT 0
  );
  CREATE INDEX dead_letter_replay ON dead_letter (id) WHERE replay = 1;
  CREATE INDEX dead_letter_reason ON dead_letter (reason, topic_arn, replay);
`;

// Earlier releases logged actions of the command line there.
const DROP_AUDIT = 'DROP TABLE IF EXISTS audit';

/**
 * Opens the outbox file, creating it (mode 0600) if there is none. Does not change an earlier release's file: the
 * command line may read it while that release's daemon runs. `takeover.ts` updates it.
 * @param options.create whether to create a missing file
 * @throws PusherError OUTBOX_UNUSABLE with what is wrong with the file
 */
export function openDatabase(file: string, options: { create: boolean }): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    prepareFile(file, options.create);
    database = new DatabaseSync(file, { timeout: 5_000 });
    // With WAL and FULL, a commit is on disk when it returns (https://www.sqlite.org/pragma.html#pragma_synchronous).
    // That is for the command line; the daemon's group commit sets NORMAL, syncs the WAL itself, and acknowledges only
    // afterwards.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;');
    prepareTables(database, file);
    return database;
  } catch (error) {
    database?.close();
    throw faultOf(file, error);
  }
}

/** Creates the file readable by its owner only. SQLite would use the umask's mode; -wal and -shm inherit the file's. */
function prepareFile(file: string, create: boolean): void {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found?.isDirectory()) throw unusable(file, 'is a folder; set outbox.path to a file');
  if (found) chmodSync(file, 0o600);
  else if (create) closeSync(createPrivate(file));
  else throw unusable(file, 'does not exist: the daemon creates it at its first start');
}

function prepareTables(database: DatabaseSync, file: string): void {
  const version = pragma(database, 'user_version');
  const application = pragma(database, 'application_id');
  if (version > 0 && version <= VERSION && application === APPLICATION_ID) {
    database.exec(DROP_AUDIT);
    return;
  }
  const tables = database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.n;
  if (application !== APPLICATION_ID && tables !== 0)
    throw unusable(file, "is another program's SQLite database; set outbox.path to its own file");
  if (version > VERSION)
    throw unusable(file, `was written by a newer release (schema ${version}, this one knows ${VERSION}); run that one`);
  database.exec(`BEGIN IMMEDIATE; ${TABLES}
    PRAGMA user_version = ${VERSION}; PRAGMA application_id = ${APPLICATION_ID}; COMMIT;`);
}

/** The value of a pragma with a single number. */
export function pragma(database: DatabaseSync, name: string): number {
  const row = database.prepare(`PRAGMA ${name}`).get();
  return Number(Object.values(row ?? {})[0]);
}

const unusable = (file: string, problem: string, cause?: unknown) =>
  new PusherError('OUTBOX_UNUSABLE', `outbox ${file} ${problem}`, cause);

/** Converts anything thrown by the outbox to the project's error. */
export const faultOf = (file: string, error: unknown): PusherError =>
  error instanceof PusherError ? error : unusable(file, describe(error, file), error);

/** Whether the disk was full. */
export function isDiskFull(error: unknown): boolean {
  const { errcode, code, cause } = error as { errcode?: number; code?: string; cause?: unknown };
  return (
    code === 'ENOSPC' ||
    (errcode !== undefined && (errcode & 0xff) === 13) ||
    (cause !== undefined && isDiskFull(cause))
  );
}

/** SQLite's primary result code: the low byte (https://www.sqlite.org/rescode.html). */
const primaryOf = ({ errcode }: { errcode?: number }): number | undefined =>
  errcode === undefined ? undefined : errcode & 0xff;

/** Whether another process's lock caused the error. */
export function isBusy(error: unknown): boolean {
  const { cause } = error as { cause?: unknown };
  return primaryOf(error as object) === 5 || (cause !== undefined && isBusy(cause));
}

/** SQLite's codes for a caller's mistake: too big, constraint, mismatch, misuse, range. */
const OURS = [18, 19, 20, 21, 25];

/** Whether the file or the disk is at fault, not this program. */
export function isOfTheFile(error: unknown): boolean {
  const primary = primaryOf(error as object);
  const { syscall } = error as { syscall?: string };
  return error instanceof PusherError || syscall !== undefined || (primary !== undefined && !OURS.includes(primary));
}

/** Explains an error of SQLite or the system, with advice. @param file of the outbox */
export function describe(error: unknown, file: string): string {
  const { code } = error as { code?: string };
  const primary = primaryOf(error as object);
  if (primary === 11 || primary === 26)
    return 'is damaged, or is not an SQLite database: stop the daemon, and restore it from a backup, save what can be read, or move it away to start empty (docs/outbox.md has the steps)';
  if (isDiskFull(error)) return "can't grow: the disk is full";
  if (primary === 8 || primary === 14 || code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return `can't be written: ${ownerAdvice(file)}`;
  if (primary === 5) return 'is locked by another process';
  return `can't be used: ${messageOf(error)}`;
}

/** What SQLite and the daemon keep beside an outbox. */
const BESIDE = ['', '-wal', '-shm', '.lock', '.reserve', '.trace', '.trace-wal', '.trace-shm'];

/** Which of an outbox's files belongs to another user than their folder, and how to change that. */
export function ownerProblem(file: string): { readonly seen: string; readonly advice: string } | undefined {
  const real = existsSync(file) ? realpathSync(file) : file;
  const folder = path.dirname(real);
  const found = foreignFile(
    folder,
    BESIDE.map((end) => `${path.basename(real)}${end}`),
  );
  if (!found) return undefined;
  const [owner, folderOwner] = [found.uid, found.folderUid].map((uid) => (uid === 0 ? 'root' : `user ${uid}`));
  const command = `chown --reference=${shellWord(folder)} ${shellWord(real)}*`;
  return {
    seen: `${found.file} belongs to ${owner}, and its folder to ${folderOwner}`,
    advice: `run \`${command}\` as root`,
  };
}

function ownerAdvice(file: string): string {
  const problem = ownerProblem(file);
  return problem ? `${problem.seen}: ${problem.advice}` : 'check the owner and mode of the file and its folder';
}

/** How long to wait for the lock, in milliseconds: a command that checks for a daemon holds it briefly. */
const LOCK_MS = 500;
/**
 * How long a start waits for another process to close the outbox, such as a `check` that is just looking, in
 * milliseconds.
 */
const PROBE_MS = 2_000;

/**
 * Keeps a second daemon out of an outbox. The lock is SQLite's lock on a separate file, held by an open transaction, so
 * it ends with the process in any case.
 * @throws PusherError OUTBOX_LOCKED naming the process that has it, OUTBOX_UNUSABLE if no lock can be created
 */
export function lockOutbox(file: string): { release(): void } {
  const folder = path.dirname(file);
  if (!existsSync(folder)) throw unusable(file, `can't be created: the folder ${folder} does not exist`);
  const lock = openLock(file);
  try {
    lock.exec('BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS owner (pid INTEGER); DELETE FROM owner;');
    lock.prepare('INSERT INTO owner VALUES (?)').run(process.pid);
    lock.exec('COMMIT; BEGIN IMMEDIATE');
    return { release: () => lock.close() };
  } catch (error) {
    const owner = ownerOf(lock);
    lock.close();
    if (((error as { errcode?: number }).errcode ?? 0) % 256 !== 5) throw unusable(file, describe(error, file), error);
    const message = `outbox ${file} is in use by another daemon${owner}; each needs its own file`;
    throw new PusherError('OUTBOX_LOCKED', message);
  }
}

/**
 * Refuses a file that another process has open under any name, even if the lock beside it was deleted: SQLite grants an
 * exclusive lock on the file itself only to a sole connection.
 * @throws PusherError OUTBOX_LOCKED
 */
export function refuseIfOpenElsewhere(file: string): void {
  const probe = new DatabaseSync(file, { timeout: PROBE_MS });
  try {
    probe.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; ROLLBACK');
  } catch (error) {
    if (!isBusy(error)) throw error;
    const advice = 'another daemon, perhaps by another name of the file, or a program such as sqlite3: end it';
    throw new PusherError('OUTBOX_LOCKED', `outbox ${file} is open in another process: ${advice}`, error);
  } finally {
    probe.close();
  }
}

function openLock(file: string): DatabaseSync {
  try {
    createLock(`${file}.lock`);
    return new DatabaseSync(`${file}.lock`, { timeout: LOCK_MS });
  } catch (error) {
    throw faultOf(file, error);
  }
}

function createLock(file: string): void {
  try {
    if (!existsSync(file)) closeSync(createPrivate(file));
  } catch (error) {
    // Another start was quicker.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function ownerOf(lock: DatabaseSync): string {
  try {
    const pid = lock.prepare('SELECT pid FROM owner').get()?.pid;
    return pid === undefined ? '' : ` (process ${pid})`;
  } catch {
    return ''; // Another daemon is writing it right now. Only the lock matters; the name is informative.
  }
}
