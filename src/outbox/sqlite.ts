/**
 * The embedded outbox: one SQLite file.
 *
 * Maintained invariants:
 * - All writes of one turn of the event loop share one transaction and one fsync (a group commit); each caller learns of
 *   its own part only when the whole is on disk. One caller's fault (an outbox that is full) never fails another's.
 * - `#depth`, `#positions` and `#queues` change only after the transaction that they mirror.
 * - A queue that is not `behind` holds, in order, every notification of its topic that was committed and not yet taken.
 *
 * A topic's newest notifications are handed on from memory while its publisher keeps up. When it does not (a pause, an
 * outage, a start with a backlog) the queue forgets them and reads from disk until it has caught up.
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PusherError } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import { deadLettersOn, insertDeadLetter, replayRequested } from './dead-letters.ts';
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
} from './outbox.ts';
import { describe, faultOf, lockOutbox, openDatabase, pragma } from './schema.ts';

/** How many notifications, and bytes, of one topic wait in memory before its queue turns to the disk. */
const QUEUE_LIMIT = 20_000;
const QUEUE_BYTES = 32 * 1_048_576;
/** How many rows one read from disk looks at, so that another topic's backlog can't hold the event loop up. */
const READ_WINDOW = 20_000;
/**
 * How long settlements wait for more to share their fsync with, in milliseconds; a tap's commit takes them along at once.
 * Nobody waits for a settlement but the slot that its request had.
 */
const COMPANY_MS = 2;
/** How long a failed disk is left alone before settlements are tried again, in milliseconds. */
const FAULT_PAUSE_MS = 1_000;
/** Epochs that were not heard for so long are forgotten at a start, when their source has a newer one: 30 days. */
const EPOCH_KEPT_MS = 30 * 24 * 3_600_000;

interface Queue {
  readonly id: number;
  readonly arn: string;
  /** Last number read from disk, while behind. */
  cursor: number;
  behind: boolean;
  rows: Stored[];
  bytes: number;
}

