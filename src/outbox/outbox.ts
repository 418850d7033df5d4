/**
 * The outbox: where notifications are from the moment a tap acknowledges them until SNS has them, and where dead letters
 * stay. This is its contract; {@link file://./sqlite/sqlite.ts} is the embedded one.
 *
 * Maintained invariants:
 * - What `commit` has resolved for survives a kill of the process and a loss of power.
 * - A source's position and what came of its events are one commit, so a batch that is handed over again changes nothing.
 * - A notification leaves the outbox only by `settle`.
 */
import type { PusherError } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';

/** A notification in the outbox. */
export interface Stored extends Notification {
  /** The outbox's own number: ascending in the order of commits. */
  readonly seq: number;
}

/** How far a source has been heard: all events of this epoch up to and including `last`. */
export interface Position {
  readonly source: string;
  readonly epoch: string;
  readonly last: number;
  /** How many numbers were left out just before this batch: events that the source lost. */
  readonly missing: number;
}

/**
 * What is kept of a dead letter so that it can be replayed:
 * - `raw`: what a tap refused as malformed, as it came;
 * - `event`: a valid event that could not be translated;
 * - `notification`: what SNS refused.
 */
export type DeadContent =
  | { readonly kind: 'raw'; readonly event: unknown }
  | { readonly kind: 'event'; readonly event: unknown }
  | { readonly kind: 'notification'; readonly notification: Notification };

export interface NewDeadLetter {
  readonly eventId: string;
  readonly topic: string | undefined;
  /** A word to group by: `malformed`, `plugin`, `too-large`, or SNS's error code. */
  readonly reason: string;
  /** What exactly was wrong, for a person. */
  readonly detail: string;
  /** How often SNS was asked. */
  readonly attempts: number;
  readonly content: DeadContent;
}

/** What came of one batch of events. */
export interface Intake {
  /** Absent where the source does not number its events. */
  readonly position: Position | undefined;
  readonly notifications: readonly Notification[];
  readonly deadLetters: readonly NewDeadLetter[];
  /** Dead letters that this intake replaces: a replay. */
  readonly replaces?: readonly number[];
}

/** What became of one notification: SNS has it, or never will. */
export interface Settlement {
  readonly notification: Stored;
  readonly dead?: { readonly reason: string; readonly detail: string; readonly attempts: number };
}

interface TopicDepth {
  readonly arn: string;
  /** Notifications that SNS does not have yet. */
  readonly depth: number;
}

export interface SourceState {
  readonly source: string;
  readonly epoch: string;
  readonly last: number;
  /** How many holes its numbers have had, and how many events were missing in them together. */
  readonly holes: number;
  readonly missing: number;
  /** When it was last heard, in milliseconds since the Unix epoch. */
  readonly heardAt: number;
}

export interface OutboxState {
  readonly topics: readonly TopicDepth[];
  readonly sources: readonly SourceState[];
  readonly deadLetters: number;
  /** What its content takes, and may take at most, in bytes. */
  readonly bytes: number;
  readonly maxBytes: number;
  /** When the oldest notification was committed, in milliseconds since the Unix epoch; undefined when there is none. */
  readonly oldestAt: number | undefined;
  /** Why it can't be written at the moment; undefined when it can. */
  readonly fault: string | undefined;
}

export interface Outbox {
  /** The number up to which this source's epoch was heard; 0 when it never was. */
  positionOf(source: string, epoch: string): number;
  /**
   * Keeps what came of a batch; resolves when it is on disk.
   * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE (the disk is full or failed) or OUTBOX_CLOSED; then nothing was kept,
   *   but for a close on a disk that failed: what was being synced may be there at the next start
   */
  commit(intake: Intake): Promise<void>;
  /** The next notifications of a topic, in order, at most `limit`, each once per run of the process. */
  take(topic: string, limit: number): Promise<Stored[]>;
  /** Notifications that were taken and not settled, again, by their numbers; in order. */
  fetch(seqs: readonly number[]): Promise<Stored[]>;
  /** The topics that it has, or had, notifications of. */
  topics(): Iterable<string>;
  /** Lets everything that was not settled be taken once more. Whoever took before must have stopped. */
  rewind(): void;
  /** Removes what SNS has and moves what it never will take to the dead letters. Waits while the disk fails. */
  settle(settlements: readonly Settlement[]): Promise<void>;
  /** Dead letters that someone asked to replay, oldest first, at most `limit`. */
  replayRequests(limit: number): Promise<DeadLetter[]>;
  readonly deadLetters: DeadLetters;
  /** Why nothing new can be written at the moment; undefined when it can. */
  readonly fault: PusherError | undefined;
  state(): OutboxState;
  /** Calls `listener` after every commit that brought notifications, until the function that it answers is called. */
  onCommitted(listener: () => void): () => void;
  /** Writes what is pending and closes. */
  close(): Promise<void>;
}

export interface DeadLetter extends NewDeadLetter {
  readonly id: number;
  /** When it became one, in milliseconds since the Unix epoch. */
  readonly diedAt: number;
  readonly replayRequested: boolean;
}

/** A dead letter without its content, which may be long and private: for lists. */
export type DeadLetterSummary = Omit<DeadLetter, 'content'>;

/** Which dead letters are meant; without any condition all of them. */
export interface DeadLetterFilter {
  readonly ids?: readonly number[] | undefined;
  readonly reason?: string | undefined;
  readonly topic?: string | undefined;
  /** Only those up to this number: what a person saw, and not what came since. */
  readonly upToId?: number | undefined;
}

export interface DeadLetterCount {
  readonly reason: string;
  readonly topic: string | undefined;
  readonly count: number;
  /** How many of them wait for their replay. */
  readonly replaying: number;
  /** The highest number among them. */
  readonly newestId: number;
}

/** What people do with dead letters while the daemon runs. `onProgress` is told now and then how many a change has reached so far. */
export interface DeadLetters {
  /** Newest first, those with a number below `beforeId`, at most `limit`. */
  list(filter: DeadLetterFilter, limit: number, beforeId?: number): Promise<DeadLetterSummary[]>;
  /** Oldest first, those with a number above `afterId`, at most `limit`, with what they contain. */
  find(filter: DeadLetterFilter, limit: number, afterId?: number): Promise<DeadLetter[]>;
  read(id: number): Promise<DeadLetter | undefined>;
  /** How many there are by reason and topic. */
  counts(): Promise<DeadLetterCount[]>;
  /** Marks for replay; answers how many were not marked yet. */
  requestReplay(filter: DeadLetterFilter, onProgress?: (count: number) => void): Promise<number>;
  /** Deletes for good; answers how many. */
  purge(filter: DeadLetterFilter, onProgress?: (count: number) => void): Promise<number>;
}
