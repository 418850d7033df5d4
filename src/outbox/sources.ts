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

/** A position as it is kept: with when the newest event of the epoch happened, by which reused numbers are recognised. */
export interface Position extends SourceState {
  readonly newestAt?: number | undefined;
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

/** How far a commit moves an epoch of a source. */
export interface Reached extends Progress {
  readonly source: string;
  readonly epoch: string;
}

/** The result of a commit: the position, and the hole before the batch, which has no number yet. */
export interface Moved {
  readonly position: Position;
  readonly hole: Omit<Hole, 'id'> | undefined;
}

/** The position after a commit. @param at the time of the commit */
export function advance(before: Position | undefined, reached: Reached, at: number): Moved {
  const { source, epoch, last, missing, newestAt } = reached;
  const position: Position = {
    source,
    epoch,
    last,
    holes: (before?.holes ?? 0) + (missing > 0 ? 1 : 0),
    missing: (before?.missing ?? 0) + missing,
    heardAt: at,
    newestAt: later(before?.newestAt, newestAt),
  };
  const first = (before?.last ?? 0) + 1;
  const hole = missing > 0 ? { source, epoch, first, last: first + missing - 1, missing, at } : undefined;
  return { position, hole };
}

const later = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.max(a, b);

/** Without what only the outbox needs. */
export const stateOf = ({ newestAt: _, ...state }: Position): SourceState => state;

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
