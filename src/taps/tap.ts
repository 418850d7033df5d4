/** What a tap is: where events come in. It acknowledges a batch only after the outbox has committed what came of it. */

/** A batch of events as a source handed it over; the events are not checked yet. */
export interface TapBatch {
  /** The tap's name, for metrics. */
  readonly tap: string;
  /** Stable name of the sending server node. */
  readonly source: string;
  /** The source's queue and the number of `events[0]` in it; absent where the source does not number its events. */
  readonly numbering: { readonly epoch: string; readonly first: number } | undefined;
  readonly events: readonly unknown[];
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
 * Takes a batch; resolves when it is committed.
 * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE, OUTBOX_CLOSED: nothing was kept, the source should try again later
 */
export type Receive = (batch: TapBatch) => Promise<Receipt>;
