/**
 * Stands in for the tap in `npm run bench:adapters`, in a process of its own: takes every batch with minimal work, so
 * that the adapter is measured and not the daemon. Prints its port; GET returns the number of events without repeats,
 * and of missing numbers.
 */
import { listen } from './listen.ts';

/** Every event begins with this, and none contains it, because quotes inside are escaped. */
const EVENT = '{"kind":"';

let events = 0;
let missing = 0;
/** The last number of each queue. */
const last = new Map<string, number>();

/** Counts a batch's new events and repeated ones. */
function take(batch: string): { accepted: number; duplicates: number } {
  const head = batch.slice(0, 1_000);
  const [queue = ''] = head.match(/"source":"[^"]*","epoch":"[^"]*"/) ?? [];
  const first = Number(head.match(/"first_seq":(\d+)/)?.[1]);
  const known = last.get(queue) ?? 0;
  const end = first + count(batch) - 1;
  const accepted = Math.max(0, end - Math.max(known, first - 1));
  missing += Math.max(0, first - 1 - known);
  last.set(queue, Math.max(known, end));
  events += accepted;
  return { accepted, duplicates: end - first + 1 - accepted };
}

function count(batch: string): number {
  let found = 0;
  for (let at = batch.indexOf(EVENT); at >= 0; at = batch.indexOf(EVENT, at + EVENT.length)) found += 1;
  return found;
}

listen(0, (head, body) => {
  // Only ASCII matters here.
  const answer = head.startsWith('GET ') ? { events, missing } : { ...take(body.toString('latin1')), rejected: [] };
  return { type: 'application/json', text: JSON.stringify(answer) };
});
