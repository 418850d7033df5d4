/** Where what waits in the outbox is going, and how that reads. */
import { rate, seconds } from '../format.js';

/** What waits at a moment: how many notifications, and what the outbox takes. */
export interface Volume {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly waiting: number;
  readonly bytes: number;
}

export interface Trend {
  /** How many more wait each second; negative while it gets less. */
  readonly perSecond: number;
  /** How long it takes, in milliseconds, if it goes on like this; undefined where it does not come to that. */
  readonly emptyInMs: number | undefined;
  readonly fullInMs: number | undefined;
  /** In words: `empty in about 4 min`, `growing 58/s, full in 3 h`; empty while nothing waits. */
  readonly text: string;
}

/** Over how long it is taken, in milliseconds: long enough for figures that can be read. */
const SPAN_MS = 30_000;
const LEAST_MS = 8_000;
/** Less than this a second, or in the span, is no trend. */
const LEAST_RATE = 0.5;
/** What takes longer than a week is not worth saying. */
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
