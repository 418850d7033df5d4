/** The trend of the outbox's backlog, and its text. */
import { rate, seconds } from '../format.js';

/** The backlog at a moment: its notifications, and the outbox's size. */
export interface Volume {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly waiting: number;
  readonly bytes: number;
}

export interface Trend {
  /** Growth per second; negative while the backlog shrinks. */
  readonly perSecond: number;
  /** Time left at this rate, in milliseconds; undefined where it never happens. */
  readonly emptyInMs: number | undefined;
  readonly fullInMs: number | undefined;
  /** In words: `empty in about 4 min`, `growing 58/s, full in 3 h`; empty while nothing waits. */
  readonly text: string;
}

/** The span that it is computed over, in milliseconds: long enough for steady figures. */
const SPAN_MS = 30_000;
const LEAST_MS = 8_000;
/** Smallest change, per second and in the span, that counts as a trend. */
const LEAST_RATE = 0.5;
/** Anything further away than a week isn't shown. */
const FAR_MS = 7 * 86_400_000;

/** @param volumes oldest first */
export function trendOf(volumes: readonly Volume[], maxBytes: number): Trend {
  const last = volumes.at(-1);
  const first = volumes.find(({ at }) => at >= (last?.at ?? 0) - SPAN_MS);
  const none: Trend = { perSecond: 0, emptyInMs: undefined, fullInMs: undefined, text: '' };
  if (!last || !first || last.waiting === 0 || last.at - first.at < LEAST_MS) return none;
  const span = (last.at - first.at) / 1_000;
  const perSecond = (last.waiting - first.waiting) / span;
  if (Math.abs(perSecond) < LEAST_RATE) return { ...none, perSecond, text: 'steady' };
  const bytesPerSecond = (last.bytes - first.bytes) / span;
  const time = (left: number, each: number) => {
    const ms = (left / each) * 1_000;
    return each > 0 && ms < FAR_MS ? Math.max(ms, 0) : undefined;
  };
  if (perSecond < 0) {
    const emptyInMs = time(last.waiting, -perSecond);
    const text = emptyInMs === undefined ? `shrinking ${rate(-perSecond)}/s` : `empty in about ${seconds(emptyInMs)}`;
    return { ...none, perSecond, emptyInMs, text };
  }
  const fullInMs = time(maxBytes - last.bytes, bytesPerSecond);
  const full = fullInMs === undefined ? '' : `, full in ${seconds(fullInMs)}`;
  return { ...none, perSecond, fullInMs, text: `growing ${rate(perSecond)}/s${full}` };
}
