/**
 * What SNS's answer, or its absence, means for a notification, in the publisher's terms; and how long to wait for
 * another try. Pure.
 */
import { explain } from './explain.ts';
import type { Circumstances, Failed } from './failure.ts';

export type { Failure } from './failure.ts';

type Decision =
  /** Worth trying again soon. `throttled`: SNS asks for a lower rate. */
  | { readonly kind: 'retry'; readonly throttled: boolean }
  /** A person has to act; until then the topic waits. */
  | { readonly kind: 'pause' }
  /** SNS will never take it. */
  | { readonly kind: 'dead' };

/** What to do, and why. `detail` is all that SNS said, which may quote what it refused; `shown` is fit for logs. */
export type Verdict = Decision & {
  readonly reason: string;
  readonly detail: string;
  readonly shown: string;
  readonly advice: string;
};

/** Of a failure that came without them. */
const NOWHERE: Circumstances = {
  endpoint: new URL('https://sns.invalid'),
  region: '',
  accountId: '',
  credentials: 'static',
};

/**
 * What a failure means. For a whole request with several entries `dead` says that one of them is at fault, not which:
 * then they have to be tried in smaller batches.
 */
export function verdictOf(failure: Failed): Verdict {
  const circumstances = failure.circumstances ?? NOWHERE;
  const { kind, throttled, reason, seen, means, detail, advice } = explain(failure, circumstances);
  const shown = `${seen}; ${means}`;
  return kind === 'retry'
    ? { kind, throttled, reason, detail, shown, advice }
    : { kind, reason, detail, shown, advice };
}

/**
 * How long to wait before the n-th retry, in milliseconds: MongooseIM's schedule,
 * `2^(n-1) · publish_retry_time_ms − random(1..publish_retry_time_ms)`; no wait when that option is 0, and none longer
 * than 30 s, or than the option if that is longer.
 * @param retry 1 for the first
 * @param random uniform in [0, 1)
 */
export function retryDelay(retry: number, baseMs: number, random: number): number {
  if (baseMs === 0) return 0;
  const longest = Math.max(LONGEST_PAUSE_MS, baseMs);
  return Math.min(2 ** Math.min(retry - 1, 30) * baseMs - (1 + Math.floor(random * baseMs)), longest);
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

/** How long a topic waits, in milliseconds: 1 s, then twice as long each time that it failed again, up to 30 s. */
export function pauseLength(consecutive: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** (consecutive - 1), LONGEST_PAUSE_MS);
}
