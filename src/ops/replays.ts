/**
 * Counts the outcomes of replayed dead letters in the daemon, so that every tab, a reloaded page and the command line
 * show the same. A restart of the daemon begins a new count.
 *
 * Maintained invariant: its memory is bounded by MOST event ids; those beyond count as waiting for ever.
 */
import type { Report } from '../pipeline/report.ts';

/** The progress of a replay. */
export interface ReplayCounts {
  /** When it was requested, in milliseconds since the Unix epoch. */
  readonly since: number;
  /** Its dead letters, including those of replays requested before it ended. */
  readonly asked: number;
  readonly taken: number;
  readonly deadAgain: number;
  readonly waiting: number;
}

export interface ReplayCounter {
  readonly report: Pick<Report, 'replaying' | 'request' | 'deadLetter'>;
  /** Adds the number of dead letters marked for replay. */
  asked(count: number): void;
  /** The last replay; undefined when there was none. */
  counts(): ReplayCounts | undefined;
}

const MOST = 200_000;

/** @param now milliseconds since the Unix epoch */
export function createReplayCounter(now: () => number = Date.now): ReplayCounter {
  /** Events that were replayed and have no outcome yet. */
  const underWay = new Set<string>();
  let replay = { since: 0, asked: 0, begun: 0, taken: 0, deadAgain: 0 };
  const waiting = () => Math.max(replay.asked, replay.begun) - replay.taken - replay.deadAgain;
  const begin = () => {
    if (waiting() <= 0) replay = { since: now(), asked: 0, begun: 0, taken: 0, deadAgain: 0 };
  };
  return {
    report: {
      replaying(eventId) {
        // A postponed event that is retried is the same one.
        if (underWay.has(eventId) || underWay.size >= MOST) return;
        begin();
        underWay.add(eventId);
        replay.begun += 1;
      },
      request({ entries, verdicts }) {
        if (underWay.size === 0 || verdicts === 'split') return;
        for (const [index, { eventId }] of entries.entries())
          if (!verdicts[index] && underWay.delete(eventId)) replay.taken += 1;
      },
      deadLetter({ eventId }) {
        if (underWay.delete(eventId)) replay.deadAgain += 1;
      },
    },
    asked(count) {
      if (count === 0) return;
      // Those replayed while others were still being marked are counted already.
      if (replay.asked > 0 || replay.begun === 0) begin();
      replay.asked += count;
    },
    counts() {
      const { since, asked, begun, taken, deadAgain } = replay;
      if (since === 0) return undefined;
      return { since, asked: Math.max(asked, begun), taken, deadAgain, waiting: waiting() };
    },
  };
}
