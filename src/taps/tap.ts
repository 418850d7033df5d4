/**
 * The port where events come in. The HTTP tap implements it, and a host program may bring its own. Every tap passes the
 * suite in `contract.ts`.
 */
import type { MalformedEvent, NewEvent } from '../event.ts';

/** A batch of events as a source handed it over. */
export interface Batch {
  /** The tap's name, for metrics. */
  readonly tap: string;
  /** Stable name of the sending server node. */
  readonly source: string;
  /** The source's run and the number of `events[0]` in it; absent where the source does not number its events. */
  readonly numbering?: { readonly epoch: string; readonly first: number } | undefined;
  /** Checked: each is an event, or says what is wrong with it. */
  readonly events: readonly (NewEvent | MalformedEvent)[];
  /** The trace that the batch belongs to, as a W3C `traceparent`. */
  readonly traceparent?: string | undefined;
}

/** What became of a batch. */
export interface Receipt {
  /** Events that are kept, or that the configuration says not to publish. */
  readonly accepted: number;
  /** Events whose numbers were seen already. */
  readonly duplicates: number;
  /** Events that are malformed and became dead letters. */
  readonly rejected: readonly { readonly index: number; readonly reason: string }[];
}

/**
 * Takes a batch; resolves when what came of it is safe, and only then may a tap acknowledge it.
 * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE, OUTBOX_CLOSED: nothing was kept, the source should try again later
 */
export type Receive = (batch: Batch) => Promise<Receipt>;

/** A tap's state. */
export interface TapState {
  /** Where events come in, for people: a URL, a queue. */
  readonly at: string | undefined;
  /** Why it takes nothing at the moment, and what to do about it; undefined when it does. */
  readonly problem?: { readonly reason: string; readonly advice?: string } | undefined;
  /** Events that wait where it reads them, as last known; undefined where nothing waits there, or that is not known. */
  readonly waiting?: number | undefined;
  /** More about it, for people. */
  readonly note?: string | undefined;
}

export interface Tap {
  readonly name: string;
  /** Begins to take events; resolves when it does. @throws PusherError LISTEN_FAILED */
  start(receive: Receive): Promise<void>;
  /** Acknowledges what was taken, and takes nothing more. It may be started again. */
  stop(): Promise<void>;
  state(): TapState;
}