interface Write {
  /** Runs inside the transaction. */
  readonly apply: (now: number) => void;
  /** Runs when it is on disk. */
  readonly done: () => void;
  readonly failed: (error: PusherError) => void;
}

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
export function openSqliteOutbox(options: SqliteOutboxOptions): Outbox {
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
  readonly #queues = new Map<string, Queue>();
  readonly #depth = new Map<string, number>();
  readonly #positions = new Map<string, SourceState>();
  readonly #listeners = new Set<() => void>();
  #pending: Write[] = [];
  #immediate: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #lastSeq: number;
  /** What the transaction that is being written changes of each topic's depth. */
  #depthChange = new Map<string, number>();
  /** Whether the transaction that was written just now brought notifications. */
  #brought = false;
  #bytes = 0;
  #pageSize: number;
  #fault: string | undefined;
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
    this.#forgetOldEpochs();
    for (const row of database.prepare('SELECT id, arn, depth FROM topic').all() as unknown as (Queue & {
      depth: number;
    })[]) {
      this.#queues.set(row.arn, { id: row.id, arn: row.arn, cursor: 0, behind: true, rows: [], bytes: 0 });
      this.#depth.set(row.arn, row.depth);
    }
    const sources = database
      .prepare('SELECT source, epoch, last, holes, missing, heard_at AS "heardAt" FROM source')
      .all() as unknown as SourceState[];
    for (const state of sources) this.#positions.set(positionKey(state.source, state.epoch), { ...state });
    this.#measure();
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
    this.#write(
      {
        apply: (now) => {
          stored.length = 0;
          for (const notification of intake.notifications) stored.push(this.#insert(notification, now));
          for (const letter of intake.deadLetters) insertDeadLetter(this.#database, letter, now);
          for (const id of intake.replaces ?? []) this.#sql.deleteDeadLetter.run(id);
          if (intake.position) position = this.#savePosition(intake.position, now);
        },
        done: () => {
          if (position) this.#positions.set(positionKey(position.source, position.epoch), position);
          for (const notification of stored) this.#enqueue(notification);
          this.#brought ||= stored.length > 0;
          resolve();
        },
        failed: reject,
      },
      true,
    );
    return promise;
  }

  async take(topicArn: string, limit: number): Promise<Stored[]> {
    const queue = this.#queues.get(topicArn);
    if (!queue || this.#closed) return [];
    if (queue.behind) return this.#read(queue, limit);
    const rows = queue.rows.splice(0, limit);
    for (const { bytes } of rows) queue.bytes -= bytes;
    return rows;
  }

  async fetch(seqs: readonly number[]): Promise<Stored[]> {
    if (this.#closed) return [];
    const rows = this.#sql.fetch.all(JSON.stringify(seqs)) as unknown as (NotificationRow & { arn: string })[];
    return rows.map((row) => toStored(row, row.arn));
  }

  rewind(): void {
    for (const queue of this.#queues.values()) Object.assign(queue, { cursor: 0, behind: true, rows: [], bytes: 0 });
  }

  settle(settlements: readonly Settlement[]): Promise<void> {
    // Too late to write it down: the notification stays, and goes out once more at the next start.
    if (this.#closed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const write: Write = {
      apply: (now) => {
        for (const { notification, dead } of settlements) {
          // Settled twice when a reload did not wait for a request that hung: it counts once.
          if (this.#sql.deleteNotification.run(notification.seq).changes === 0) continue;
          this.#changeDepth(notification.topicArn, -1);
          if (dead) insertDeadLetter(this.#database, toDeadLetter(notification, dead), now);
        }
      },
      done: resolve,
      // What SNS has must not be sent again: the verdict is kept until the disk takes it.
      failed: () => this.#write(write, false),
    };
    this.#write(write, false);
    return promise;
  }

  async replayRequests(limit: number): Promise<DeadLetter[]> {
    return this.#closed ? [] : replayRequested(this.#database, limit);
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
      fault: this.#fault,
    };
  }

  onCommitted(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    this.#cancelFlush();
    this.#database.close();
    this.#lock.release();
  }

  #insert(notification: Notification, now: number): Stored {
    const { topicArn, orderKey, eventId, at, message, attributes, bytes } = notification;
    const seq = ++this.#lastSeq;
    const packed = attributes.length === 0 ? null : JSON.stringify(attributes);
    this.#changeDepth(topicArn, 1);
    this.#sql.insert.run(seq, this.#topicId(topicArn), orderKey, eventId, at, now, message, packed, bytes);
    return { seq, eventId, topicArn, orderKey, at, message, attributes, bytes };
  }

  #topicId(arn: string): number {
    const known = this.#queues.get(arn);
    if (known) return known.id;
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
    const { topicArn } = notification;
    let queue = this.#queues.get(topicArn);
    if (!queue) {
      queue = {
        id: Number(this.#sql.topicId.get(topicArn)?.id),
        arn: topicArn,
        cursor: 0,
        behind: false,
        rows: [],
        bytes: 0,
      };
      this.#queues.set(topicArn, queue);
    }
    if (queue.behind) return;
    queue.rows.push(notification);
    queue.bytes += notification.bytes;
    if (queue.rows.length <= QUEUE_LIMIT && queue.bytes <= QUEUE_BYTES) return;
    queue.cursor = (queue.rows[0] as Stored).seq - 1;
    queue.rows = [];
    queue.bytes = 0;
    queue.behind = true;
  }

  async #read(queue: Queue, limit: number): Promise<Stored[]> {
    for (;;) {
      const end = queue.cursor + READ_WINDOW;
      const rows = this.#sql.read.all(queue.cursor, end, queue.id, limit) as unknown as NotificationRow[];
      queue.cursor = rows.length === limit ? (rows.at(-1) as NotificationRow).seq : end;
      // Nothing can be committed between this and the next commit's enqueue: all of it runs in one turn.
      if (queue.cursor >= this.#lastSeq) queue.behind = false;
      if (rows.length > 0 || !queue.behind) return rows.map((row) => toStored(row, queue.arn));
      queue.cursor = Math.max(queue.cursor, this.#firstSeqAfter(queue.cursor) - 1);
      // A million rows of other topics are looked through in many turns.
      await nextTurn();
      if (this.#closed) return [];
    }
  }

  #firstSeqAfter(seq: number): number {
    return Number(this.#sql.next.get(seq)?.seq ?? this.#lastSeq + 1);
  }

  #write(write: Write, urgent: boolean): void {
    this.#pending.push(write);
    if (this.#fault !== undefined) this.#timer ??= setTimeout(() => this.#flush(), FAULT_PAUSE_MS);
    else if (urgent) this.#immediate ??= setImmediate(() => this.#flush());
    else this.#timer ??= setTimeout(() => this.#flush(), COMPANY_MS);
  }

  #cancelFlush(): void {
    clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
    this.#immediate = undefined;
    this.#timer = undefined;
  }

  #flush(): void {
    this.#cancelFlush();
    const writes = this.#pending;
    if (writes.length === 0) return;
    this.#pending = [];
    const lastSeq = this.#lastSeq;
    this.#depthChange.clear();
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      const now = this.#now();
      for (const write of writes) write.apply(now);
      for (const [arn, change] of this.#depthChange) this.#sql.changeDepth.run(change, arn);
      this.#database.exec('COMMIT');
      this.#fault = undefined;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      this.#lastSeq = lastSeq;
      this.#fault = `outbox ${this.#options.file} ${describe(error)}`;
      const fault = new PusherError('OUTBOX_UNUSABLE', this.#fault, error);
      for (const write of writes) write.failed(fault);
      return;
    }
    for (const [arn, change] of this.#depthChange) this.#depth.set(arn, (this.#depth.get(arn) ?? 0) + change);
    this.#measure();
    for (const write of writes) write.done();
    if (!this.#brought) return;
    // Not before all of the group is queued: a listener that takes at once may read from disk, where all of it is.
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
    const pages = Number(this.#sql.pageCount.get()?.page_count) - Number(this.#sql.freePages.get()?.freelist_count);
    this.#bytes = pages * this.#pageSize;
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
    topicArn: notification.topicArn,
    ...dead,
    content: { kind: 'notification' as const, notification: content },
  };
};

interface NotificationRow {
  seq: number;
  order_key: string;
  event_id: string;
  at: number;
  message: string;
  attributes: string | null;
  bytes: number;
}

const toStored = (row: NotificationRow, topicArn: string): Stored => ({
  seq: row.seq,
  eventId: row.event_id,
  topicArn,
  orderKey: row.order_key,
  at: row.at,
  message: row.message,
  attributes: row.attributes === null ? [] : JSON.parse(row.attributes),
  bytes: row.bytes,
});

type Statements = Record<
  | 'insert'
  | 'deleteNotification'
  | 'read'
  | 'fetch'
  | 'next'
  | 'oldest'
  | 'insertTopic'
  | 'topicId'
  | 'savePosition'
  | 'changeDepth'
  | 'countDeadLetters'
  | 'deleteDeadLetter'
  | 'pageCount'
  | 'freePages',
  StatementSync
>;

function prepare(database: DatabaseSync): Statements {
  const sql = (text: string) => database.prepare(text);
  return {
    insert: sql('INSERT INTO notification VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)'),
    deleteNotification: sql('DELETE FROM notification WHERE seq = ?'),
    read: sql(
      'SELECT seq, order_key, event_id, at, message, attributes, bytes FROM notification WHERE seq > ? AND seq <= ? AND topic = ? ORDER BY seq LIMIT ?',
    ),
    fetch: sql(
      `SELECT seq, order_key, event_id, at, message, attributes, bytes, arn
         FROM notification JOIN topic ON topic.id = notification.topic
        WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq`,
    ),
    next: sql('SELECT seq FROM notification WHERE seq > ? ORDER BY seq LIMIT 1'),
    oldest: sql('SELECT committed_at FROM notification ORDER BY seq LIMIT 1'),
    insertTopic: sql('INSERT OR IGNORE INTO topic (arn) VALUES (?)'),
    topicId: sql('SELECT id FROM topic WHERE arn = ?'),
    savePosition: sql('INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?, ?)'),
    changeDepth: sql('UPDATE topic SET depth = depth + ? WHERE arn = ?'),
    countDeadLetters: sql('SELECT count(*) AS n FROM dead_letter'),
    deleteDeadLetter: sql('DELETE FROM dead_letter WHERE id = ?'),
    pageCount: sql('PRAGMA page_count'),
    freePages: sql('PRAGMA freelist_count'),
  };
}
