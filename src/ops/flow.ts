/**
 * Live figures of the daemon: rates, backlog and latency over the last hour, and notifications as SNS accepts them.
 *
 * Maintained invariants:
 * - Its memory is bounded at any rate: an hour of samples, and the last few notifications.
 * - Reporting costs no I/O, because it is on the path of every event.
 */
import type { Notification } from '../notification/notification.ts';
import type { BatchReport, Report, RequestReport } from '../pipeline/report.ts';

/** Sampling interval, in milliseconds, and the samples kept: an hour. */
export const SAMPLE_MS = 2_000;
const SAMPLES = 3_600_000 / SAMPLE_MS;
/** Time constant of a topic's mean rate, in seconds. */
const STEADY_S = 10;
/** Lower rates are remains of old traffic and count as none. */
const LEAST_RATE = 0.05;
/** Recent notifications kept, so that a newly opened page isn't empty. */
const RECENT = 50;

/** Figures since the previous sample. */
export interface Sample {
  /** When it was taken, in milliseconds since the Unix epoch. */
  readonly at: number;
  /**
   * New events, and notifications that SNS accepted, per second, in hundredths: a figure that a page gets live and later
   * in the last hour's samples reads the same.
   */
  readonly in: number;
  readonly out: number;
  /** Notifications that SNS had not accepted yet. */
  readonly backlog: number;
  /** Latency from event to SNS, in milliseconds: median and 99th percentile; null when there was none. */
  readonly p50: number | null;
  readonly p99: number | null;
}

/** A notification, and when SNS accepted it, in milliseconds since the Unix epoch. */
export interface Delivered {
  readonly notification: Notification;
  readonly at: number;
}

/** Figures of a topic. */
interface TopicFlow {
  /** Notifications per second, in the last sample, and as a steadier mean of some 10 s. */
  readonly rate: number;
  readonly steady: number;
  /** When SNS last accepted one, in milliseconds since the Unix epoch. */
  readonly lastAt: number;
}

/** Why events are not published: the reasons to skip one, `duplicate` and `rejected`. */
interface NotPublished {
  readonly reason: string;
  /** Events per second, a mean of some 10 s. */
  readonly rate: number;
}

export interface Flow extends Pick<Report, 'batch' | 'request' | 'skipped'> {
  /** Reasons why recent events weren't published, the most frequent first. */
  notPublished(): NotPublished[];
  /** Takes a sample, notifies the listeners, and returns it. */
  sample(backlog: number, now: number): Sample;
  /** Samples of the last hour, oldest first. */
  samples(): readonly Sample[];
  topic(arn: string): TopicFlow | undefined;
  /** The last notifications that SNS accepted, oldest first. */
  recent(): readonly Delivered[];
  /** Calls `listener` after each sample, until the returned function is called. */
  onSample(listener: (sample: Sample) => void): () => void;
  /** The same for each notification that SNS accepts. */
  onDelivered(listener: (delivered: Delivered) => void): () => void;
}

