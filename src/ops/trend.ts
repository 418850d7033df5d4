/** Where what waits in the outbox is going, and how that reads. */

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
  const seconds = (last.at - first.at) / 1_000;
  const perSecond = (last.waiting - first.waiting) / seconds;
  if (Math.abs(perSecond) < LEAST_RATE) return { ...none, perSecond, text: 'steady' };
  const bytesPerSecond = (last.bytes - first.bytes) / seconds;
  const time = (left: number, rate: number) => {
    const ms = (left / rate) * 1_000;
    return rate > 0 && ms < FAR_MS ? Math.max(ms, 0) : undefined;
  };
  if (perSecond < 0) {
    const emptyInMs = time(last.waiting, -perSecond);
    const text = emptyInMs === undefined ? `shrinking ${rateOf(-perSecond)}` : `empty in about ${duration(emptyInMs)}`;
    return { ...none, perSecond, emptyInMs, text };
  }
  const fullInMs = time(maxBytes - last.bytes, bytesPerSecond);
  const full = fullInMs === undefined ? '' : `, full in ${duration(fullInMs)}`;
  return { ...none, perSecond, fullInMs, text: `growing ${rateOf(perSecond)}${full}` };
}

const rateOf = (value: number): string => `${value >= 10 ? Math.round(value) : Math.round(value * 10) / 10}/s`;

/** A duration in the largest unit that says enough: `40 s`, `4 min`, `3 h`, `2 days`. */
function duration(ms: number): string {
  if (ms < 120_000) return `${Math.max(Math.round(ms / 1_000), 1)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} days`;
}
