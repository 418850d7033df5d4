/**
 * Computes who is online from presence notifications that may be late, repeated or lost.
 *
 * - For each user, the store keeps the newest event of each adapter's run: the one with the highest number. The latest
 *   run decides. These are maxima, so any order of arrival ends in the same state. Comparing two events at a time would
 *   not work: if a clock stepped back during a run, numbers and times can contradict each other in a circle.
 * - The oldest runs are forgotten, so that a user's record does not grow with each restart of a server.
 * - Writes are conditional: two consumers working on one user do not overwrite each other's.
 */
import { ConsumerError } from './error.ts';
import type { PresenceNotification } from './notification.ts';
import { compareTexts, requireTime, runOf } from './order.ts';

/** Stores records by key. */
export interface StateStore {
  read(key: string): Promise<{ readonly value: string; readonly version: number } | undefined>;
  /** Writes only if the record still has that version (0: does not exist); resolves to whether it wrote. */
  write(key: string, value: string, version: number): Promise<boolean>;
}

export interface Presence {
  readonly present: boolean;
  /** Since when, in milliseconds since the Unix epoch. */
  readonly at: number;
}

export interface PresenceState {
  /**
   * Applies a notification. Returns the user's state and whether it changed; `changed` is false for late or repeated
   * notifications.
   * @throws ConsumerError `no-order` without `timestamp`, `conflict` if others keep changing the record
   */
  apply(notification: PresenceNotification): Promise<Presence & { readonly changed: boolean }>;
  /** A user's state; undefined if unknown. */
  get(userId: string): Promise<Presence | undefined>;
}

/** The newest event of one run: its number, or its id without numbers; its time; its state. */
type Newest = readonly [order: number | string, at: number, present: boolean];
type Runs = Readonly<Record<string, Newest>>;

const MAX_RUNS = 16;
const MAX_ATTEMPTS = 20;

/** Keeps users' presence in a store. Needs the attributes (or body fields) `event_id` and `timestamp`. */
export function presenceState(store: StateStore): PresenceState {
  const keyOf = (userId: string) => `presence#${userId}`;
  return {
    async apply(notification) {
      const key = keyOf(notification.user_id);
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const record = await store.read(key);
        const before: Runs = record ? JSON.parse(record.value) : {};
        const after = withEvent(before, notification);
        if (after === before) return { ...stateOf(before), changed: false };
        if (await store.write(key, JSON.stringify(after), record?.version ?? 0)) {
          const state = stateOf(after);
          return { ...state, changed: !record || stateOf(before).present !== state.present };
        }
      }
      throw new ConsumerError(
        'conflict',
        `the record of a user changed ${MAX_ATTEMPTS} times during the update; try again`,
      );
    },
    async get(userId) {
      const record = await store.read(keyOf(userId));
      return record && stateOf(JSON.parse(record.value));
    },
  };
}

/** Adds the event to the runs; returns the same object if nothing changes. */
function withEvent(runs: Runs, event: PresenceNotification): Runs {
  const at = requireTime(event);
  const run = runOf(event) ?? '';
  const present = event.sessions === undefined ? event.present : event.sessions > 0;
  const newest: Newest = [event.seq ?? event.id ?? '', at, present];
  const known = runs[run];
  if (known && compareInRun(newest, known) <= 0) return runs;
  const kept = Object.entries({ ...runs, [run]: newest })
    .toSorted(compareRuns)
    .slice(-MAX_RUNS);
  return kept.some(([name]) => name === run) ? Object.fromEntries(kept) : runs;
}

/** Compares by number; without numbers by time, then by id. */
function compareInRun(a: Newest, b: Newest): number {
  if (typeof a[0] === 'number' && typeof b[0] === 'number') return a[0] - b[0];
  return a[1] - b[1] || compareTexts(String(a[0]), String(b[0]));
}

const compareRuns = ([runA, a]: [string, Newest], [runB, b]: [string, Newest]): number =>
  a[1] - b[1] || compareTexts(runA, runB);

function stateOf(runs: Runs): Presence {
  const [, [, at, present]] = Object.entries(runs).toSorted(compareRuns).at(-1) as [string, Newest];
  return { present, at };
}
