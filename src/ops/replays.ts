/**
 * What became of the dead letters that are replayed, counted where it happens: the same in every tab, after a reload and
 * on the command line. A restart of the daemon begins a new count.
 *
 * Maintained invariant: its memory is bounded by MOST event ids; those beyond are counted as waiting for good.
 */
import type { Report } from '../pipeline/report.ts';

/** How a replay gets on. */
export interface ReplayCounts {
  /** When it was asked for, in milliseconds since the Unix epoch. */
  readonly since: number;
  /** How many dead letters, those of replays that were asked for before it had ended included. */
  readonly asked: number;
  readonly taken: number;
  readonly deadAgain: number;
  readonly waiting: number;
}

export interface ReplayCounter {
  readonly report: Pick<Report, 'replaying' | 'request' | 'deadLetter'>;
  /** So many dead letters are marked for replay. */
  asked(count: number): void;
  /** The last replay; undefined when there was none. */
  counts(): ReplayCounts | undefined;
}

const MOST = 200_000;

/** @param now milliseconds since the Unix epoch */
export function createReplayCounter(now: () => number = Date.now): ReplayCounter {
  /** Events that are on their way again. */
  const underWay = new Set<string>();
  let replay = { since: 0, asked: 0, begun: 0, taken: 0, deadAgain: 0 };
  const waiting = () => Math.max(replay.asked, replay.begun) - replay.taken - replay.deadAgain;
  const begin = () => {
    if (waiting() <= 0) replay = { since: now(), asked: 0, begun: 0, taken: 0, deadAgain: 0 };
  };
  return {
    report: {
      replaying(eventId) {
        // One that is put off and tried again is the same.
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
      // What was taken up while the rest was still being marked is counted already.
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
