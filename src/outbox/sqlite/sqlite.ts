/**
 * The embedded outbox: one SQLite file.
 *
 * Maintained invariants:
 * - `#depth` changes with the transaction that it mirrors; `#positions` and `#queues` only when that is on disk, so that
 *   nothing is published or taken for a duplicate which a loss of power could undo.
 */
import { existsSync, lstatSync, realpathSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { PusherError } from '../../errors.ts';
import type { Notification } from '../../notification/notification.ts';
import type {
  DeadLetter,
  DeadLetters,
  Intake,
  Outbox,
  OutboxState,
  Position,
  Settlement,
  SourceState,
  Stored,
} from '../outbox.ts';
import { deadLettersOn, insertDeadLetter, replayRequested } from './dead-letters.ts';
import { GroupCommit } from './group-commit.ts';
import { createReserve } from './reserve.ts';
import { faultOf, isDiskFull, lockOutbox, openDatabase, pragma } from './schema.ts';
import { prepare, type Row, type Statements, toStored } from './statements.ts';
import { type Shelf, TopicQueue } from './topic-queue.ts';

/** Epochs that were not heard for so long are forgotten at a start, when their source has a newer one: 30 days. */
const EPOCH_KEPT_MS = 30 * 24 * 3_600_000;

interface SqliteOutboxOptions {
  readonly file: string;
  /** How large the content of the file may grow, in bytes. */
  readonly maxBytes: number;
  readonly now?: () => number;
}

/**
 * Opens the embedded outbox.
 * @throws PusherError OUTBOX_UNUSABLE or OUTBOX_LOCKED
 */
export function openSqliteOutbox({ file, ...others }: SqliteOutboxOptions): Outbox {
  // What lies beside the file lies beside the real one, where SQLite has its log too.
  const isLink = lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink();
  const options = { ...others, file: isLink && existsSync(file) ? realpathSync(file) : file };
  try {
    return open(options);
  } catch (error) {
    // A start writes too. After it, the outbox takes nothing new until the disk has room again.
    if (!isDiskFull(error)) throw error;
    createReserve(options.file).release();
    return open(options);
  }
}

function open(options: SqliteOutboxOptions): Outbox {
  const lock = lockOutbox(options.file);
  let database: DatabaseSync | undefined;
  try {
    database = openDatabase(options.file, { create: true });
    return new SqliteOutbox(options, database, lock);
  } catch (error) {
    // Damage behind an intact header shows only when its tables are read.
    database?.close();
    lock.release();
    throw faultOf(options.file, error);
  }
}

class SqliteOutbox implements Outbox {
  readonly deadLetters: DeadLetters;
  readonly #options: SqliteOutboxOptions;
  readonly #database: DatabaseSync;
  readonly #lock: { release(): void };
  readonly #now: () => number;
  readonly #sql: Statements;
  readonly #queues = new Map<string, TopicQueue>();
  readonly #shelf: Shelf;
  readonly #depth = new Map<string, number>();
  readonly #positions = new Map<string, SourceState>();
  readonly #listeners = new Set<() => void>();
  readonly #writer: GroupCommit;
  #lastSeq: number;
  /** The last number that is on disk. */
  #syncedSeq: number;
  /** As `#lastSeq` was before the transaction that is being written. */
  #seqBefore = 0;
  /** What the transaction that is being written changes of each topic's depth. */
  #depthChange = new Map<string, number>();
  /** Whether what came to the disk just now brought notifications. */
  #brought = false;
  #bytes = 0;
  #pageSize: number;
  #closed = false;

  constructor(options: SqliteOutboxOptions, database: DatabaseSync, lock: { release(): void }) {
    this.#options = options;
    this.#database = database;
    this.#lock = lock;
    this.#now = options.now ?? Date.now;
    this.#sql = prepare(database);
    this.deadLetters = deadLettersOn(database);
    this.#pageSize = pragma(database, 'page_size');
    this.#lastSeq = Number(database.prepare('SELECT max(seq) AS n FROM notification').get()?.n ?? 0);
    this.#syncedSeq = this.#lastSeq;
    this.#forgetOldEpochs();
    this.#shelf = {
      read: (topic, after, upTo, limit) =>
        (this.#sql.read.all(after, upTo, topic, limit) as unknown as Row[]).map(toStored),
      next: (after) => this.#sql.next.get(after)?.seq as number | undefined,
      last: () => this.#syncedSeq,
      closed: () => this.#closed,
    };
    for (const { id, arn, depth } of database.prepare('SELECT id, arn, depth FROM topic').all()) {
      this.#queues.set(String(arn), new TopicQueue(Number(id), this.#shelf, true));
      this.#depth.set(String(arn), Number(depth));
    }
    const sources = database
      .prepare('SELECT source, epoch, last, holes, missing, heard_at AS "heardAt" FROM source')
      .all() as unknown as SourceState[];
    for (const state of sources) this.#positions.set(positionKey(state.source, state.epoch), { ...state });
    this.#measure();
    const reserve = createReserve(options.file);
    // Most rows live for less than a second: with a long log they never reach the database file at all.
    database.exec(`PRAGMA wal_autocheckpoint = ${Math.floor((reserve.size * 0.9) / this.#pageSize)}`);
    this.#writer = new GroupCommit({
      database,
      file: options.file,
      reserve,
      now: this.#now,
      begin: () => {
        this.#depthChange.clear();
        this.#seqBefore = this.#lastSeq;
      },
      end: () => {
        for (const [arn, change] of this.#depthChange) this.#sql.changeDepth.run(change, arn);
      },
      committed: () => {
        for (const [arn, change] of this.#depthChange) this.#depth.set(arn, (this.#depth.get(arn) ?? 0) + change);
        this.#measure();
      },
      undone: () => {
        this.#lastSeq = this.#seqBefore;
      },
      finished: () => this.#announce(),
    });
  }

  positionOf(source: string, epoch: string): number {
    return this.#positions.get(positionKey(source, epoch))?.last ?? 0;
  }

  commit(intake: Intake): Promise<void> {
    if (this.#closed) return Promise.reject(new PusherError('OUTBOX_CLOSED', 'the outbox is closed'));
    if (this.#isFull()) return Promise.reject(this.#fullError());
    const stored: Stored[] = [];
    let position: SourceState | undefined;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#writer.add({
      apply: (now) => {
        stored.length = 0;
        for (const notification of intake.notifications) stored.push(this.#insert(notification, now));
        for (const letter of intake.deadLetters) insertDeadLetter(this.#database, letter, now);
        for (const id of intake.replaces ?? []) this.#sql.deleteDeadLetter.run(id);
        if (intake.position) position = this.#savePosition(intake.position, now);
      },
      done: () => {
        if (position) this.#positions.set(positionKey(position.source, position.epoch), position);
        this.#syncedSeq = stored.at(-1)?.seq ?? this.#syncedSeq;
        for (const notification of stored) this.#enqueue(notification);
        this.#brought ||= stored.length > 0;
        resolve();
      },
      failed: reject,
    });
    return promise;
  }

  async take(topic: string, limit: number): Promise<Stored[]> {
    const queue = this.#queues.get(topic);
    return queue && !this.#closed ? queue.take(limit) : [];
  }

  async fetch(seqs: readonly number[]): Promise<Stored[]> {
    if (this.#closed) return [];
    return (this.#sql.fetch.all(JSON.stringify(seqs)) as unknown as Row[]).map(toStored);
  }

  topics(): Iterable<string> {
    return this.#queues.keys();
  }

  rewind(): void {
    for (const queue of this.#queues.values()) queue.rewind();
  }

  settle(settlements: readonly Settlement[]): Promise<void> {
    // Too late to write it down: the notification stays, and goes out once more at the next start.
    if (this.#closed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const apply = (now: number) => {
      for (const { notification, dead } of settlements) {
        // Settled twice when a reload did not wait for a request that hung: it counts once.
        if (this.#sql.deleteNotification.run(notification.seq).changes === 0) continue;
        this.#changeDepth(notification.topic, -1);
        if (dead) insertDeadLetter(this.#database, toDeadLetter(notification, dead), now);
      }
    };
    // What SNS has must not be sent again: this may wait for the disk, but never fail.
    this.#writer.add({ apply, done: resolve }, true);
    return promise;
  }

  async replayRequests(limit: number): Promise<DeadLetter[]> {
    return this.#closed ? [] : replayRequested(this.#database, limit);
  }

  get fault(): PusherError | undefined {
    return this.#writer.fault;
  }

  state(): OutboxState {
    if (!this.#closed) this.#measure();
    return {
      topics: [...this.#depth].map(([arn, depth]) => ({ arn, depth })),
      sources: [...this.#positions.values()],
      deadLetters: this.#closed ? 0 : Number(this.#sql.countDeadLetters.get()?.n),
      bytes: this.#bytes,
      maxBytes: this.#options.maxBytes,
      oldestAt: this.#closed ? undefined : (this.#sql.oldest.get()?.committed_at as number | undefined),
      fault: this.fault?.message,
    };
  }

  onCommitted(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#writer.close();
    this.#database.close();
    this.#lock.release();
  }

  #insert(notification: Notification, now: number): Stored {
    const { topic, orderKey, eventId, at, message, attributes, bytes } = notification;
    const seq = ++this.#lastSeq;
    const packed = attributes.length === 0 ? null : JSON.stringify(attributes);
    this.#changeDepth(topic, 1);
    this.#sql.insert.run(seq, this.#topicId(topic), orderKey, eventId, at, now, message, packed, bytes);
    return { seq, eventId, topic, orderKey, at, message, attributes, bytes };
  }

  #topicId(arn: string): number {
    const known = this.#queues.get(arn);
    if (known) return known.topic;
    // Not before the commit, for a rollback would leave a queue without its topic: ask the table meanwhile.
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
      .run(this.#now() - EPOCH_KEPT_MS);
  }

  #changeDepth(arn: string, by: number): void {
    this.#depthChange.set(arn, (this.#depthChange.get(arn) ?? 0) + by);
  }

  #enqueue(notification: Stored): void {
    const { topic } = notification;
    let queue = this.#queues.get(topic);
    if (!queue) {
      queue = new TopicQueue(Number(this.#sql.topicId.get(topic)?.id), this.#shelf, false);
      this.#queues.set(topic, queue);
    }
    queue.push(notification);
  }

  /** Not before all of a group is queued: a listener that takes at once may read from disk, where all of it is. */
  #announce(): void {
    if (!this.#brought) return;
    this.#brought = false;
    for (const listener of this.#listeners) listener();
  }

  /** Looks again before it says yes, since dead letters can be deleted on another connection. */
  #isFull(): boolean {
    if (this.#bytes >= this.#options.maxBytes) this.#measure();
    return this.#bytes >= this.#options.maxBytes;
  }

  /** How much of the file is in use. */
  #measure(): void {
    try {
      const free = Number(this.#sql.freePages.get()?.freelist_count);
      this.#bytes = (Number(this.#sql.pageCount.get()?.page_count) - free) * this.#pageSize;
    } catch {
      // The disk can't be read: the last count stands, and whoever reads or writes next meets the fault itself.
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

const positionKey = (source: string, epoch: string) => `${source}\n${epoch}`;

const toDeadLetter = (notification: Stored, dead: NonNullable<Settlement['dead']>) => {
  const { seq: _, ...content } = notification;
  return {
    eventId: notification.eventId,
    topic: notification.topic,
    ...dead,
    content: { kind: 'notification' as const, notification: content },
  };
};
