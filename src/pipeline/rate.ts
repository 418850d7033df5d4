/**
 * The rate of messages under one quota (SNS counts them by account and region,
 * https://docs.aws.amazon.com/general/latest/gr/sns.html): a token bucket whose rate falls when the sink throttles and
 * recovers by itself (additive increase, multiplicative decrease).
 */
export interface RateLimit {
  /** How many messages may be sent now; 0 while waiting for more of `wanted` keeps batches whole. */
  available(wanted?: number): number;
  /** Counts messages that are being sent. */
  spend(messages: number): void;
  /** The sink throttled a request of this many messages. */
  throttled(messages: number): void;
  /** Milliseconds until `available` is above 0. */
  wait(wanted?: number): number;
  /** The current limit in messages per second; Infinity for none. */
  rate(): number;
}

interface RateOptions {
  /** `max_messages_per_second`; undefined: none. */
  readonly cap?: number | undefined;
  /** Milliseconds of a monotonic clock, not the time of day. */
  readonly now?: () => number;
}

/** After a decrease, earlier requests are still throttled; ignore them. */
const SETTLE_MS = 1_000;
const DECREASE = 0.7;
/** Each second without throttling restores this share of the rate at which it began. */
const INCREASE = 0.05;
const LEAST_RATE = 10;
/** The size of a burst, as a share of a second: smooth enough for a quota, coarse enough for whole batches. */
const BURST_S = 0.1;
const WHOLE_BATCH = 10;

export function createRateLimit({
  cap = Number.POSITIVE_INFINITY,
  now = () => performance.now(),
}: RateOptions = {}): RateLimit {
  let rate = cap;
  /** The rate that the sink accepted when it last throttled; recovery is measured against it. */
  let reference = 0;
  let decreasedAt = Number.NEGATIVE_INFINITY;
  let recoveredAt = 0;
  let tokens = burst(cap);
  let filledAt = now();
  let second = { began: now(), taken: 0, before: 0 };

  const recover = (time: number) => {
    const seconds = Math.floor((time - recoveredAt) / 1_000);
    if (rate >= cap || seconds < 1) return;
    recoveredAt += seconds * 1_000;
    rate += seconds * Math.max(reference * INCREASE, 1);
    // The sink accepts twice that rate: the limit is no longer needed.
    if (rate >= Math.min(cap, 2 * reference)) rate = cap;
  };

  const fill = () => {
    const time = now();
    recover(time);
    tokens = Number.isFinite(rate) ? Math.min(burst(rate), tokens + ((time - filledAt) / 1_000) * rate) : rate;
    filledAt = time;
  };

  /** How many of the wanted messages are worth waiting for: at most those of a tenth of a second. */
  const worth = (wanted: number) => Math.max(1, Math.min(wanted, Math.floor(rate * BURST_S)));

  const count = (messages: number) => {
    const time = now();
    if (time - second.began >= 1_000) {
      const before = time - second.began < 2_000 ? second.taken : 0;
      second = { began: time, taken: 0, before };
    }
    second.taken += messages;
  };

  return {
    available(wanted = 1) {
      fill();
      return tokens < worth(wanted) ? 0 : Math.floor(tokens);
    },
    spend(messages) {
      tokens -= messages;
      count(messages);
    },
    throttled(messages) {
      const time = now();
      count(-messages);
      if (time - decreasedAt < SETTLE_MS) return;
      reference = Math.min(rate, Math.max(second.taken, second.before, LEAST_RATE));
      rate = Math.min(cap, Math.max(reference * DECREASE, LEAST_RATE));
      tokens = Math.min(tokens, burst(rate));
      decreasedAt = recoveredAt = filledAt = time;
    },
    wait: (wanted = 1) => Math.max(0, Math.ceil(((worth(wanted) - tokens) / rate) * 1_000)),
    rate: () => rate,
  };
}

const burst = (rate: number): number => Math.max(rate * BURST_S, WHOLE_BATCH);
