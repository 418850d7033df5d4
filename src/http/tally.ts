/**
 * Limits log lines that anybody can cause without a login: logs the first of a kind from an address at once, and the
 * number of further ones once a minute.
 *
 * Maintained invariant: there are at most `MOST` + 1 lines per minute.
 */
import { networkOf } from './network.ts';

export interface Tally {
  /**
   * Counts an incident.
   * @param kind distinguishes kinds of lines
   * @param line writes a line with these fields
   */
  add(kind: string, from: string, line: (fields: { from: string; count: number }) => void): void;
  /** Writes pending counts. */
  close(): void;
}

const EVERY_MS = 60_000;
/** Maximum of kinds and addresses counted separately. */
const MOST = 100;
const OTHERS = 'other addresses';

export function createTally({ everyMs = EVERY_MS, most = MOST }: { everyMs?: number; most?: number } = {}): Tally {
  type Entry = { from: string; count: number; line: Parameters<Tally['add']>[2] };
  const entries = new Map<string, Entry>();
  let timer: NodeJS.Timeout | undefined;

  const flush = () => {
    for (const [key, entry] of entries) {
      const { from, count, line } = entry;
      if (count === 0) entries.delete(key);
      else line({ from, count });
      entry.count = 0;
    }
    if (entries.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };

  return {
    add(kind, from, line) {
      timer ??= setInterval(flush, everyMs).unref();
      const key = `${kind} ${networkOf(from)}`;
      const known = entries.get(key);
      if (!known && entries.size < most) {
        entries.set(key, { from, count: 0, line });
        line({ from, count: 1 });
        return;
      }
      const entry = known ?? entries.get(OTHERS) ?? { from: OTHERS, count: 0, line };
      if (!known) entries.set(OTHERS, entry);
      entry.count += 1;
      entry.line = line;
    },
    close() {
      flush();
      clearInterval(timer);
      timer = undefined;
    },
  };
}
