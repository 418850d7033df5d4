/**
 * The rate of messages to one account in one region, which is what SNS's quota counts
 * (https://docs.aws.amazon.com/general/latest/gr/sns.html): a token bucket whose rate falls when SNS throttles and
 * recovers by itself (additive increase, multiplicative decrease).
 */
export interface RateLimit {
  /** How many messages may be sent now. */
  available(): number;
  /** Counts messages that are being sent. */
  spend(messages: number): void;
  /** SNS throttled a request of so many messages: they were not taken. */
  throttled(messages: number): void;
  /** How long until a message may be sent again, in milliseconds. */
  wait(): number;
  /** Messages a second at the moment; Infinity while nothing limits it. */
  rate(): number;
}

interface RateOptions {
  /** `max_messages_per_second`; undefined: none. */
  readonly cap?: number | undefined;
  /** Milliseconds of a clock that is never set; not the time of day. */
  readonly now?: () => number;
}

/** After a decrease, requests that were under way still come back throttled: they say nothing new. */
const SETTLE_MS = 1_000;
const DECREASE = 0.7;
/** Each second without throttling brings back this share of the rate at which it began. */
const INCREASE = 0.05;
const LEAST_RATE = 10;
/** What may be sent at once, as a share of a second: smooth enough for SNS, coarse enough for whole batches. */
const BURST_S = 0.1;
const WHOLE_BATCH = 10;

export function createRateLimit({
  cap = Number.POSITIVE_INFINITY,
  now = () => performance.now(),
}: RateOptions = {}): RateLimit {
  let rate = cap;
  /** What SNS took, a second, when it last throttled; recovery is measured against it. */
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
    // Twice what SNS once took, and it takes it: the limit has served its turn.
    if (rate >= Math.min(cap, 2 * reference)) rate = cap;
  };

  const fill = () => {
    const time = now();
    recover(time);
    tokens = Number.isFinite(rate) ? Math.min(burst(rate), tokens + ((time - filledAt) / 1_000) * rate) : rate;
    filledAt = time;
  };

  const count = (messages: number) => {
    const time = now();
    if (time - second.began >= 1_000) {
      const before = time - second.began < 2_000 ? second.taken : 0;
      second = { began: time, taken: 0, before };
    }
    second.taken += messages;
  };

  return {
    available() {
      fill();
      return Math.floor(tokens);
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
      rate = Math.max(reference * DECREASE, LEAST_RATE);
      tokens = Math.min(tokens, burst(rate));
      decreasedAt = recoveredAt = filledAt = time;
    },
    wait: () => (tokens >= 1 ? 0 : Math.ceil(((1 - tokens) / rate) * 1_000)),
    rate: () => rate,
  };
}

const burst = (rate: number): number => Math.max(rate * BURST_S, WHOLE_BATCH);
