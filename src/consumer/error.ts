/** Errors of the consumers' library, by a stable code. */
export type ConsumerErrorCode =
  /** The notification has no `event_id`: the daemon's `attributes` don't include it. */
  | 'no-id'
  /** The notification has neither number nor time, so it can't be put in order. */
  | 'no-order'
  /** Another consumer is handling the same event; try again later. */
  | 'busy'
  /** Other consumers kept changing the store's record. */
  | 'conflict'
  /** The input is not a notification. */
  | 'malformed';

export class ConsumerError extends Error {
  override readonly name = 'ConsumerError';
  readonly code: ConsumerErrorCode;

  constructor(code: ConsumerErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
