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
import { type Log, SILENT } from '../../log.ts';
import type { Notification } from '../../notification/notification.ts';
import type { DeadLetterStore, NewDeadLetter } from '../dead-letters.ts';
import type {
  Admission,
  Backlog,
  Cursor,
  Health,
  Outbox,
  Progress,
  Settlement,
  SourceState,
  Stored,
} from '../outbox.ts';
import { createTurns } from '../turns.ts';
import { type Shelf, SqliteBacklog } from './backlog.ts';
import { deadLettersOn, insertDeadLetter } from './dead-letters.ts';
import { GroupCommit } from './group-commit.ts';
import { type OpenParcel, Parcels, type Unreadable } from './parcels.ts';
import { createReserve } from './reserve.ts';
import { describe, faultOf, isDiskFull, lockOutbox, openDatabase, pragma, refuseIfOpenElsewhere } from './schema.ts';
import { prepare, type Statements } from './statements.ts';
import { type Surroundings, watchSurroundings } from './surroundings.ts';
import { takeOver } from './takeover.ts';
import { UNREADABLE, unreadableLetter } from './unreadable.ts';

/** Epochs that were not heard for so long are forgotten at a start, when their source has a newer one: 30 days. */
const EPOCH_KEPT_MS = 30 * 24 * 3_600_000;

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
 * @throws PusherError OUTBOX_UNUSABLE or OUTBOX_LOCKED
 */
export function sqliteOutbox({
  file,
  maxBytes = MAX_BYTES,
  log = SILENT,
  now = Date.now,
}: SqliteOutboxOptions): Outbox {
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
  readonly #positions = new Map<string, SourceState>();
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
      ...deadLettersOn(database),
    };
    this.#pageSize = pragma(database, 'page_size');
    this.#parcels = new Parcels(database);
    this.#syncedSeq = this.#parcels.lastSeq;
    this.#forgetOldEpochs();
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
    const sources = database
      .prepare('SELECT source, epoch, last, holes, missing, heard_at AS "heardAt" FROM source')
      .all() as unknown as SourceState[];
    for (const state of sources) this.#positions.set(positionKey(state.source, state.epoch), { ...state });
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
    const key = positionKey(name, epoch);
    const release = await this.#turns(key);
    const positions = this.#positions;
    return {
      get last() {
        return positions.get(key)?.last;
      },
      commit: (admission, progress) => this.#commit(admission, { source: name, epoch, ...progress }),
      release,
    };
  }

  commit(admission: Admission): Promise<void> {
    return this.#commit(admission);
  }

  #commit({ notifications, deadLetters, replaces = [] }: Admission, reached?: Position): Promise<void> {
    if (this.#closed) return Promise.reject(new PusherError('OUTBOX_CLOSED', 'the outbox is closed'));
    if (this.#surroundings.problem) return Promise.reject(this.fault);
    if (this.#isFull()) return Promise.reject(this.#fullError());
    let position: SourceState | undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#writer.add({
      apply: (now) => {
        for (const notification of notifications) this.#add(notification);
        for (const letter of deadLetters) insertDeadLetter(this.#database, letter, now);
        for (const id of replaces) this.#sql.deleteDeadLetter.run(id);
        if (reached) position = this.#savePosition(reached, now);
      },
      done: () => {
        if (position) this.#positions.set(positionKey(position.source, position.epoch), position);
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
      sources: [...this.#positions.values()],
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

  #savePosition({ source, epoch, last, missing }: Position, now: number): SourceState {
    const before = this.#positions.get(positionKey(source, epoch));
    const state: SourceState = {
      source,
      epoch,
      last,
      holes: (before?.holes ?? 0) + (missing > 0 ? 1 : 0),
      missing: (before?.missing ?? 0) + missing,
      heardAt: now,
    };
    this.#sql.savePosition.run(source, epoch, last, state.holes, state.missing, now);
    return state;
  }

  #forgetOldEpochs(): void {
    this.#database
      .prepare(
        `DELETE FROM source WHERE heard_at < ? AND EXISTS
           (SELECT 1 FROM source AS newer WHERE newer.source = source.source AND newer.heard_at > source.heard_at)`,
      )
      .run(this.#options.now() - EPOCH_KEPT_MS);
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
      `outbox ${file} is full: it holds ${this.#bytes} bytes, outbox.max_bytes is ${maxBytes}`,
    );
  }
}

/** How far a source's epoch is heard with a commit. */
interface Position extends Progress {
  readonly source: string;
  readonly epoch: string;
}

const positionKey = (source: string, epoch: string) => `${source}\n${epoch}`;

const toDeadLetter = (notification: Stored, dead: NonNullable<Settlement['dead']>): NewDeadLetter => {
  const { seq: _, ...content } = notification;
  return {
    eventId: notification.eventId,
    topic: notification.topic,
    ...dead,
    content: { kind: 'notification' as const, notification: content },
  };
};
