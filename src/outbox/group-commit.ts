/**
 * Writes to the SQLite file, in groups.
 *
 * Maintained invariants:
 * - All writes that came in one turn of the event loop share one transaction and one fsync; each is told only when the
 *   whole is on disk.
 * - A write that may fail is told of a fault at once and leaves nothing behind; one that must not (a settlement) is kept
 *   until the disk takes it.
 * - After a fault nothing new is taken before the reserve is whole again; settlements go on as soon as they can.
 */
import type { DatabaseSync } from 'node:sqlite';
import { PusherError } from '../errors.ts';
import type { Reserve } from './reserve.ts';
import { describe } from './schema.ts';

export interface Write {
  /** Runs inside the transaction; again in another one if that fails. */
  readonly apply: (now: number) => void;
  /** Runs when it is on disk. */
  readonly done: () => void;
  /** Runs when it could not be written. Without it, the write is tried again until it is. */
  readonly failed?: (error: PusherError) => void;
}

interface GroupCommitOptions {
  readonly database: DatabaseSync;
  readonly file: string;
  readonly reserve: Reserve;
  readonly now: () => number;
  /** Runs in each transaction before and after its writes, when it is on disk, when it was undone, and after all `done`. */
  readonly begin: () => void;
  readonly end: () => void;
  readonly committed: () => void;
  readonly undone: () => void;
  readonly finished: () => void;
}

/**
 * How long settlements wait for more to share their fsync with, in milliseconds; a tap's commit takes them along at once.
 * Nobody waits for a settlement but the slot that its request had.
 */
const COMPANY_MS = 5;
/** How long a disk that failed is left alone, in milliseconds. */
const FAULT_PAUSE_MS = 1_000;

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  #pending: Write[] = [];
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #recovery: NodeJS.Timeout | undefined;
  #fault: PusherError | undefined;
  /** Whether even settlements failed the last time. */
  #stuck = false;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
    if (!options.reserve.restore()) this.#failed(diskFull(options.file));
  }

  /** Why nothing new is taken at the moment; undefined when it is. */
  get fault(): PusherError | undefined {
    return this.#fault;
  }

  /** Writes with the group that is being gathered; at once unless it can wait a little for company. */
  add(write: Write, canWait = false): void {
    if (this.#fault && write.failed) {
      write.failed(this.#fault);
      return;
    }
    this.#pending.push(write);
    if (this.#stuck) return;
    if (canWait) this.#timer ??= setTimeout(() => this.flush(), COMPANY_MS);
    else this.#immediate ??= setImmediate(() => this.flush());
  }

  /** Writes what was gathered now. */
  flush(): void {
    clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
    this.#immediate = this.#timer = undefined;
    const writes = this.#pending;
    if (writes.length === 0) return;
    this.#pending = [];
    const error = this.#transact(writes);
    this.#stuck = error !== undefined;
    if (!error) {
      for (const write of writes) write.done();
      this.#options.finished();
      return;
    }
    this.#pending.unshift(...writes.filter(({ failed }) => !failed));
    this.#failed(error);
    for (const write of writes) write.failed?.(error);
  }

  /** Writes what was gathered, if it can, and ends all that would go on by itself. */
  close(): void {
    this.flush();
    clearTimeout(this.#recovery);
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#pending = [];
  }

  #transact(writes: readonly Write[]): PusherError | undefined {
    const { database, file, now, begin, end, committed, undone } = this.#options;
    try {
      database.exec('BEGIN IMMEDIATE');
      begin();
      const time = now();
      for (const write of writes) write.apply(time);
      end();
      database.exec('COMMIT');
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK');
      undone();
      return new PusherError('OUTBOX_UNUSABLE', `outbox ${file} ${describe(error)}`, error);
    }
    // On disk: whatever happens from here on, it must not count as undone.
    committed();
    return undefined;
  }

  #failed(error: PusherError): void {
    this.#fault = error;
    this.#options.reserve.release();
    this.#recovery ??= setTimeout(() => this.#recover());
  }

  /** Makes room in the log, writes the settlements that wait, and takes new events again when there is room for both. */
  #recover(): void {
    this.#recovery = undefined;
    const { database, file, reserve } = this.#options;
    try {
      // Also shows whether the disk can be written at all.
      database.exec(`PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = ${userVersion(database)}`);
      this.#stuck = false;
      this.flush();
    } catch (error) {
      this.#fault = new PusherError('OUTBOX_UNUSABLE', `outbox ${file} ${describe(error)}`, error);
      this.#stuck = true;
    }
    if (!this.#stuck && reserve.restore()) this.#fault = undefined;
    else this.#recovery ??= setTimeout(() => this.#recover(), FAULT_PAUSE_MS);
  }
}

const userVersion = (database: DatabaseSync): unknown => database.prepare('PRAGMA user_version').get()?.user_version;

const diskFull = (file: string) => new PusherError('OUTBOX_UNUSABLE', `outbox ${file} can't grow: the disk is full`);
