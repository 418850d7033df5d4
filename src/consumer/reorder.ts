/**
 * Orders a stream by delaying each notification to let earlier ones arrive. A standard topic delivers most
 * notifications within a second of each other, so a few seconds restore nearly the whole order.
 *
 * - Nothing is dropped: a notification that arrives after a later one was released is released at once, and marked
 *   `late`.
 * - Numbers have permanent gaps, because of other topics and filters. So it waits for a fixed time, not for missing
 *   numbers.
 * - The buffer holds the notifications of the waiting time, and at most `maxHeld`.
 */
import type { Notification } from './notification.ts';
import { type Ordered, ordered, runOf } from './order.ts';

export interface ReorderOptions {
  /** How long each notification waits for earlier ones. Default: 5 seconds. */
  readonly waitMs?: number;
  /** Maximum held; beyond it the earliest are released early. Default: 10,000. */
  readonly maxHeld?: number;
  readonly now?: () => number;
}

export interface Released<T> {
  readonly notification: T;
  /** A later one of the same run was released before it. */
  readonly late: boolean;
}

export interface Reorder<T> {
  add(notifications: Iterable<T>): void;
  /** Returns those that have waited long enough, in order. Call it after each `add`, and at least every second. */
  take(): Released<T>[];
  /** Returns all held ones, in order: for the end. */
  flush(): Released<T>[];
}

/** A buffer that puts the notifications of each source in order. */
export function reorder<T extends Ordered = Notification>(options: ReorderOptions = {}): Reorder<T> {
  const { waitMs = 5_000, maxHeld = 10_000, now = Date.now } = options;
  let held: Held<T>[] = [];
  /** The highest number released, by run. Only for the latest runs, because each start of a server begins a new one. */
  const released = new Map<string, number>();

  const release = (isDue: (entry: Held<T>) => boolean): Released<T>[] => {
    const sorted = ordered(held);
    // Earlier events that arrived later are released together with a due one.
    const last = sorted.findLastIndex(isDue);
    held = sorted.slice(last + 1);
    return sorted.slice(0, last + 1).map(({ notification }) => ({ notification, late: isLate(notification) }));
  };

  const isLate = (notification: T): boolean => {
    const run = runOf(notification);
    if (run === undefined || notification.seq === undefined) return false;
    const highest = released.get(run) ?? 0;
    released.delete(run);
    released.set(run, Math.max(highest, notification.seq));
    const [oldest] = released.keys();
    if (released.size > MAX_RUNS && oldest !== undefined) released.delete(oldest);
    return notification.seq < highest;
  };

  return {
    add(notifications) {
      const arrived = now();
      for (const notification of notifications) {
        const { id, source, epoch, seq, at } = notification;
        held.push({ id, source, epoch, seq, at, notification, arrived });
      }
    },
    take() {
      const due = release(({ arrived }) => arrived + waitMs <= now());
      if (held.length <= maxHeld) return due;
      const overflow = new Set(held.slice(0, held.length - maxHeld));
      return [...due, ...release((entry) => overflow.has(entry))];
    },
    flush: () => release(() => true),
  };
}

const MAX_RUNS = 1_000;

/** A notification and its time of arrival. */
type Held<T> = Ordered & { readonly notification: T; readonly arrived: number };
