/**
 * Every metric, with its help text. Units and suffixes are Prometheus' (https://prometheus.io/docs/practices/naming/).
 *
 * Counting costs 0.1 to 0.2 µs a call, labels and all. What passes by the thousand is counted once a batch where that is
 * as simple; the latency of a notification is counted one by one.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { EventKind } from '../notification/kind.ts';
import type { OutboxState } from '../outbox/outbox.ts';
import { version } from '../version.ts';

const PREFIX = 'xmpp_event_pusher_';

/** Gauges of prom-client that call themselves totals, which Prometheus' own checker refuses; others tell the same. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** What the gauges show of a topic. */
interface TopicGauges {
  readonly arn: string;
  readonly pause: { readonly reason: string } | undefined;
  /** Requests under way. */
  readonly inFlight: number;
}

/** What the gauges show; asked for when someone reads the metrics. */
export interface Observed {
  readonly outbox: () => OutboxState;
  readonly topics: () => readonly TopicGauges[];
  /** Why the daemon is not ready; empty when it is. */
  readonly notReady: () => readonly unknown[];
  /** Lines that the log lost; left out where the log is somebody else's. */
  readonly logLost?: () => number;
}

/** What a batch of events of one source came to. */
export interface BatchCounts {
  /** Events that were new and well-formed, by kind. */
  readonly kinds: ReadonlyMap<EventKind, number>;
  readonly duplicates: number;
  readonly rejected: number;
}

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  const counter = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) =>
    new Counter({ name: PREFIX + name, help, labelNames, registers });
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: PREFIX + name, help, labelNames: ['topic'], buckets, registers });

  const events = counter('events_received_total', 'Events that came in and were new.', ['tap', 'source', 'kind']);
  const duplicates = counter('events_duplicate_total', 'Events that came in again, and were not kept again.', [
    'tap',
    'source',
  ]);
  const rejected = counter('events_rejected_total', 'Malformed events, kept as dead letters.', ['tap', 'source']);
  const holes = counter('source_holes_total', 'Holes in the numbers of a source.', ['source']);
  const missing = counter('source_events_missing_total', 'Events missing in those holes.', ['source']);
  const skipped = counter('events_skipped_total', 'Events that the configuration or the plugin says not to publish.', [
    'kind',
    'reason',
  ]);
  const outcomes = counter(
    'notifications_total',
    'What SNS said of notifications, each time that it was asked: outcome delivered, retry, pause or dead.',
    ['topic', 'outcome', 'reason'],
  );
  const deadLetters = counter('dead_letters_total', 'Notifications and events that became dead letters.', [
    'topic',
    'reason',
  ]);
  const requests = histogram(
    'publish_request_duration_seconds',
    'Duration of PublishBatch requests.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20],
  );
  const batches = histogram(
    'publish_batch_size',
    'Notifications in a PublishBatch request.',
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  );
  const latency = histogram(
    'event_to_sns_seconds',
    'From when an event happened to when SNS had it.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3_600],
  );
  describeBuild(registry);
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);

  const known = new Set<string>();
  /** A counter that is born above zero is no increase to Prometheus, so a source's counters are there before its first loss. */
  const introduce = (source: string) => {
    if (known.has(source)) return;
    known.add(source);
    holes.inc({ source }, 0);
    missing.inc({ source }, 0);
  };

  return {
    registry,
    /** What came of a batch of a tap; called when it is committed. */
    received(tap: string, source: string, counts: BatchCounts) {
      introduce(source);
      for (const [kind, count] of counts.kinds) events.inc({ tap, source, kind }, count);
      if (counts.duplicates > 0) duplicates.inc({ tap, source }, counts.duplicates);
      if (counts.rejected > 0) rejected.inc({ tap, source }, counts.rejected);
    },
    /** @param count how many events are missing in the hole */
    hole(source: string, count: number) {
      introduce(source);
      holes.inc({ source });
      missing.inc({ source }, count);
    },
    skipped: (kind: EventKind, reason: string) => skipped.inc({ kind, reason }),
    /** @param topic its ARN; undefined for what died before it had one */
    deadLetter: (topic: string | undefined, reason: string) => deadLetters.inc({ topic: topic ?? '', reason }),
    /** @param ms duration in milliseconds */
    request(topic: string, entries: number, ms: number) {
      requests.observe({ topic }, ms / 1_000);
      batches.observe({ topic }, entries);
    },
    outcome: (topic: string, outcome: string, reason: string, count: number) =>
      outcomes.inc({ topic, outcome, reason }, count),
    /** @param ms from the event to SNS, in milliseconds; below zero when the clocks of the machines differ */
    delivered: (topic: string, ms: number) => latency.observe({ topic }, Math.max(ms, 0) / 1_000),
    observe(observed: Observed) {
      for (const { source } of observed.outbox().sources) introduce(source);
      observe(registry, observed);
    },
  };
}

