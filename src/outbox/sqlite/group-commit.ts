/**
 * Writes to the SQLite file, in groups.
 *
 * Maintained invariants:
 * - All writes of one turn of the event loop share one transaction. An intake's write resolves once it is on disk; a
 *   settlement once it is committed, which survives a kill of the process. (A power failure may undo the last ones: SNS
 *   gets those notifications twice.)
 * - A write that may fail rejects at once and leaves nothing behind; one that must not (a settlement) is retried until
 *   it succeeds.
 * - After a failure, new events are refused until the reserve is complete again; settlements resume as soon as
 *   possible.
 *
 * With `synchronous=FULL` SQLite would sync its WAL in every COMMIT and block the event loop meanwhile. So it runs with
 * `NORMAL`, which syncs only around checkpoints, and this class syncs the WAL asynchronously; commits that arrive
 * meanwhile share the next sync.
 */
import { closeSync, fdatasync, fdatasyncSync, openSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { messageOf, PusherError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import type { Reserve } from './reserve.ts';
import { faultOf, isBusy, isOfTheFile } from './schema.ts';

export interface Write {
  /** Runs inside the transaction; again in another one if that fails. */
  readonly apply: (now: number) => void;
  /** Runs once it is on disk; without `failed`, once it is committed. */
  readonly done: () => void;
  /** Runs if the write failed. Without it, the write is retried until it succeeds. */
  readonly failed?: (error: PusherError) => void;
}

interface GroupCommitOptions {
  readonly database: DatabaseSync;
  readonly file: string;
  readonly reserve: Reserve;
  readonly now: () => number;
  readonly log: Log;
  /** Run before each transaction, after its writes, after the commit, after a rollback, and after all `done`. */
  readonly begin: () => void;
  readonly end: (now: number) => void;
  /** Returns the callback for when it is on disk, if taps wait for any of it. */
  readonly committed: () => () => void;
  readonly undone: () => void;
  readonly finished: () => void;
}

/**
 * How long settlements wait for others to share their transaction, in milliseconds; a tap's commit includes them at
 * once. Only the request's slot waits for a settlement.
 */
const COMPANY_MS = 5;
/** Delay before settlements are synced that no tap's commit included, in milliseconds. */
const SETTLED_SYNC_MS = 100;
/**
 * While another process writes, the daemon retries at these intervals without blocking the event loop, and treats it as
 * a failure after the limit, in milliseconds.
 */
const BUSY_PAUSE_MS = 50;
const MOST_BUSY_MS = 2_000;
/** Delay before a failed disk is tried again, in milliseconds. */
const FAULT_PAUSE_MS = 1_000;

/**
 * The outcome of a transaction: callbacks for when it is on disk, or the error that undid it and the write at fault.
 */
type Outcome =
  | { readonly onDisk: () => void; readonly error?: never; readonly culprit?: never }
  | { readonly onDisk?: never; readonly error: PusherError; readonly culprit: Write | undefined };

/** A placeholder among a transaction's writes for the transaction itself. */
const NOTHING = { apply: () => {}, failed: () => {} };

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  /** SQLite's log, to be synced. */
  readonly log: number;
  #pending: Write[] = [];
  /** Committed, but not on disk yet: covered by the running sync, and later ones. */
  #syncing: readonly Write[] | undefined;
  #unsynced: Write[] = [];
  #lateSync: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #recovery: NodeJS.Timeout | undefined;
  #fault: PusherError | undefined;
  /** Since when another process has been writing; undefined if none is. */
  #busySince: number | undefined;
  #closing = false;
  /** Whether even settlements failed last time. */
  #stuck = false;
  /** Whether a sync failed. Linux reports a failed fsync once; the next one succeeds although data was lost. */
  #doubtful = false;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    options.database.exec('PRAGMA synchronous = NORMAL');
    this.log = openSync(`${options.file}-wal`, 'r');
    // Commits that a killed run did not sync count as received from now on.
    fdatasyncSync(this.log);
    if (!options.reserve.restore()) this.#failed(diskFull(options.file));
  }

  /** Why new events are refused now; undefined if they are not. */
  get fault(): PusherError | undefined {
    return this.#fault;
  }

  /** Adds a write to the current group; starts the transaction at once unless the write can wait for others. */
  add(write: Write, canWait = false): void {
    if (this.#fault && write.failed) {
      write.failed(this.#fault);
      return;
    }
    this.#pending.push(write);
    if (this.#stuck || this.#busySince !== undefined) return;
    if (canWait) this.#timer ??= setTimeout(() => this.flush(), COMPANY_MS);
    else this.#immediate ??= setImmediate(() => this.flush());
  }

  /** Writes the current group now. */
  flush(): void {
    clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
    this.#immediate = this.#timer = undefined;
    const writes = this.#pending;
    if (writes.length === 0) return;
    this.#pending = [];
    const { error, onDisk, culprit } = this.#transact(writes);
    if (culprit) {
      // A bug in one write: neither the disk nor the other writes are at fault.
      this.#pending = writes.filter((write) => write !== culprit);
      this.#reject(culprit, error);
      this.flush();
      return;
    }
    if (error && this.#waitsFor(error)) {
      this.#pending = [...writes, ...this.#pending];
      this.#timer = setTimeout(() => this.flush(), BUSY_PAUSE_MS);
      return;
    }
    this.#busySince = undefined;
    this.#stuck = error !== undefined;
    if (onDisk) {
      this.#tell(writes.filter(({ failed }) => !failed));
      const intakes = writes.filter(({ failed }) => failed);
      if (intakes.length > 0) this.#unsynced.push({ ...NOTHING, done: onDisk }, ...intakes);
      if (intakes.length > 0) this.#sync();
      else this.#lateSync ??= setTimeout(() => this.#sync(), SETTLED_SYNC_MS).unref();
      return;
    }
    this.#pending.unshift(...writes.filter(({ failed }) => !failed));
    this.#failed(error);
    for (const write of writes) write.failed?.(error);
  }

  /** Whether an error only means that another process is writing, within the time limit. */
  #waitsFor(error: PusherError): boolean {
    if (this.#closing || !isBusy(error)) return false;
    this.#busySince ??= performance.now();
    return performance.now() - this.#busySince < MOST_BUSY_MS;
  }

  #reject(write: Write, error: PusherError): void {
    this.#options.log.error(
      { problem: messageOf(error.cause) },
      'a write to the outbox failed because of a bug in xmpp-event-pusher',
    );
    if (write.failed) write.failed(error);
    else write.done();
  }

  /** Writes the current group, if possible, and stops all timers. */
  close(): void {
    this.#closing = true;
    this.flush();
    const writes = this.#takeUnsynced();
    try {
      if (this.#doubtful) throw this.#fault;
      fdatasyncSync(this.log);
      this.#tell(writes);
    } catch (error) {
      for (const write of writes) write.failed?.(faultOf(this.#options.file, error));
    }
    clearTimeout(this.#recovery);
    clearTimeout(this.#lateSync);
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#pending = [];
    closeSync(this.log);
  }

  /** Syncs the WAL, and resolves the writes that are on disk with it. */
  #sync(): void {
    if (this.#syncing || this.#doubtful) return;
    clearTimeout(this.#lateSync);
    this.#lateSync = undefined;
    const writes = this.#unsynced;
    this.#unsynced = [];
    this.#syncing = writes;
    fdatasync(this.log, (error) => {
      // A recovery or the close came first.
      if (this.#syncing !== writes) return;
      this.#syncing = undefined;
      if (error) {
        // They are committed, though. They resolve once the recovery has copied them into the database file.
        this.#unsynced.unshift(...writes);
        this.#doubtful = true;
        this.#failed(faultOf(this.#options.file, error));
        return;
      }
      this.#tell(writes);
      if (this.#unsynced.length > 0) this.#sync();
    });
  }

  #takeUnsynced(): readonly Write[] {
    const writes = [...(this.#syncing ?? []), ...this.#unsynced];
    this.#syncing = undefined;
    this.#unsynced = [];
    return writes;
  }

  #tell(writes: readonly Write[]): void {
    if (writes.length === 0) return;
    for (const write of writes) write.done();
    this.#options.finished();
  }

  #transact(writes: readonly Write[]): Outcome {
    const { database, now, begin, end, committed, undone } = this.#options;
    begin();
    let current: Write | undefined;
    try {
      database.exec('BEGIN IMMEDIATE');
      const time = now();
      for (const write of writes) {
        current = write;
        write.apply(time);
      }
      current = undefined;
      end(time);
      database.exec('COMMIT');
    } catch (thrown) {
      if (database.isTransaction) database.exec('ROLLBACK');
      undone();
      const error = faultOf(this.#options.file, thrown);
      return { error, culprit: isOfTheFile(thrown) ? undefined : current };
    }
    // Committed: whatever happens now, it must not count as undone.
    return { onDisk: committed() };
  }

  #failed(error: PusherError): void {
    this.#fault = error;
    this.#options.reserve.release();
    this.#recovery ??= setTimeout(() => this.#recover());
  }

  /** Checkpoints the WAL, writes pending settlements, and accepts new events again when there is space for both. */
  #recover(): void {
    const { database, reserve } = this.#options;
    try {
      const emptied = database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()?.busy === 0;
      if (this.#doubtful && !emptied)
        throw new Error("another process reads it, so its write-ahead log can't be emptied");
      this.#doubtful = false;
      // Tests whether the disk is writable at all.
      database.exec(`PRAGMA user_version = ${userVersion(database)}`);
      this.#stuck = false;
      this.flush();
      fdatasyncSync(this.log);
      this.#tell(this.#takeUnsynced());
    } catch (error) {
      this.#fault = faultOf(this.#options.file, error);
      this.#stuck = true;
    }
    const mended = !this.#stuck && reserve.restore();
    if (mended) this.#fault = undefined;
    this.#recovery = mended ? undefined : setTimeout(() => this.#recover(), FAULT_PAUSE_MS);
  }
}

const userVersion = (database: DatabaseSync): unknown => database.prepare('PRAGMA user_version').get()?.user_version;

const diskFull = (file: string) => new PusherError('OUTBOX_UNUSABLE', `outbox ${file} can't grow: the disk is full`);
