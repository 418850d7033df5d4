/**
 * The port of the outbox, which keeps notifications from the tap's acknowledgement until the sink has accepted them.
 * Every implementation passes the suite in `contract.ts`.
 *
 * Every implementation promises:
 * - Once `commit` has resolved, its content survives a kill of the process and a loss of power. (Except in memory,
 *   which says so.)
 * - A source's position is never kept without the outcome of its events. A repeated batch therefore changes nothing or,
 *   where an implementation can't write both at once, repeats the events in flight.
 * - A notification leaves the outbox only by `settle`.
 * - A topic's notifications of one order key are handed out in the order of their commits.
 */
import type { PusherError } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import type { DeadLetterStore, NewDeadLetter } from './dead-letters.ts';
import type { Hole, SourceState, SourceStore } from './sources.ts';

/** A notification handed out by the outbox. */
export interface Stored extends Notification {
  /** The outbox's own number of it, ascending in the order in which a backlog hands out. */
  readonly seq: number;
}

/** The outcome of a batch of events, or of a replay. */
export interface Admission {
  readonly notifications: readonly Notification[];
  readonly deadLetters: readonly NewDeadLetter[];
  /** Numbers of dead letters that this replaces: a replay. */
  readonly replaces?: readonly number[];
}

/** A source's position after a commit. */
export interface Progress {
  /** The number of the last event of the batch. */
  readonly last: number;
  /** The number of events missing just before the batch: the source lost them. */
  readonly missing: number;
  /** When the newest event of the batch happened, in milliseconds since the Unix epoch. */
  readonly newestAt?: number | undefined;
}

/** The position of one source's epoch, held by one user at a time. */
export interface Cursor {
  /** The number up to which the epoch was heard; undefined when it never was. */
  readonly last: number | undefined;
  /**
   * When the newest event of the epoch happened, in milliseconds since the Unix epoch; undefined where that is not
   * known.
   */
  readonly newestAt: number | undefined;
  /**
   * Keeps a batch's outcome together with the position; resolves when both are safe.
   * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE or OUTBOX_CLOSED; then nothing was kept, but for a close on a disk
   *   that failed: what was being synced may be there at the next start
   */
  commit(admission: Admission, progress: Progress): Promise<void>;
  /** Releases the position to the next user. */
  release(): void;
}

/** The outcome of one notification: accepted by the sink, or a dead letter. */
export interface Settlement {
  readonly notification: Stored;
  readonly dead?: { readonly reason: string; readonly detail: string; readonly attempts: number };
}

/**
 * The notifications that wait for one topic, handed out in order to one consumer.
 *
 * Credit bounds what the consumer holds in memory: a notification costs `costOf(bytes)`, and while credit is above zero
 * the backlog hands out. What is committed then reaches the consumer from memory; past it, the backlog reads from where
 * it is kept once there is credit again.
 */
export interface Backlog {
  /** Adds credit. */
  request(credit: number): void;
  /**
   * Loads unsettled notifications again by their numbers, in order, for a consumer that dropped their bodies. Rejects
   * when they can't be read now.
   */
  load(seqs: readonly number[]): Promise<Stored[]>;
  /** Removes accepted notifications, and moves refused ones to the dead letters. Waits while the disk fails. */
  settle(settlements: readonly Settlement[]): Promise<void>;
  /** Stops handing out. Unsettled notifications go, in order, to the next consumer that opens the backlog. */
  close(): Promise<void>;
}

/**
 * Takes notifications back that were handed out, because another daemon hands them out from now on: the consumer
 * forgets those that are not under way, and answers their numbers. It settles the others as ever.
 */
export type Recall = (seqs: ReadonlySet<number>) => readonly number[];

/** One notification for every 4 KiB that it has, or has begun. */
export const CREDIT_BYTES = 4_096;
/** A notification's cost in credit. */
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

/** The outbox's state now, or as last known where a broker has to be asked. */
export interface Health {
  readonly topics: readonly TopicDepth[];
  readonly sources: readonly SourceState[];
  /** Unacknowledged holes in their numbers, newest first. */
  readonly holes: readonly Hole[];
  readonly deadLetters: number;
  /** Size of its content and upper limit, in bytes. */
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
  /** Keeps the outcome of a batch without numbers, or of a replay; as {@link Cursor.commit}. */
  commit(admission: Admission): Promise<void>;
  /**
   * Opens a topic's backlog. Only one may be open at a time.
   * @param take called with notifications as they come, at least one at a time, in order
   * @param recall called by an outbox that several daemons share; without it what was handed out stays with the
   * consumer
   */
  backlog(topic: string, take: (notifications: readonly Stored[]) => void, recall?: Recall): Backlog;
  /** The topics that it has, or had, notifications of. */
  topics(): Iterable<string>;
  /**
   * Calls `listener` when notifications come for a topic that has no backlog open; until the answered function is
   * called.
   */
  onTopic(listener: (topic: string) => void): () => void;
  health(): Health;
  /** Writes what is pending and closes. */
  close(): Promise<void>;
}
