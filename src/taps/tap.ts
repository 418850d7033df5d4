/**
 * The port for incoming events. The HTTP tap implements it, and a host program may provide its own. Every tap passes
 * the suite in `contract.ts`.
 */
import type { MalformedEvent, NewEvent } from '../event.ts';

/** A batch of events from a source. */
export interface Batch {
  /** The tap's name, for metrics. */
  readonly tap: string;
  /** Stable name of the sending server node. */
  readonly source: string;
  /** The source's run and the number of `events[0]` in it; absent if the source does not number its events. */
  readonly numbering?: { readonly epoch: string; readonly first: number } | undefined;
  /** Validated: each is an event or has its mistake. */
  readonly events: readonly (NewEvent | MalformedEvent)[];
  /** The batch's trace context, a W3C `traceparent`. */
  readonly traceparent?: string | undefined;
}

/** The outcome of a batch. */
export interface Receipt {
  /** Events that are kept, or not to be published by the configuration. */
  readonly accepted: number;
  /** Events whose numbers were seen before. */
  readonly duplicates: number;
  /** Malformed events, which became dead letters. */
  readonly rejected: readonly { readonly index: number; readonly reason: string }[];
}

/**
 * Accepts a batch; resolves when its outcome is safe, and only then may a tap acknowledge it.
 * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE, OUTBOX_CLOSED: nothing was kept, the source should try again later
 */
export type Receive = (batch: Batch) => Promise<Receipt>;

/** A tap's state. */
export interface TapState {
  /** Its address for people: a URL, a queue. */
  readonly at: string | undefined;
  /** Why it accepts nothing now, with advice; undefined if it does. */
  readonly problem?: { readonly reason: string; readonly advice?: string } | undefined;
  /** Events waiting in the queue that it reads, as last known; undefined without a queue or if unknown. */
  readonly waiting?: number | undefined;
  /** Further details, for people. */
  readonly note?: string | undefined;
}

export interface Tap {
  readonly name: string;
  /** Starts to accept events; resolves when it does. @throws PusherError LISTEN_FAILED */
  start(receive: Receive): Promise<void>;
  /** Acknowledges accepted batches, and accepts no more. It may be restarted. */
  stop(): Promise<void>;
  state(): TapState;
}
