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
  /** SNS throttled a request. */
  throttled(): void;
  /** How long until a message may be sent again, in milliseconds. */
  wait(): number;
  /** Messages a second at the moment; Infinity while nothing limits it. */
  rate(): number;
}

interface RateOptions {
  /** `max_messages_per_second`; undefined: none. */
  readonly cap?: number | undefined;
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

export function createRateLimit({ cap = Number.POSITIVE_INFINITY, now = Date.now }: RateOptions = {}): RateLimit {
  let rate = cap;
  /** The rate at the first throttling of this spell; recovery is measured against it. */
  let reference = 0;
  let changedAt = 0;
  let tokens = burst(cap);
  let filledAt = now();
  let second = { began: now(), sent: 0, before: 0 };

  const fill = () => {
    const time = now();
    if (rate < cap && time - changedAt >= SETTLE_MS) {
      const seconds = Math.floor((time - changedAt) / 1_000);
      rate += seconds * Math.max(reference * INCREASE, 1);
      changedAt += seconds * 1_000;
      // Twice what SNS once refused, and it takes it: the limit has served its turn.
      if (rate >= Math.min(cap, 2 * reference)) rate = cap;
    }
    tokens =
      rate === Number.POSITIVE_INFINITY ? rate : Math.min(burst(rate), tokens + ((time - filledAt) / 1_000) * rate);
    filledAt = time;
  };

  const count = (messages: number) => {
    const time = now();
    if (time - second.began >= 1_000) {
      const before = time - second.began < 2_000 ? second.sent : 0;
      second = { began: time, sent: 0, before };
    }
    second.sent += messages;
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
    throttled() {
      const time = now();
      if (time - changedAt < SETTLE_MS && reference > 0) return;
      count(0);
      const measured = Math.max(second.sent, second.before, LEAST_RATE);
      reference = Math.min(rate, measured);
      rate = Math.max(reference * DECREASE, LEAST_RATE);
      tokens = Math.min(tokens, burst(rate));
      changedAt = time;
      filledAt = time;
    },
    wait: () => (tokens >= 1 ? 0 : Math.ceil(((1 - tokens) / rate) * 1_000)),
    rate: () => rate,
  };
}

const burst = (rate: number): number => Math.max(rate * BURST_S, WHOLE_BATCH);
