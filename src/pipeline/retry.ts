/** Delays before retries. */

/**
 * The delay before the n-th retry, in milliseconds: MongooseIM's schedule, `2^(n-1) · publish_retry_time_ms −
 * random(1..publish_retry_time_ms)`; none if that option is 0, and at most 30 s, or the option if it is longer.
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

/** How long a topic pauses, in milliseconds: 1 s, doubled after each further failure, up to 30 s. */
export function pauseLength(consecutive: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** (consecutive - 1), LONGEST_PAUSE_MS);
}
