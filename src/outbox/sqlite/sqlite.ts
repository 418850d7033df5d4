/**
 * The embedded outbox: one SQLite file.
 *
 * Maintained invariants:
 * - `#depth` changes with the transaction that it mirrors; `#positions` and the backlogs only when that is on disk, so
 *   that nothing is published or taken for a duplicate which a loss of power could undo.
 * - A commit's notifications, dead letters and position are one transaction.
 */
import { existsSync, lstatSync, realpathSync, statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { messageOf, PusherError } from '../../errors.ts';
import { bytes } from '../../format.js';
import { type Log, SILENT } from '../../log.ts';
import type { Notification } from '../../notification/notification.ts';
import type { DeadLetterStore, NewDeadLetter } from '../dead-letters.ts';
import { refuseMaxBytes } from '../options.ts';
import type { Admission, Backlog, Cursor, Health, Outbox, Progress, Settlement, Stored } from '../outbox.ts';
import { type Hole, latestFirst, MOST_HOLES, outdated, type SourceState, type SourceStore } from '../sources.ts';
import { createTurns } from '../turns.ts';
import { type Shelf, SqliteBacklog } from './backlog.ts';
import { deadLettersOn, insertDeadLetter, whileOpen } from './dead-letters.ts';
import { GroupCommit } from './group-commit.ts';
import { type OpenParcel, Parcels, type Unreadable } from './parcels.ts';
import { createReserve } from './reserve.ts';
import { describe, faultOf, isDiskFull, lockOutbox, openDatabase, pragma, refuseIfOpenElsewhere } from './schema.ts';
import { deleteHoles, deleteSource, type Moved, type Position, readHoles, Sources } from './sources.ts';
import { prepare, type Statements } from './statements.ts';
import { type Surroundings, watchSurroundings } from './surroundings.ts';
import { takeOver } from './takeover.ts';
import { UNREADABLE, unreadableLetter } from './unreadable.ts';

/** How often positions that nobody needs any more are looked for, in milliseconds: an hour. */
const FORGET_MS = 3_600_000;

/** How long one statement waits for another process's lock, in milliseconds: the event loop stands still meanwhile. */
const BUSY_MS = 20;
/** Below this a log is not worth a word, in bytes. */
const LEAST_LOG_BYTES = 4_194_304;

/** How often its size is measured at most while it is written, in milliseconds: that costs two PRAGMAs. */
const MEASURE_MS = 100;

/** How large the content of the file may grow unless it is said otherwise, in bytes: 1 GiB. */
const MAX_BYTES = 1_073_741_824;

export interface SqliteOutboxOptions {
  /** Path of the file; made (mode 0600) if there is none. */
  readonly file: string;
  /** How large the content of the file may grow, in bytes; past it `commit` rejects. Default: 1 GiB. */
  readonly maxBytes?: number;
  /** Where a disk that fails is reported. Default: nowhere. */
  readonly log?: Log;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
}

/**
 * Opens the embedded outbox: one SQLite file, for one process at a time.
 * @throws PusherError CONFIG_INVALID for options that are none, OUTBOX_UNUSABLE or OUTBOX_LOCKED
 */
export function sqliteOutbox({
  file,
  maxBytes = MAX_BYTES,
  log = SILENT,
  now = Date.now,
}: SqliteOutboxOptions): Outbox {
  refuseOptions(file, maxBytes);
  // What lies beside the file lies beside the real one, where SQLite has its log too.
  const isLink = lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink();
  const options = { maxBytes, log, now, file: isLink && existsSync(file) ? realpathSync(file) : file };
  try {
    return open(options);
  } catch (error) {
    // A start writes too. After it, the outbox takes nothing new until the disk has room again.
    if (!isDiskFull(error)) throw error;
    createReserve(options.file).release();
    return open(options);
  }
}

/** Before anything is made beside a file that is none: SQLite takes '' and ':memory:' for databases that nothing is kept of. */
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
    // Damage behind an intact header shows only when its tables are read.
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
  readonly #sql: Statements;
  readonly #shelf: Shelf;
  readonly #turns = createTurns();
  /** Numbers of the topics in the database. */
  readonly #topicIds = new Map<string, number>();
  readonly #backlogs = new Map<string, SqliteBacklog>();
  readonly #depth = new Map<string, number>();
  readonly #sources: Sources;
  readonly #positions = new Map<string, Position>();
  /** Those that nobody acknowledged, newest first. */
  #holes: readonly Hole[];
  readonly sources: SourceStore;
  readonly #forgetting: NodeJS.Timeout;
  readonly #listeners = new Set<(topic: string) => void>();
  readonly #writer: GroupCommit;
  readonly #surroundings: Surroundings;
  readonly #parcels: Parcels;
  /** The last number that is on disk. */
  #syncedSeq: number;
  /** What the transaction that is being written changes of each topic's depth. */
  #depthChange = new Map<string, number>();
  /** What came to the disk just now, by topic. */
  readonly #came = new Map<string, Stored[]>();
  /** Why the file could not be read the last time. */
  #readFault: string | undefined;
  #seen: Pick<Health, 'deadLetters' | 'oldestAt'> = { deadLetters: 0, oldestAt: undefined };
  #bytes = 0;
  /** When that was measured. */
  #measuredAt = 0;
  #pageSize: number;
  #closed = false;

  constructor(options: Required<SqliteOutboxOptions>, database: DatabaseSync, lock: { release(): void }) {
    this.#options = options;
    this.#database = database;
    this.#lock = lock;
    this.#sql = prepare(database);
    this.deadLetters = {
      put: (deadLetters) => this.commit({ notifications: [], deadLetters }),
      ...whileOpen(deadLettersOn(database), () => this.#closed),
    };
    this.#pageSize = pragma(database, 'page_size');
    this.#parcels = new Parcels(database);
    this.#syncedSeq = this.#parcels.lastSeq;
    this.#shelf = {
      read: (topic, after, upTo, limit, credit) => {
        const found = this.#parcels.read(topic, this.#topicIds.get(topic) ?? 0, after, upTo, limit, credit);
        this.#bury(topic, found.unreadable);
        return found;
      },
      load: (topic, seqs) => {
        const found = this.#parcels.load(topic, this.#topicIds.get(topic) ?? 0, seqs);
        this.#bury(topic, found.unreadable);
        return found.notifications;
      },
      next: (after) => this.#parcels.next(after),
      last: () => this.#syncedSeq,
      settle: (settlements) => this.#settle(settlements),
      readFailed: (error) => this.#noteRead(error),
      closed: () => this.#closed,
    };
    for (const { id, arn, depth } of database.prepare('SELECT id, arn, depth FROM topic').all()) {
      this.#topicIds.set(String(arn), Number(id));
      this.#depth.set(String(arn), Number(depth));
    }
    this.#sources = new Sources(database);
    this.#holes = readHoles(database);
    this.sources = {
      list: async (limit) => latestFirst(this.#states(), limit),
      holes: async () => this.#holes,
      acknowledge: (source) =>
        this.#change(
          () => deleteHoles(database, source),
          () => this.#dropHoles(source),
        ),
      retire: (source) =>
        this.#change(
          () => deleteSource(database, source),
          () => this.#dropSource(source),
        ),
    };
    for (const position of this.#sources.positions()) this.#positions.set(positionKey(position), position);
    this.#forgetOutdated();
    this.#forgetting = setInterval(() => this.#forgetOutdated(), FORGET_MS).unref();
    this.#measure();
    const reserve = createReserve(options.file);
    // Most rows live for less than a second: with a long log they never reach the database file at all.
    const logPages = Math.floor((reserve.size * 0.9) / this.#pageSize);
    // And whoever else has the file locked must not hold the event loop up.
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
        this.#depthChange = new Map();
        this.#parcels.begin();
      },
      end: (time) => {
        this.#bytes += this.#parcels.write(time);
        for (const [arn, change] of this.#depthChange) this.#sql.changeDepth.run(change, arn);
      },
      committed: () => {
        for (const [arn, change] of this.#depthChange) this.#depth.set(arn, (this.#depth.get(arn) ?? 0) + change);
        if (performance.now() - this.#measuredAt > MEASURE_MS) this.#measure();
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
      wholeBytes: () => this.#wholeBytes(),
      checkpoint: () => this.#checkpoint(),
      stuck: (logBytes) =>
        options.log.warn({ logBytes }, "the outbox's log can't be emptied: another process reads it in a transaction"),
      changed: (problem) => {
        if (problem) options.log.error({ problem }, 'the outbox takes nothing new');
        else options.log.info({ file: options.file }, 'the outbox is all right again');
      },
    });
  }

  async source(name: string, epoch: string): Promise<Cursor> {
    const key = positionKey({ source: name, epoch });
    const release = await this.#turns(key);
    const positions = this.#positions;
    return {
      get last() {
        return positions.get(key)?.last;
      },
      get newestAt() {
        return positions.get(key)?.newestAt;
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
    if (this.#isFull()) return Promise.reject(this.#fullError());
    let moved: Moved | undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#writer.add({
      apply: (now) => {
        for (const notification of notifications) this.#add(notification);
        for (const letter of deadLetters) insertDeadLetter(this.#database, letter, now);
        for (const id of replaces) this.#sql.deleteDeadLetter.run(id);
        if (reached) moved = this.#move(reached, now);
      },
      done: () => {
        if (moved) this.#positions.set(positionKey(moved.position), moved.position);
        if (moved?.hole) this.#holes = [moved.hole, ...this.#holes].slice(0, MOST_HOLES);
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
    return this.#depth.keys();
  }

  #settle(settlements: readonly Settlement[]): Promise<void> {
    // Too late to write it down: the notification stays, and goes out once more at the next start.
    if (this.#closed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const apply = (now: number) => {
      for (const { notification, dead } of settlements) {
        // Settled twice when a reload did not wait for a request that hung: it counts once.
        if (!this.#parcels.settle(notification.seq)) continue;
        this.#changeDepth(notification.topic, -1);
        if (dead) insertDeadLetter(this.#database, toDeadLetter(notification, dead), now);
      }
    };
    // What the sink has must not be sent again: this may wait for the disk, but never fail.
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
      topics: [...this.#depth].map(([topic, depth]) => ({ topic, depth })),
      sources: this.#states(),
      holes: this.#holes,
      ...this.#seen,
      bytes: this.#bytes,
      maxBytes: this.#options.maxBytes,
      fault: this.fault?.message ?? this.#readFault,
    };
  }

  /** Counts what is known only to the file. Where that can't be read, what was seen last stands, and the fault says why. */
  #look(): void {
    this.#measure();
    try {
      const deadLetters = Number(this.#sql.countDeadLetters.get()?.n);
      this.#seen = { deadLetters, oldestAt: this.#parcels.oldestAt };
    } catch (error) {
      this.#noteRead(error);
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
    this.#changeDepth(notification.topic, 1);
    this.#parcels.add(notification, this.#topicId(notification.topic));
  }

  #topicId(arn: string): number {
    const known = this.#topicIds.get(arn);
    if (known !== undefined) return known;
    // Not kept before the commit, for a rollback would leave a number without its topic: ask the table meanwhile.
    this.#sql.insertTopic.run(arn);
    return Number(this.#sql.topicId.get(arn)?.id);
  }

  #move({ source, epoch, ...progress }: Reached, now: number): Moved {
    return this.#sources.move(source, epoch, progress, this.#positions.get(positionKey({ source, epoch })), now);
  }

  /** Changes what is kept of sources, when it is a person who asks for it. */
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

  #states(): SourceState[] {
    return [...this.#positions.values()].map(({ newestAt: _, ...state }) => state);
  }

  #dropHoles(source?: string): void {
    this.#holes = source === undefined ? [] : this.#holes.filter((hole) => hole.source !== source);
  }

  #dropSource(source: string): void {
    this.#dropHoles(source);
    for (const [key, position] of this.#positions) if (position.source === source) this.#positions.delete(key);
  }

  #forgetOutdated(): void {
    try {
      for (const position of outdated(this.#positions.values(), this.#options.now())) {
        this.#sources.forget(position);
        this.#positions.delete(positionKey(position));
      }
    } catch (error) {
      this.#options.log.warn(
        { problem: messageOf(error) },
        'ended epochs of sources could not be forgotten; tried again later',
      );
    }
  }

  #changeDepth(arn: string, by: number): void {
    this.#depthChange.set(arn, (this.#depthChange.get(arn) ?? 0) + by);
  }

  /** Notes what came to the disk, to be handed over when all of its group is noted. */
  #gather(parcels: readonly OpenParcel[]): void {
    for (const { topic, topicId, notifications } of parcels) {
      this.#topicIds.set(topic, topicId);
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

  #noteRead(error: unknown): void {
    if (error === undefined) {
      this.#readFault = undefined;
      return;
    }
    const { file, log } = this.#options;
    const fault = `outbox ${file} ${describe(error)}`;
    if (fault !== this.#readFault)
      log.error({ problem: messageOf(error) }, 'the outbox could not be read; tried again in a moment');
    this.#readFault = fault;
  }

  /** Makes dead letters of notifications that can't be read, so that they hold up nobody. */
  #bury(topic: string, unreadable: readonly Unreadable[]): void {
    if (unreadable.length === 0) return;
    let buried: number[] = [];
    const apply = (now: number) => {
      buried = [];
      for (const { seq, raw } of unreadable) {
        if (!this.#parcels.settle(seq)) continue;
        this.#changeDepth(topic, -1);
        insertDeadLetter(this.#database, unreadableLetter(topic, `unreadable/${seq}`, raw), now);
        buried.push(seq);
      }
    };
    const done = () => {
      if (buried.length > 0) this.#options.log.error({ topic, notifications: buried.length }, UNREADABLE);
    };
    this.#writer.add({ apply, done }, true);
  }

  /** Looks again before it says yes, since dead letters can be deleted on another connection. */
  #isFull(): boolean {
    if (this.#bytes >= this.#options.maxBytes) this.#measure();
    return this.#bytes >= this.#options.maxBytes;
  }

  /** How much of the file is in use. Between two measurements what is written counts, and what is settled does not. */
  #measure(): void {
    this.#measuredAt = performance.now();
    try {
      const free = Number(this.#sql.freePages.get()?.freelist_count);
      const used = (Number(this.#sql.pageCount.get()?.page_count) - free) * this.#pageSize;
      this.#bytes = used + (this.#surroundings?.excessLogBytes() ?? 0);
    } catch {
      // The disk can't be read: the last count stands, and whoever reads or writes next meets the fault itself.
    }
  }

  #wholeBytes(): number {
    try {
      return Number(this.#sql.pageCount.get()?.page_count) * this.#pageSize;
    } catch {
      return Number.POSITIVE_INFINITY; // It can't be read: it is not whole.
    }
  }

  #checkpoint(): void {
    try {
      this.#database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    } catch {
      // Whoever watches sees that the log is as large as before.
    }
  }

  #fullError(): PusherError {
    const { file, maxBytes } = this.#options;
    return new PusherError(
      'OUTBOX_FULL',
      `outbox ${file} is full: it holds ${bytes(this.#bytes)}, outbox.max_bytes is ${bytes(maxBytes)}`,
    );
  }
}

/** How far a source's epoch is heard with a commit. */
interface Reached extends Progress {
  readonly source: string;
  readonly epoch: string;
}

const positionKey = ({ source, epoch }: Pick<Position, 'source' | 'epoch'>): string => `${source}\n${epoch}`;

const toDeadLetter = (notification: Stored, dead: NonNullable<Settlement['dead']>): NewDeadLetter => {
  const { seq: _, ...content } = notification;
  return {
    eventId: notification.eventId,
    topic: notification.topic,
    ...dead,
    content: { kind: 'notification' as const, notification: content },
  };
};
