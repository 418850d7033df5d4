/**
 * The record's format: a line of JSON for each request to the sink, and for every other outcome of an event. It
 * contains no bodies.
 */
import type { SinkReceipt } from '../pipeline/sink.ts';

/** An event's outcome at a moment. */
export type Outcome =
  | {
      readonly kind: 'delivered';
      readonly topic: string;
      /** The sink's ids; undefined if there are none. */
      readonly messageId: string | undefined;
      readonly requestId: string | undefined;
    }
  | { readonly kind: 'skipped'; readonly reason: string }
  | { readonly kind: 'dead'; readonly topic: string | undefined; readonly reason: string };

export interface TraceRecord {
  readonly eventId: string;
  /** When the event happened; undefined if it has no time. */
  readonly eventAt: number | undefined;
  readonly names: readonly string[];
  /** When it reached this outcome. */
  readonly at: number;
  readonly outcome: Outcome;
}

/** An event in a line: its id, its time, its search keys, and the sink's id. */
export type Entry = readonly [eventId: string, eventAt: number | null, names: readonly string[], messageId?: string];

type Line =
  | readonly ['d', at: number, topic: string, requestId: string | null, entries: readonly Entry[]]
  | readonly ['s', at: number, reason: string, entries: readonly Entry[]]
  | readonly ['x', at: number, topic: string | null, reason: string, entries: readonly Entry[]];

export const deliveredLine = (
  at: number,
  topic: string,
  receipt: SinkReceipt | undefined,
  entries: readonly Entry[],
): string => JSON.stringify(['d', at, topic, receipt?.requestId ?? null, entries] satisfies Line);

export const skippedLine = (at: number, reason: string, entries: readonly Entry[]): string =>
  JSON.stringify(['s', at, reason, entries] satisfies Line);

export const deadLine = (at: number, topic: string | undefined, reason: string, entry: Entry): string =>
  JSON.stringify(['x', at, topic ?? null, reason, [entry]] satisfies Line);

/** Parses a line; returns nothing for a damaged one. */
export function recordsIn(text: string): TraceRecord[] {
  try {
    const line = JSON.parse(text) as Line;
    const entries = line.at(-1) as readonly Entry[];
    return entries.map((entry) => {
      const [eventId, eventAt, names] = entry;
      return { eventId, eventAt: eventAt ?? undefined, names, at: line[1], outcome: outcomeOf(line, entry) };
    });
  } catch {
    return [];
  }
}

function outcomeOf(line: Line, [, , , messageId]: Entry): Outcome {
  if (line[0] === 'd') return { kind: 'delivered', topic: line[2], messageId, requestId: line[3] ?? undefined };
  if (line[0] === 's') return { kind: 'skipped', reason: line[2] };
  return { kind: 'dead', topic: line[2] ?? undefined, reason: line[3] };
}
