/**
 * The port of the outbox, which keeps notifications from the tap's acknowledgement until the sink has accepted them.
 * Every implementation passes the suite in `contract.ts`.
 *
 * Every implementation promises:
 * - Once `commit` has resolved, its content survives a kill of the process and a power failure. (Except in memory,
 *   which says so.)
 * - A source's position is never kept without the outcome of its events. A repeated batch therefore changes nothing or,
 *   where an implementation can't write both at once, repeats the events in flight.
 * - A notification leaves the outbox only by `settle`.
 * - A backlog returns the notifications of one order key in the order of their commits.
 */
import type { PusherError } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import type { DeadLetterStore, NewDeadLetter } from './dead-letters.ts';
import type { Hole, Progress, SourceState, SourceStore } from './sources.ts';

/** A notification from the outbox. */
export interface Stored extends Notification {
  /** The outbox's own number for it, ascending in the order of the backlog. */
  readonly seq: number;
}

/** The outcome of a batch of events, or of a replay. */
export interface Admission {
  readonly notifications: readonly Notification[];
  readonly deadLetters: readonly NewDeadLetter[];
  /** Numbers of dead letters that this replaces: a replay. */
  readonly replaces?: readonly number[];
}

/** The position of one source's epoch, held by one user at a time. */
export interface Cursor {
  /** The last number heard of the epoch; undefined if none was. */
  readonly last: number | undefined;
  /** When the newest event of the epoch happened, in milliseconds since the Unix epoch; undefined if unknown. */
  readonly newestAt: number | undefined;
  /**
   * Keeps a batch's outcome together with the position; resolves when both are safe.
   * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE or OUTBOX_CLOSED; then nothing was kept, except if the outbox was
   * closed while the disk failed: the next start may find the data being synced
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
 * The notifications waiting for one topic, passed in order to one consumer.
 *
 * Credit limits what the consumer holds in memory: a notification costs `costOf(bytes)`, and the backlog sends while
 * credit is above zero. New commits then reach the consumer from memory; without credit they are read from storage
 * later.
 */
export interface Backlog {
  /** Adds credit. */
  request(credit: number): void;
  /**
   * Reloads unsettled notifications by their numbers, in order, for a consumer that dropped their bodies. Rejects if
   * they can't be read now.
   */
  load(seqs: readonly number[]): Promise<Stored[]>;
  /** Removes accepted notifications, and moves refused ones to the dead letters. Waits while the disk fails. */
  settle(settlements: readonly Settlement[]): Promise<void>;
  /** Stops sending. The next consumer to open the backlog gets unsettled notifications, in order. */
  close(): Promise<void>;
}

/**
 * Takes back notifications because another daemon will send them: the consumer drops those not in an open request, and
 * returns their numbers. It settles the others as usual.
 */
export type Recall = (seqs: ReadonlySet<number>) => readonly number[];

/** One credit for each 4 KiB of a notification, rounded up. */
export const CREDIT_BYTES = 4_096;
/** A notification's cost in credit. */
export const costOf = (bytes: number): number => Math.max(1, Math.ceil(bytes / CREDIT_BYTES));

interface TopicDepth {
  readonly topic: string;
  /** Notifications that the sink has not accepted yet. */
  readonly depth: number;
}

/** One queue of a topic, in an outbox shared by several daemons. */
interface Partition {
  readonly topic: string;
  readonly queue: string;
  /** The id of the daemon that works on it; undefined if none does. */
  readonly daemon: string | undefined;
  /** Notifications that the sink has not accepted yet. */
  readonly depth: number;
  /** Why no daemon can work on it, as far as this one knows. */
  readonly problem?: string | undefined;
}

/** A daemon that shares the outbox. */
interface Peer {
  readonly id: string;
  /** Whether it is this daemon. */
  readonly self: boolean;
  /** The URL of its console, which shows its dead letters. */
  readonly url: string | undefined;
  readonly deadLetters: number;
}

/** The outbox's state: current, or last known if a broker has to be queried. */
export interface Health {
  readonly topics: readonly TopicDepth[];
  readonly sources: readonly SourceState[];
  /** Unacknowledged holes in their numbers, newest first. */
  readonly holes: readonly Hole[];
  readonly deadLetters: number;
  /** Size of its content and upper limit, in bytes. */
  readonly bytes: number;
  readonly maxBytes: number;
  /** When the oldest notification was committed, in milliseconds since the Unix epoch; undefined if there is none. */
  readonly oldestAt: number | undefined;
  /** Why it does not work fully now; undefined if it does. */
  readonly fault: string | undefined;
  /** How several daemons share the outbox. */
  readonly shared?: { readonly partitions: readonly Partition[]; readonly daemons: readonly Peer[] };
}

export interface Outbox {
  readonly deadLetters: DeadLetterStore;
  readonly sources: SourceStore;
  /** Why nothing new can be kept now; undefined if it can. */
  readonly fault: PusherError | undefined;
  /** Waits until nobody else holds the position of a source's epoch, and returns it. */
  source(name: string, epoch: string): Promise<Cursor>;
  /** Keeps the outcome of a batch without numbers, or of a replay; see {@link Cursor.commit}. */
  commit(admission: Admission): Promise<void>;
  /**
   * Opens a topic's backlog. Only one may be open at a time.
   * @param take called with one or more notifications, in order
   * @param recall called by an outbox that several daemons share; without it the consumer keeps its notifications
   */
  backlog(topic: string, take: (notifications: readonly Stored[]) => void, recall?: Recall): Backlog;
  /** The topics that have, or had, notifications. */
  topics(): Iterable<string>;
  /**
   * Calls `listener` when notifications arrive for a topic without an open backlog, until the returned function is
   * called.
   */
  onTopic(listener: (topic: string) => void): () => void;
  health(): Health;
  /** Writes pending data and closes. */
  close(): Promise<void>;
}
