/**
 * The port with which people manage sources: list the holes in their numbers, acknowledge them, and retire a source. It
 * is separate from the outbox, which keeps the positions.
 */

/** The position of one epoch of a source. */
export interface SourceState {
  readonly source: string;
  readonly epoch: string;
  readonly last: number;
  /** How many holes its numbers have had, and how many events were missing in total. */
  readonly holes: number;
  readonly missing: number;
  /** When it was last heard, in milliseconds since the Unix epoch. */
  readonly heardAt: number;
}

/** Limit of a list. */
export const MOST_LISTED = 10_000;

/** Sorts by the time last heard, descending. */
export const latestFirst = (states: Iterable<SourceState>, limit: number): SourceState[] =>
  [...states].sort((a, b) => b.heardAt - a.heardAt).slice(0, limit);

/** Numbers missing from a source: events that it lost. */
export interface Hole {
  /** Ascending, and never used twice. */
  readonly id: number;
  readonly source: string;
  readonly epoch: string;
  /** The first and last missing number; undefined for holes found by an earlier release, which kept only their size. */
  readonly first: number | undefined;
  readonly last: number | undefined;
  readonly missing: number;
  /** When it was found, in milliseconds since the Unix epoch. */
  readonly at: number;
}

export interface SourceStore {
  /** Every source's epochs, most recently heard first, at most `limit`. */
  list(limit: number): Promise<readonly SourceState[]>;
  /** Unacknowledged holes, newest first. */
  holes(): Promise<readonly Hole[]>;
  /** Marks holes as seen: those of a source, or all; returns their number. */
  acknowledge(source?: string): Promise<number>;
  /**
   * Forgets a source with its positions and holes; false if there is no such source. If it returns, it starts with a
   * baseline: events that it sends again are published again.
   */
  retire(source: string): Promise<boolean>;
}

/** Most unacknowledged holes kept; beyond it the oldest are dropped. */
export const MOST_HOLES = 1_000;

/** How long an ended epoch is remembered after it was last heard, in milliseconds: 7 days. */
const EPOCH_KEPT_MS = 7 * 24 * 3_600_000;
/** How many epochs' positions are remembered. */
const MOST_POSITIONS = 50_000;

/** Chooses positions to forget: ended epochs and, beyond the limit, those not heard for longest. */
export function outdated<T extends Pick<SourceState, 'source' | 'heardAt'>>(states: Iterable<T>, now: number): T[] {
  const latest = [...states].sort((a, b) => b.heardAt - a.heardAt);
  const newest = new Map<string, number>();
  for (const { source, heardAt } of latest) if (!newest.has(source)) newest.set(source, heardAt);
  return latest.filter(
    ({ source, heardAt }, place) =>
      place >= MOST_POSITIONS || (heardAt < now - EPOCH_KEPT_MS && heardAt < (newest.get(source) ?? 0)),
  );
}
