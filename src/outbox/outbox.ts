/**
 * The outbox: where notifications are from the moment a tap acknowledges them until the sink has them. This is its port,
 * declared by the pipeline; every implementation passes the suite in `contract.ts`.
 *
 * What any implementation promises:
 * - What `commit` has resolved for survives a kill of the process and a loss of power. (The one in memory promises that
 *   of nothing, and says so.)
 * - A source's position is never kept without what came of its events. A batch that is handed over again therefore
 *   changes nothing, or, where an implementation can't write both at once, repeats what was under way.
 * - A notification leaves the outbox only by `settle`.
 * - A topic's notifications of one order key are handed out in the order of their commits.
 */
import type { PusherError } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import type { DeadLetterStore, NewDeadLetter } from './dead-letters.ts';
import type { Hole, SourceState, SourceStore } from './sources.ts';

/** A notification as the outbox hands it out. */
export interface Stored extends Notification {
  /** The outbox's own number of it, ascending in the order in which a backlog hands out. */
  readonly seq: number;
}

/** What came of a batch of events, or of a replay. */
export interface Admission {
  readonly notifications: readonly Notification[];
  readonly deadLetters: readonly NewDeadLetter[];
  /** Numbers of dead letters that this replaces: a replay. */
  readonly replaces?: readonly number[];
}

/** How far a source is heard with a commit. */
export interface Progress {
  /** The number of the last event of the batch. */
  readonly last: number;
  /** How many numbers were left out just before the batch: events that the source lost. */
  readonly missing: number;
  /** When the newest event of the batch happened, in milliseconds since the Unix epoch. */
  readonly newestAt?: number | undefined;
}

/** The position of one source's epoch, held by one user at a time. */
export interface Cursor {
  /** The number up to which the epoch was heard; undefined when it never was. */
  readonly last: number | undefined;
  /** When the newest event of the epoch happened, in milliseconds since the Unix epoch; undefined where that is not known. */
  readonly newestAt: number | undefined;
  /**
   * Keeps what came of a batch together with the position; resolves when it is safe.
   * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE or OUTBOX_CLOSED; then nothing was kept, but for a close on a disk
   *   that failed: what was being synced may be there at the next start
   */
  commit(admission: Admission, progress: Progress): Promise<void>;
  /** Lets the next user have it. */
  release(): void;
}

/** What became of one notification: the sink has it, or never will. */
export interface Settlement {
  readonly notification: Stored;
  readonly dead?: { readonly reason: string; readonly detail: string; readonly attempts: number };
}

/**
 * What waits for one topic, handed out in order to one consumer.
 *
 * Credit bounds what the consumer holds in memory: a notification costs `costOf(bytes)`, and while credit is above zero
 * the backlog hands out. What is committed then reaches the consumer from memory; past it, the backlog reads from where
 * it is kept once there is credit again.
 */
export interface Backlog {
  /** Adds credit. */
  request(credit: number): void;
  /**
   * Notifications that were handed out and not settled, again, by their numbers; in order. A consumer that lets go of
   * bodies fetches them so. Rejects when they can't be read now.
   */
  load(seqs: readonly number[]): Promise<Stored[]>;
  /** Removes what the sink has, and moves what it never will take to the dead letters. Waits while the disk fails. */
  settle(settlements: readonly Settlement[]): Promise<void>;
  /** Hands out nothing more. What is not settled is handed out again, in its order, to whoever opens the backlog next. */
  close(): Promise<void>;
}

/**
 * Takes notifications back that were handed out, because another daemon hands them out from now on: the consumer forgets
 * those that are not under way, and answers their numbers. It settles the others as ever.
 */
export type Recall = (seqs: ReadonlySet<number>) => readonly number[];

/** One notification for every 4 KiB that it has, or has begun. */
export const CREDIT_BYTES = 4_096;
/** What a notification costs of a backlog's credit. */
export const costOf = (bytes: number): number => Math.max(1, Math.ceil(bytes / CREDIT_BYTES));

interface TopicDepth {
  readonly topic: string;
  /** Notifications that the sink does not have yet. */
  readonly depth: number;
}

/** One queue of a topic, of an outbox that several daemons share. */
interface Partition {
  readonly topic: string;
  readonly queue: string;
  /** The id of the daemon that works on it; undefined while nobody does. */
  readonly daemon: string | undefined;
  /** Notifications that the sink does not have yet. */
  readonly depth: number;
  /** Why it can't be worked on, as far as that is known here. */
  readonly problem?: string | undefined;
}

/** A daemon that works on the same outbox. */
interface Peer {
  readonly id: string;
  /** Whether it is this one. */
  readonly self: boolean;
  /** Of its console, where its dead letters are. */
  readonly url: string | undefined;
  readonly deadLetters: number;
}

/** What is known of an outbox now, or was last known where it has to be asked for elsewhere. */
export interface Health {
  readonly topics: readonly TopicDepth[];
  readonly sources: readonly SourceState[];
  /** Holes in their numbers that nobody acknowledged, newest first. */
  readonly holes: readonly Hole[];
  readonly deadLetters: number;
  /** What its content takes, and may take at most, in bytes. */
  readonly bytes: number;
  readonly maxBytes: number;
  /** When the oldest notification was committed, in milliseconds since the Unix epoch; undefined when there is none. */
  readonly oldestAt: number | undefined;
  /** Why it can't be used fully at the moment; undefined when it can. */
  readonly fault: string | undefined;
  /** Of an outbox that several daemons share: how they share it. */
  readonly shared?: { readonly partitions: readonly Partition[]; readonly daemons: readonly Peer[] };
}

export interface Outbox {
  readonly deadLetters: DeadLetterStore;
  readonly sources: SourceStore;
  /** Why nothing new can be kept at the moment; undefined when it can. */
  readonly fault: PusherError | undefined;
  /** The position of a source's epoch, when nobody else holds it any more. */
  source(name: string, epoch: string): Promise<Cursor>;
  /** Keeps what came of a batch without numbers, or of a replay; as {@link Cursor.commit}. */
  commit(admission: Admission): Promise<void>;
  /**
   * Opens what waits for a topic, which has no other backlog open.
   * @param take called with notifications as they come, at least one at a time, in order
   * @param recall called by an outbox that several daemons share; without it what was handed out stays with the consumer
   */
  backlog(topic: string, take: (notifications: readonly Stored[]) => void, recall?: Recall): Backlog;
  /** The topics that it has, or had, notifications of. */
  topics(): Iterable<string>;
  /** Calls `listener` when notifications come for a topic that has no backlog open; until the answered function is called. */
  onTopic(listener: (topic: string) => void): () => void;
  health(): Health;
  /** Writes what is pending and closes. */
  close(): Promise<void>;
}
