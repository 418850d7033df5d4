/**
 * The embedded outbox: one SQLite file.
 *
 * Maintained invariants:
 * - Sources and backlogs change only when the change is on disk, so that nothing that a loss of power could undo is
 *   published or counts as a duplicate.
 * - A commit's notifications, dead letters and position are one transaction.
 */
import { existsSync, lstatSync, realpathSync, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { messageOf, PusherError } from '../../errors.ts';
import { type Log, SILENT } from '../../log.ts';
import type { Notification } from '../../notification/notification.ts';
import type { DeadLetterStore } from '../dead-letters.ts';
import { refuseMaxBytes } from '../options.ts';
import type { Admission, Backlog, Cursor, Health, Outbox, Settlement, Stored } from '../outbox.ts';
import { refusedLetter } from '../refused-letter.ts';
import type { Reached, SourceStore } from '../sources.ts';
import { createTurns } from '../turns.ts';
import { type Shelf, SqliteBacklog } from './backlog.ts';
import { deadLettersOn, insertDeadLetter, whileOpen } from './dead-letters.ts';
import { GroupCommit } from './group-commit.ts';
import { type OpenParcel, Parcels } from './parcels.ts';
import { Reader } from './reader.ts';
import { createReserve } from './reserve.ts';
import { faultOf, isDiskFull, lockOutbox, openDatabase, refuseIfOpenElsewhere } from './schema.ts';
import { Size } from './size.ts';
import { type Moved, Sources } from './sources.ts';
import { type Surroundings, watchSurroundings } from './surroundings.ts';
import { takeOver } from './takeover.ts';
import { Topics } from './topics.ts';

/** Interval between clean-ups of unneeded positions, in milliseconds: an hour. */
const FORGET_MS = 3_600_000;

/** How long a statement waits for another process's lock, in milliseconds: it blocks the event loop. */
const BUSY_MS = 20;
/** A smaller WAL isn't reported, in bytes. */
const LEAST_LOG_BYTES = 4_194_304;

/** Default limit of the file's content, in bytes: 1 GiB. */
const MAX_BYTES = 1_073_741_824;

export interface SqliteOutboxOptions {
  /** Path of the file; created (mode 0600) if there is none. */
  readonly file: string;
  /** Limit of the file's content in bytes, above which `commit` rejects. Default: 1 GiB. */
  readonly maxBytes?: number;
  /** Receives reports of a failing disk. Default: none. */
  readonly log?: Log;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
}

/**
 * Opens the embedded outbox: one SQLite file, for one process at a time.
 * @throws PusherError CONFIG_INVALID for invalid options, OUTBOX_UNUSABLE or OUTBOX_LOCKED
 */
export function sqliteOutbox({
  file,
  maxBytes = MAX_BYTES,
  log = SILENT,
  now = Date.now,
}: SqliteOutboxOptions): Outbox {
  refuseOptions(file, maxBytes);
  // Companion files belong beside the link's target, where SQLite puts its WAL too.
  const isLink = lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink();
  const options = { maxBytes, log, now, file: isLink && existsSync(file) ? realpathSync(file) : file };
  try {
    return open(options);
  } catch (error) {
    // A start writes too. Afterwards the outbox refuses events until the disk has room again.
    if (!isDiskFull(error)) throw error;
    createReserve(options.file).release();
    return open(options);
  }
}

/** Rejects names that are not files before creating anything: SQLite stores nothing under '' and ':memory:'. */
function refuseOptions(file: unknown, maxBytes: unknown): void {
  if (typeof file !== 'string' || file === '' || file === ':memory:' || file.startsWith('file:') || file.includes('\0'))
    throw new PusherError(
      'CONFIG_INVALID',
      'sqliteOutbox: file should be the path of a file; memoryOutbox() keeps nothing',
    );
  refuseMaxBytes('sqliteOutbox', maxBytes);
}

function open(options: Required<SqliteOutboxOptions>): Outbox {
  const lock = lockOutbox(options.file);
  let database: DatabaseSync | undefined;
  try {
    if (statSync(options.file, { throwIfNoEntry: false })?.isFile()) refuseIfOpenElsewhere(options.file);
    database = openDatabase(options.file, { create: true });
    takeOver(database, options.now(), options.log);
    return new SqliteOutbox(options, database, lock);
  } catch (error) {
    // Damage after an intact header shows only when the tables are read.
    database?.close();
    lock.release();
    throw faultOf(options.file, error);
  }
}

class SqliteOutbox implements Outbox {
  readonly deadLetters: DeadLetterStore;
  readonly #options: Required<SqliteOutboxOptions>;
  readonly #database: DatabaseSync;
  readonly #lock: { release(): void };
  readonly #sql;
  readonly #shelf: Shelf;
  readonly #turns = createTurns();
  readonly #topics: Topics;
  readonly #backlogs = new Map<string, SqliteBacklog>();
  readonly #sources: Sources;
  readonly sources: SourceStore;
  readonly #forgetting: NodeJS.Timeout;
  readonly #listeners = new Set<(topic: string) => void>();
  readonly #writer: GroupCommit;
  readonly #surroundings: Surroundings;
  readonly #parcels: Parcels;
  readonly #reader: Reader;
  /** The last number on disk. */
  #syncedSeq: number;
  /** Notifications that just reached the disk, by topic. */
  readonly #came = new Map<string, Stored[]>();
  #seen: Pick<Health, 'deadLetters' | 'oldestAt'> = { deadLetters: 0, oldestAt: undefined };
  readonly #size: Size;
  #closed = false;

  constructor(options: Required<SqliteOutboxOptions>, database: DatabaseSync, lock: { release(): void }) {
    this.#options = options;
    this.#database = database;
    this.#lock = lock;
    this.#sql = {
      countDeadLetters: database.prepare('SELECT count(*) AS n FROM dead_letter'),
      deleteDeadLetter: database.prepare('DELETE FROM dead_letter WHERE id = ?'),
    };
    this.deadLetters = {
      put: (deadLetters) => this.commit({ notifications: [], deadLetters }),
      ...whileOpen(deadLettersOn(database), () => this.#closed),
    };
    const { file, maxBytes, log } = options;
    this.#size = new Size({
      database,
      file,
      maxBytes,
      excessLogBytes: () => this.#surroundings?.excessLogBytes() ?? 0,
    });
    this.#parcels = new Parcels(database);
    this.#syncedSeq = this.#parcels.lastSeq;
    this.#shelf = {
      read: (topic, after, upTo, limit, credit) => this.#reader.read(topic, after, upTo, limit, credit),
      load: (topic, seqs) => this.#reader.load(topic, seqs),
      next: (after) => this.#parcels.next(after),
      last: () => this.#syncedSeq,
      settle: (settlements) => this.#settle(settlements),
      readFailed: (error) => this.#reader.note(error),
      closed: () => this.#closed,
    };
    this.#topics = new Topics(database);
    this.#reader = new Reader({
      database,
      file,
      log,
      parcels: this.#parcels,
      topics: this.#topics,
      write: (write) => this.#writer.add(write, true),
    });
    this.#sources = new Sources(database, (change, afterwards) => this.#change(change, afterwards));
    this.sources = this.#sources.store;
    this.#forgetOutdated();
    this.#forgetting = setInterval(() => this.#forgetOutdated(), FORGET_MS).unref();
    this.#size.measure();
    const reserve = createReserve(options.file);
    // Most rows live for less than a second: with a long WAL they never reach the database file.
    const logPages = Math.floor((reserve.size * 0.9) / this.#size.pageBytes);
    // Another process's lock must not block the event loop.
    database.exec(
      `PRAGMA wal_autocheckpoint = ${logPages}; PRAGMA journal_size_limit = ${reserve.size}; PRAGMA busy_timeout = ${BUSY_MS}`,
    );
    this.#writer = new GroupCommit({
      database,
      file: options.file,
      reserve,
      now: options.now,
      log: options.log,
      begin: () => {
        this.#topics.begin();
        this.#parcels.begin();
      },
      end: (time) => {
        this.#size.wrote(this.#parcels.write(time));
        this.#topics.write();
      },
      committed: () => {
        this.#topics.committed();
        this.#size.measureSometimes();
        const brought = this.#parcels.committed();
        return () => this.#gather(brought);
      },
      undone: () => this.#parcels.undone(),
      finished: () => this.#handOver(),
    });
    this.#surroundings = watchSurroundings({
      file: options.file,
      log: this.#writer.log,
      usualLogBytes: Math.max(reserve.size, LEAST_LOG_BYTES),
      wholeBytes: () => this.#size.whole(),
      checkpoint: () => this.#checkpoint(),
      stuck: (logBytes) =>
        options.log.warn(
          { logBytes },
          "can't empty the outbox's write-ahead log: another process keeps a read transaction open",
        ),
      changed: (problem) => {
        if (problem) options.log.error({ problem }, 'the outbox accepts no new events');
        else options.log.info({ file: options.file }, 'the outbox accepts new events again');
      },
    });
  }

  async source(name: string, epoch: string): Promise<Cursor> {
    const release = await this.#turns(`${name}\n${epoch}`);
    const sources = this.#sources;
    return {
      get last() {
        return sources.position(name, epoch)?.last;
      },
      get newestAt() {
        return sources.position(name, epoch)?.newestAt;
      },
      commit: (admission, progress) => this.#commit(admission, { source: name, epoch, ...progress }),
      release,
    };
  }

  commit(admission: Admission): Promise<void> {
    return this.#commit(admission);
  }

  #commit({ notifications, deadLetters, replaces = [] }: Admission, reached?: Reached): Promise<void> {
    if (this.#closed) return Promise.reject(new PusherError('OUTBOX_CLOSED', 'the outbox is closed'));
    if (this.#surroundings.problem) return Promise.reject(this.fault);
    const full = this.#size.problem();
    if (full) return Promise.reject(full);
    let moved: Moved | undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#writer.add({
      apply: (now) => {
        for (const notification of notifications) this.#add(notification);
        for (const letter of deadLetters) insertDeadLetter(this.#database, letter, now);
        for (const id of replaces) this.#sql.deleteDeadLetter.run(id);
        if (reached) moved = this.#sources.move(reached, now);
      },
      done: () => {
        if (moved) this.#sources.moved(moved);
        resolve();
      },
      failed: reject,
    });
    return promise;
  }

  backlog(topic: string, take: (notifications: readonly Stored[]) => void): Backlog {
    if (this.#backlogs.has(topic)) throw new Error(`the backlog of ${topic} is open already`);
    const backlog = new SqliteBacklog(topic, this.#shelf, take, () => this.#backlogs.delete(topic));
    this.#backlogs.set(topic, backlog);
    return backlog;
  }

  topics(): Iterable<string> {
    return this.#topics.depths.keys();
  }

  #settle(settlements: readonly Settlement[]): Promise<void> {
    // Already closed: the notification stays, and is sent again after the next start.
    if (this.#closed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const apply = (now: number) => {
      for (const { notification, dead } of settlements) {
        // A reload that did not wait for a hanging request settles twice: count it once.
        if (!this.#parcels.settle(notification.seq)) continue;
        this.#topics.change(notification.topic, -1);
        if (dead) insertDeadLetter(this.#database, refusedLetter(notification, dead), now);
      }
    };
    // An accepted notification must not be sent again: this write may wait for the disk, but never fails.
    this.#writer.add({ apply, done: resolve }, true);
    return promise;
  }

  get fault(): PusherError | undefined {
    const { problem } = this.#surroundings;
    return problem ? new PusherError('OUTBOX_UNUSABLE', `outbox: ${problem}`) : this.#writer.fault;
  }

  health(): Health {
    if (!this.#closed) this.#look();
    return {
      topics: [...this.#topics.depths].map(([topic, depth]) => ({ topic, depth })),
      sources: this.#sources.states(),
      holes: this.#sources.holes,
      ...this.#seen,
      bytes: this.#size.bytes,
      maxBytes: this.#options.maxBytes,
      fault: this.fault?.message ?? this.#reader.fault,
    };
  }

  /** Updates figures that only the file has. If it can't be read, the last ones remain, and the fault explains why. */
  #look(): void {
    this.#size.measure();
    try {
      const deadLetters = Number(this.#sql.countDeadLetters.get()?.n);
      this.#seen = { deadLetters, oldestAt: this.#parcels.oldestAt };
    } catch (error) {
      this.#reader.note(error);
    }
  }

  onTopic(listener: (topic: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#surroundings.close();
    clearInterval(this.#forgetting);
    this.#writer.close();
    this.#database.close();
    this.#lock.release();
  }

  #add(notification: Notification): void {
    this.#topics.change(notification.topic, 1);
    this.#parcels.add(notification, this.#topics.id(notification.topic));
  }

  /** Changes stored sources on an operator's request. */
  #change<T>(change: () => T, afterwards: () => void): Promise<T> {
    if (this.#closed) return Promise.reject(new PusherError('OUTBOX_CLOSED', 'the outbox is closed'));
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let result: T;
    const done = () => {
      afterwards();
      resolve(result);
    };
    this.#writer.add({
      apply: () => {
        result = change();
      },
      done,
      failed: reject,
    });
    return promise;
  }

  #forgetOutdated(): void {
    try {
      this.#sources.forgetOutdated(this.#options.now());
    } catch (error) {
      this.#options.log.warn({ problem: messageOf(error) }, "can't delete ended epochs of sources; retrying later");
    }
  }

  /** Collects notifications that reached the disk, to be sent once the whole group is collected. */
  #gather(parcels: readonly OpenParcel[]): void {
    for (const { topic, topicId, notifications } of parcels) {
      this.#topics.remember(topic, topicId);
      this.#syncedSeq = Math.max(this.#syncedSeq, notifications.at(-1)?.seq ?? 0);
      const came = this.#came.get(topic);
      this.#came.set(topic, came ? [...came, ...notifications] : notifications);
    }
  }

  #handOver(): void {
    for (const [topic, notifications] of this.#came) {
      this.#came.delete(topic);
      const backlog = this.#backlogs.get(topic);
      if (backlog) backlog.came(notifications);
      else for (const listener of this.#listeners) listener(topic);
    }
  }

  #checkpoint(): void {
    try {
      this.#database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    } catch {
      // The watch on the WAL notices that it did not shrink.
    }
  }
}
