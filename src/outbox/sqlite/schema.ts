/** The SQLite file of the embedded outbox: opening it, its tables, and the lock that keeps a second daemon out. */
import { chmodSync, closeSync, existsSync, openSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { messageOf, PusherError } from '../../errors.ts';

// "xevp" in ASCII: tells our file from any other SQLite database (https://www.sqlite.org/pragma.html#pragma_application_id).
const APPLICATION_ID = 0x78657670;
/** Version of the tables; 1 was a row for each notification. */
export const VERSION = 2;

/**
 * The tables that `parcels.ts` keeps, which files of schema 1 did not have. What is read of many rows stands before the
 * content.
 */
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

/** And the one for holes in the numbers of sources that nobody acknowledged. */
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

// AUTOINCREMENT only where a number must not come back: a person may hold on to a dead letter's id.
// dead_letter_reason also lets them be counted without reading what they contain.
// `topic.depth` is kept by the transactions that change it, so that a start does not have to count a million rows.
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

// Where earlier releases left what the command line did, for the daemon's log.
const DROP_AUDIT = 'DROP TABLE IF EXISTS audit';

/**
 * Opens the outbox file, making it (mode 0600) if there is none. One that an earlier release wrote stays as it is: the
 * command line may look into it while that release's daemon runs. `takeover.ts` brings it up to date.
 * @param options.create whether to make it when it is missing
 * @throws PusherError OUTBOX_UNUSABLE that says what is wrong with the file
 */
export function openDatabase(file: string, options: { create: boolean }): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    prepareFile(file, options.create);
    database = new DatabaseSync(file, { timeout: 5_000 });
    // WAL and FULL: a commit is on disk when it returns (https://www.sqlite.org/pragma.html#pragma_synchronous). So it is for
    // the command line; the daemon's group commit sets NORMAL and syncs the log itself, and acknowledges only after that.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;');
    prepareTables(database, file);
    return database;
  } catch (error) {
    database?.close();
    throw faultOf(file, error);
  }
}

/** Creates the file readable for its owner only. SQLite would use the umask's mode; -wal and -shm follow the file's. */
function prepareFile(file: string, create: boolean): void {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found?.isDirectory()) throw unusable(file, 'is a folder; set outbox.path to a file');
  if (found) chmodSync(file, 0o600);
  else if (create) closeSync(openSync(file, 'wx', 0o600));
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
    throw unusable(file, "is another program's SQLite database; set outbox.path to a file of its own");
  if (version > VERSION)
    throw unusable(file, `was written by a newer release (schema ${version}, this one knows ${VERSION}); run that one`);
  database.exec(`BEGIN IMMEDIATE; ${TABLES}
    PRAGMA user_version = ${VERSION}; PRAGMA application_id = ${APPLICATION_ID}; COMMIT;`);
}

/** The value of a pragma that answers one number. */
export function pragma(database: DatabaseSync, name: string): number {
  const row = database.prepare(`PRAGMA ${name}`).get();
  return Number(Object.values(row ?? {})[0]);
}

const unusable = (file: string, problem: string, cause?: unknown) =>
  new PusherError('OUTBOX_UNUSABLE', `outbox ${file} ${problem}`, cause);

/** Converts anything thrown by the outbox to the project's error. */
export const faultOf = (file: string, error: unknown): PusherError =>
  error instanceof PusherError ? error : unusable(file, describe(error), error);

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

/** Whether it was raised because another process has the file locked. */
export function isBusy(error: unknown): boolean {
  const { cause } = error as { cause?: unknown };
  return primaryOf(error as object) === 5 || (cause !== undefined && isBusy(cause));
}

/** SQLite's codes for a caller's mistake: too big, constraint, mismatch, misuse, range. */
const OURS = [18, 19, 20, 21, 25];

/** Whether the file or the disk is at fault, and not this program. */
export function isOfTheFile(error: unknown): boolean {
  const primary = primaryOf(error as object);
  const { syscall } = error as { syscall?: string };
  return error instanceof PusherError || syscall !== undefined || (primary !== undefined && !OURS.includes(primary));
}

/** Explains SQLite's or the system's error, with what to do. */
export function describe(error: unknown): string {
  const { code } = error as { code?: string };
  const primary = primaryOf(error as object);
  if (primary === 11 || primary === 26)
    return 'is damaged, or no SQLite database: stop the daemon, and restore it from a backup, save what can be read with `sqlite3 outbox.db .recover`, or move it away to start empty (docs/operations.md has the steps)';
  if (isDiskFull(error)) return "can't grow: the disk is full";
  if (primary === 8 || primary === 14 || code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return "can't be written: check the owner and mode of the file and its folder";
  if (primary === 5) return 'is locked by another process';
  return `can't be used: ${messageOf(error)}`;
}

/** How long to wait for the lock, in milliseconds: a command that looks whether a daemon runs has it for a moment. */
const LOCK_MS = 500;
/**
 * How long a start waits for another process to close the outbox, such as a `check` that is just looking, in
 * milliseconds.
 */
const PROBE_MS = 2_000;

/**
 * Keeps a second daemon away from an outbox. The lock is SQLite's lock on a separate file, held by an open transaction,
 * so it ends with the process however that ends.
 * @throws PusherError OUTBOX_LOCKED naming the process that has it, OUTBOX_UNUSABLE where no lock can be made
 */
export function lockOutbox(file: string): { release(): void } {
  const folder = path.dirname(file);
  if (!existsSync(folder)) throw unusable(file, `can't be made: there is no folder ${folder}`);
  const lock = openLock(file);
  try {
    lock.exec('BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS owner (pid INTEGER); DELETE FROM owner;');
    lock.prepare('INSERT INTO owner VALUES (?)').run(process.pid);
    lock.exec('COMMIT; BEGIN IMMEDIATE');
    return { release: () => lock.close() };
  } catch (error) {
    const owner = ownerOf(lock);
    lock.close();
    if (((error as { errcode?: number }).errcode ?? 0) % 256 !== 5) throw unusable(file, describe(error), error);
    const message = `outbox ${file} is in use by another daemon${owner}; each needs a file of its own`;
    throw new PusherError('OUTBOX_LOCKED', message);
  }
}

/**
 * Refuses a file that another process has open, by whatever name, also where the lock beside it was removed: SQLite
 * gives the lock on the file itself to one connection only while there is no other.
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
    return new DatabaseSync(`${file}.lock`, { timeout: LOCK_MS });
  } catch (error) {
    throw faultOf(file, error);
  }
}

function ownerOf(lock: DatabaseSync): string {
  try {
    const pid = lock.prepare('SELECT pid FROM owner').get()?.pid;
    return pid === undefined ? '' : ` (process ${pid})`;
  } catch {
    return ''; // Another daemon is just writing it. The lock matters; the name is a courtesy.
  }
}
