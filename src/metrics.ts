/** Every metric, with its help text. Counted in batches where events pass by the thousand. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { XmppEvent } from './event.ts';
import type { OutboxState } from './outbox/outbox.ts';
import type { TopicState } from './sns/publisher.ts';

const PREFIX = 'xmpp_event_pusher_';

/** What the gauges show; asked for when someone reads the metrics. */
export interface Observed {
  readonly outbox: () => OutboxState;
  readonly topics: () => readonly TopicState[];
}

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  const counter = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) =>
    new Counter({ name: PREFIX + name, help, labelNames, registers });
  const histogram = <Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    buckets: number[],
  ) => new Histogram({ name: PREFIX + name, help, labelNames, buckets, registers });

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
  const outcomes = counter('notifications_total', 'What SNS said of notifications.', ['topic', 'outcome', 'reason']);
  const deadLetters = counter('dead_letters_total', 'Notifications and events that became dead letters.', [
    'topic',
    'reason',
  ]);
  const requests = histogram(
    'publish_request_duration_seconds',
    'Duration of PublishBatch requests.',
    ['topic'],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  );
  const batches = histogram(
    'publish_batch_size',
    'Notifications in a PublishBatch request.',
    ['topic'],
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  );
  const latency = histogram(
    'event_to_sns_seconds',
    'From when an event happened to when SNS had it.',
    ['topic'],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3_600],
  );

  return {
    registry,
    event: (tap: string, source: string, event: XmppEvent) =>
      events.inc({ tap, source, kind: event.kind === 'presence' ? 'presence' : event.type }),
    received: (tap: string, source: string, counts: { duplicates: number; rejected: number }) => {
      if (counts.duplicates > 0) duplicates.inc({ tap, source }, counts.duplicates);
      if (counts.rejected > 0) rejected.inc({ tap, source }, counts.rejected);
    },
    hole: (source: string, count: number) => {
      holes.inc({ source });
      missing.inc({ source }, count);
    },
    skipped: (event: XmppEvent, reason: string) =>
      skipped.inc({ kind: event.kind === 'presence' ? 'presence' : event.type, reason }),
    deadLetter: (topic: string | undefined, reason: string) => deadLetters.inc({ topic: topic ?? '', reason }),
    /** @param ms duration in milliseconds */
    request: (topic: string, entries: number, ms: number) => {
      requests.observe({ topic }, ms / 1_000);
      batches.observe({ topic }, entries);
    },
    outcome: (topic: string, outcome: string, reason: string, count: number) =>
      outcomes.inc({ topic, outcome, reason }, count),
    /** @param ms from the event to SNS, in milliseconds */
    delivered: (topic: string, ms: number) => latency.observe({ topic }, Math.max(ms, 0) / 1_000),
    observe: (observed: Observed) => observe(registry, observed),
  };
}

function observe(registry: Registry, { outbox, topics }: Observed): void {
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: readonly string[], collect: (gauge: Gauge) => void) =>
    new Gauge({
      name: PREFIX + name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        collect(this);
      },
    });
  gauge('outbox_notifications', 'Notifications that SNS does not have yet.', ['topic'], (gauge) => {
    for (const { arn, depth } of outbox().topics) gauge.set({ topic: arn }, depth);
  });
  gauge('outbox_bytes', 'What the content of the outbox takes.', [], (gauge) => gauge.set(outbox().bytes));
  gauge('outbox_max_bytes', 'What it may take: outbox.max_bytes.', [], (gauge) => gauge.set(outbox().maxBytes));
  gauge(
    'outbox_oldest_age_seconds',
    'Age of the oldest notification in the outbox; 0 when it is empty.',
    [],
    (gauge) => {
      const { oldestAt } = outbox();
      gauge.set(oldestAt === undefined ? 0 : (Date.now() - oldestAt) / 1_000);
    },
  );
  gauge('outbox_writable', '1 while the outbox can be written, 0 while the disk fails.', [], (gauge) =>
    gauge.set(outbox().fault ? 0 : 1),
  );
  gauge('dead_letters', 'Dead letters that are kept.', [], (gauge) => gauge.set(outbox().deadLetters));
  gauge('topic_paused', '1 while a topic is paused.', ['topic', 'reason'], (gauge) => {
    for (const { arn, pause } of topics()) gauge.set({ topic: arn, reason: pause?.reason ?? '' }, pause ? 1 : 0);
  });
  gauge(
    'source_last_heard_timestamp_seconds',
    'When a source was last heard, in seconds since the Unix epoch.',
    ['source'],
    (gauge) => {
      for (const { source, heardAt } of outbox().sources) gauge.set({ source }, heardAt / 1_000);
    },
  );
  collectDefaultMetrics({ register: registry });
}
