/**
 * The ledger of sessions as a log of records, with which a daemon continues where another one, or its own previous run,
 * stopped. A record is one message of the ledger's queue.
 *
 * Maintained invariants:
 * - A term begins with a whole snapshot, and follows the one before. Records of other terms are ignored, so that a
 *   daemon that lost the queue unknowingly can't change anything.
 * - A delta holds the counts after its events, not differences: reading it twice is harmless.
 */
import { z } from 'zod';
import { type SessionCount, Sessions } from './sessions.ts';

/** Most presence events remembered to recognise redeliveries: the prefetch count. */
export const MOST_SEEN = 1_000;
/** Counts in one record of a snapshot. */
const COUNTS_IN_RECORD = 2_000;

const counts = z.array(z.tuple([z.string(), z.int().min(0)]).readonly());
const record = z.object({
  /** A random name, made by the daemon that began the term. */
  term: z.string(),
  /**
   * `part`: of a snapshot; `begin`: the snapshot is complete; `delta`: a batch's changes; `end`: everything is
   * acknowledged; `fence`: where a reader stops.
   */
  kind: z.enum(['part', 'begin', 'delta', 'end', 'fence']),
  /** For `begin`: the previous term. */
  after: z.string().optional(),
  counts: counts.default([]),
  /** Fingerprints of the record's presence events, in order. */
  seen: z.array(z.string()).default([]),
});

export type LedgerRecord = z.input<typeof record>;

/** The state that the records describe. */
export interface LedgerState {
  /** The current term; undefined where there is none yet. */
  readonly term?: string | undefined;
  readonly sessions: Sessions;
  /** The newest counted presence events, oldest first; empty when all are known to be acknowledged. */
  readonly seen: readonly string[];
}

/** Builds the state from the records, in order. Skips and counts invalid ones. */
export function createReader(): { read(body: Buffer): void; state(): LedgerState & { readonly unreadable: number } } {
  let sessions = new Sessions();
  let seen: readonly string[] = [];
  let term: string | undefined;
  let unreadable = 0;
  const parts = new Map<string, SessionCount[]>();
  return {
    read(body) {
      const parsed = parse(body);
      if (!parsed) {
        unreadable += 1;
        return;
      }
      if (parsed.kind === 'part') {
        const part = parts.get(parsed.term) ?? [];
        part.push(...parsed.counts);
        parts.set(parsed.term, part);
      } else if (parsed.kind === 'begin') {
        if (term !== undefined && parsed.after !== term) return;
        term = parsed.term;
        sessions = new Sessions();
        for (const [jid, count] of parts.get(term) ?? []) sessions.set(jid, count);
        parts.clear();
        seen = parsed.seen;
      } else if (parsed.term === term) {
        for (const [jid, count] of parsed.counts) sessions.set(jid, count);
        seen = parsed.kind === 'end' ? [] : [...seen, ...parsed.seen].slice(-MOST_SEEN);
      }
    },
    state: () => ({ term, sessions, seen, unreadable }),
  };
}

function parse(body: Buffer): z.output<typeof record> | undefined {
  try {
    return record.parse(JSON.parse(body.toString('utf8')));
  } catch {
    return undefined;
  }
}

/** A whole state as records, which begin the term after the state's. */
export function* snapshotOf({ sessions, seen, term: after }: LedgerState, term: string): Generator<LedgerRecord> {
  let part: SessionCount[] = [];
  for (const entry of sessions.entries()) {
    part.push(entry);
    if (part.length < COUNTS_IN_RECORD) continue;
    yield { term, kind: 'part', counts: part };
    part = [];
  }
  if (part.length > 0) yield { term, kind: 'part', counts: part };
  yield { term, kind: 'begin', after, seen: [...seen] };
}

/**
 * The number of redelivered presence events that are counted already. The broker redelivers unacknowledged messages in
 * order, so the counted ones come first, and are those that were counted last.
 * @param seen the newest counted events, oldest first
 * @param again fingerprints of the redelivered events
 */
export function countedAmong(seen: readonly string[], again: readonly string[]): number {
  for (let length = Math.min(seen.length, again.length); length > 0; length--)
    if (again.slice(0, length).every((one, index) => one === seen[seen.length - length + index])) return length;
  return 0;
}