export function createFlow(startedAt: number = Date.now()): Flow {
  const samples: Sample[] = [];
  /** The last successful requests, as few as contain the last notifications. */
  const recent: { readonly report: RequestReport; readonly taken: number }[] = [];
  let recentCount = 0;
  const keep = (report: RequestReport, taken: number) => {
    recent.push({ report, taken });
    recentCount += taken;
    for (let first = recent[0]; first && recentCount - first.taken >= RECENT; first = recent[0]) {
      recentCount -= first.taken;
      recent.shift();
    }
  };
  const topics = new Map<string, { count: number; rate: number; steady: number; lastAt: number }>();
  const sampled = new Set<(sample: Sample) => void>();
  const listeners = new Set<(delivered: Delivered) => void>();
  const latency = createLatency();
  let lastSampleAt = startedAt;
  let received = 0;
  let delivered = 0;

  const left = new Map<string, { count: number; rate: number }>();
  const leaveOut = (reason: string, count: number) => {
    if (count === 0) return;
    const known = left.get(reason);
    if (known) known.count += count;
    else left.set(reason, { count, rate: 0 });
  };

  return {
    skipped: (_, reason) => leaveOut(reason, 1),
    notPublished: () =>
      [...left]
        .map(([reason, { rate }]) => ({ reason, rate }))
        .filter(({ rate }) => rate >= LEAST_RATE)
        .sort((a, b) => b.rate - a.rate),
    batch({ kinds, rejected, duplicates }: BatchReport) {
      leaveOut('duplicate', duplicates);
      leaveOut('rejected', rejected);
      for (const count of kinds.values()) received += count;
      received += rejected;
    },
    request(report: RequestReport) {
      const { topic: name, entries, verdicts, at } = report;
      if (verdicts === 'split') return;
      let taken = 0;
      for (let index = 0; index < entries.length; index++) {
        if (verdicts[index]) continue;
        taken += 1;
        latency.add(at - (entries[index] as Notification).at);
      }
      if (taken === 0) return;
      keep(report, taken);
      if (listeners.size > 0) for (const each of deliveredBy(report)) for (const listener of listeners) listener(each);
      delivered += taken;
      const topic = topics.get(name);
      if (topic) {
        topic.count += taken;
        topic.lastAt = at;
      } else {
        topics.set(name, { count: taken, rate: 0, steady: 0, lastAt: at });
      }
    },
    sample(backlog, now) {
      const seconds = Math.max(now - lastSampleAt, 1) / 1_000;
      const rates = { in: hundredths(received / seconds), out: hundredths(delivered / seconds) };
      const sample = { at: now, ...rates, backlog, ...latency.read() };
      for (const topic of topics.values()) {
        topic.rate = topic.count / seconds;
        // The first sample sets the mean; later ones move it, weighted by their duration.
        topic.steady += (topic.rate - topic.steady) * (topic.steady === 0 ? 1 : Math.min(seconds / STEADY_S, 1));
        topic.count = 0;
      }
      for (const reason of left.values()) {
        reason.rate += (reason.count / seconds - reason.rate) * Math.min(seconds / STEADY_S, 1);
        reason.count = 0;
      }
      lastSampleAt = now;
      received = 0;
      delivered = 0;
      samples.push(sample);
      if (samples.length > SAMPLES) samples.shift();
      for (const listener of sampled) listener(sample);
      return sample;
    },
    samples: () => samples,
    topic: (arn) => topics.get(arn),
    recent: () => recent.flatMap(({ report }) => deliveredBy(report)).slice(-RECENT),
    onSample: (listener) => subscribe(sampled, listener),
    onDelivered: (listener) => subscribe(listeners, listener),
  };
}

const hundredths = (value: number) => Math.round(value * 100) / 100;

/** Notifications of a request that the sink accepted. */
const deliveredBy = ({ entries, verdicts, at }: RequestReport): Delivered[] =>
  entries.filter((_, index) => !verdicts[index]).map((notification) => ({ notification, at }));

function subscribe<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Eight buckets per doubling, up to 2^32 ms: accurate to 5 % in constant memory. */
const STEPS = 8;
const BUCKETS = STEPS * 32;

/** Durations since the last read. */
function createLatency() {
  const buckets = new Uint32Array(BUCKETS);
  let count = 0;
  const quantile = (share: number): number | null => {
    let left = Math.ceil(count * share);
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= buckets[bucket] as number;
      // The middle of the bucket, on the logarithmic scale.
      if (left <= 0) return Math.round((2 ** ((bucket + 0.5) / STEPS) - 1) * 10) / 10;
    }
    return null;
  };
  return {
    /** @param ms negative where the server's clock is ahead of ours: counts as 0 */
    add(ms: number): void {
      const bucket = Math.floor(Math.log2(Math.max(ms, 0) + 1) * STEPS);
      buckets[Math.min(bucket, BUCKETS - 1)]! += 1;
      count += 1;
    },
    read(): { p50: number | null; p99: number | null } {
      const read = count === 0 ? { p50: null, p99: null } : { p50: quantile(0.5), p99: quantile(0.99) };
      buckets.fill(0);
      count = 0;
      return read;
    },
  };
}
