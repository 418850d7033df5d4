/**
 * The tap's place in `npm run bench:adapters`, a process of its own: takes every batch and does as little as it can, so
 * that what is measured is the adapter and not the daemon. Prints its port; GET tells how many events it has, not counting
 * those that came again, and how many numbers are missing.
 */
import { listen } from './listen.ts';

/** How an event begins and nothing inside one does, where quotes are escaped. */
const EVENT = '{"kind":"';

let events = 0;
let missing = 0;
/** The last number of each queue. */
const last = new Map<string, number>();

/** Takes a batch in, as far as it is new. Returns how many events that is, and how many came again. */
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
  // Whatever is not ASCII in it is not looked at.
  const answer = head.startsWith('GET ') ? { events, missing } : { ...take(body.toString('latin1')), rejected: [] };
  return { type: 'application/json', text: JSON.stringify(answer) };
});