function describeBuild(registry: Registry): void {
  new Gauge({
    name: `${PREFIX}build_info`,
    help: 'Always 1; the release and the Node.js it runs on are its labels.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version, node: process.versions.node }, 1);
}

/**
 * The gauges. The first one's `collect` fills them all, in one turn of the event loop, so that a reading shows one moment;
 * prom-client collects in the order of registration, as its own default metrics rely on too.
 */
function observe(registry: Registry, { outbox, topics, notReady, logLost = () => 0 }: Observed): void {
  new Counter({
    name: `${PREFIX}log_lines_lost_total`,
    help: 'Lines of the log that could not be written.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(logLost());
    },
  });
  const all: Gauge[] = [];
  const gauge = <Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    collect?: () => void,
  ) => {
    const made = new Gauge({
      name: PREFIX + name,
      help,
      labelNames,
      registers: [registry],
      ...(collect && { collect }),
    });
    all.push(made as Gauge);
    return made;
  };
  const ready = gauge('ready', '1 while /readyz answers that the daemon is ready.', [], () => fill());
  const depth = gauge('outbox_notifications', 'Notifications that SNS does not have yet.', ['topic']);
  const bytes = gauge('outbox_bytes', 'What the content of the outbox takes.', []);
  const maxBytes = gauge('outbox_max_bytes', 'What it may take: outbox.max_bytes.', []);
  const oldest = gauge(
    'outbox_oldest_age_seconds',
    'Age of the oldest notification in the outbox; 0 when it is empty.',
    [],
  );
  const writable = gauge('outbox_writable', '1 while the outbox can be written, 0 while the disk fails.', []);
  const deadLetters = gauge('dead_letters_kept', 'Dead letters that wait for a person.', []);
  const paused = gauge('topic_paused', '1 while a topic is paused, for the reason in the label.', ['topic', 'reason']);
  const inFlight = gauge('publish_requests_in_flight', 'PublishBatch requests under way.', ['topic']);
  const heard = gauge(
    'source_last_heard_timestamp_seconds',
    'When a source was last heard, in seconds since the Unix epoch.',
    ['source'],
  );

  const fill = () => {
    const state = outbox();
    for (const each of all) each.reset();
    ready.set(notReady().length === 0 ? 1 : 0);
    for (const topic of state.topics) depth.set({ topic: topic.arn }, topic.depth);
    bytes.set(state.bytes);
    maxBytes.set(state.maxBytes);
    oldest.set(state.oldestAt === undefined ? 0 : Math.max(Date.now() - state.oldestAt, 0) / 1_000);
    writable.set(state.fault === undefined ? 1 : 0);
    deadLetters.set(state.deadLetters);
    for (const { arn, pause, inFlight: requests } of topics()) {
      paused.set({ topic: arn, reason: pause?.reason ?? '' }, pause ? 1 : 0);
      inFlight.set({ topic: arn }, requests);
    }
    for (const [source, at] of lastHeard(state)) heard.set({ source }, at / 1_000);
  };
}

/** When each source was last heard, in whichever of its epochs; milliseconds since the Unix epoch. */
function lastHeard({ sources }: OutboxState): Map<string, number> {
  const latest = new Map<string, number>();
  for (const { source, heardAt } of sources) latest.set(source, Math.max(heardAt, latest.get(source) ?? 0));
  return latest;
}
