/**
 * The order of events. Within one run of an adapter (a source's epoch) only their numbers decide: many events share a
 * millisecond, and a clock may step back. Runs of one source do not overlap, so times decide their order. Between
 * sources there is only the time.
 */
import { ConsumerError } from './error.ts';
import type { Notification } from './notification.ts';

/** The facts that order a notification. */
export type Ordered = Pick<Notification, 'id' | 'source' | 'epoch' | 'seq' | 'at'>;

/** The run of an adapter that an event belongs to; undefined if its source does not number events. */
export function runOf({ source, epoch }: Ordered): string | undefined {
  return source === undefined || epoch === undefined ? undefined : `${source}/${epoch}`;
}

/**
 * Sorts a batch into a new list in the order in which the events happened: by source, epoch and number. Keeps
 * everything, including repetitions. Entries with neither number nor time come first, in the given order.
 */
export function ordered<T extends Ordered>(notifications: Iterable<T>): T[] {
  const sources = Map.groupBy(notifications, ({ source }) => source);
  return merge([...sources].map(([source, list]) => (source === undefined ? byTime(list) : bySource(list))));
}

/** Sorts by time; equal ones keep their order. */
const byTime = <T extends Ordered>(list: readonly T[]): T[] => list.toSorted((a, b) => timeOf(a) - timeOf(b));

function bySource<T extends Ordered>(list: readonly T[]): T[] {
  const runs = [...Map.groupBy(list, ({ epoch }) => epoch).values()];
  const sorted = runs.map((run) => run.toSorted((a, b) => (a.seq ?? 0) - (b.seq ?? 0)));
  return sorted.toSorted(([a], [b]) => compareTimes(a, b)).flat();
}

/** Merges lists by the time of their heads; each list keeps its own order, whatever its times. */
function merge<T extends Ordered>(lists: readonly (readonly T[])[]): T[] {
  const rest = lists.map((list) => ({ list, next: 0 }));
  const merged: T[] = [];
  for (;;) {
    const open = rest.filter(({ list, next }) => next < list.length);
    const [first, ...others] = open;
    if (!first) return merged;
    const head = others.reduce((a, b) => (compareTimes(b.list[b.next], a.list[a.next]) < 0 ? b : a), first);
    merged.push(head.list[head.next++] as T);
  }
}

/** Sorts equal times by id, so that the result does not depend on the order of arrival. */
function compareTimes(a: Ordered | undefined, b: Ordered | undefined): number {
  return timeOf(a) - timeOf(b) || compareTexts(a?.id ?? '', b?.id ?? '');
}

const timeOf = (notification: Ordered | undefined): number => notification?.at ?? Number.MIN_SAFE_INTEGER;

/** Compares code units: the same in any locale. */
export function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The time of an event whose order matters. @throws ConsumerError `no-order` if it has none */
export function requireTime({ at }: Ordered): number {
  if (at === undefined)
    throw new ConsumerError('no-order', 'has no time: add "timestamp" to the daemon\'s attributes or body_fields');
  return at;
}
