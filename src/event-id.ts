/** The id of an event, `<source>/<epoch>/<number>`. */

export interface EventId {
  /** The XMPP server node. */
  readonly source: string;
  /** One run of the adapter on that node. */
  readonly epoch: string;
  /** The event's number in that run: 1, 2, 3 … */
  readonly seq: number;
}

/**
 * Splits an event's id; undefined for an id of a source that doesn't number its events. A source may contain slashes
 * (`prosody/example.org@chat1`), an epoch doesn't.
 */
export function parseEventId(id: string): EventId | undefined {
  const [, source, epoch, number] = /^(.+)\/([^/]+)\/([1-9]\d*)$/s.exec(id) ?? [];
  if (source === undefined || epoch === undefined) return undefined;
  const seq = Number(number);
  return Number.isSafeInteger(seq) ? { source, epoch, seq } : undefined;
}
