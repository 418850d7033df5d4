/**
 * Every metric, with its help text. Units and suffixes are Prometheus' (https://prometheus.io/docs/practices/naming/).
 *
 * A call costs 0.1 to 0.2 µs, labels included. So frequent events are counted once a batch, and values of each
 * notification go into our own histogram.
 */
import { statfs } from 'node:fs/promises';
import { Counter, collectDefaultMetrics, Gauge, type Registry } from 'prom-client';
import { kindOf } from '../notification/kind.ts';
import type { Notification } from '../notification/notification.ts';
import type { Health } from '../outbox/outbox.ts';
import type { TopicState } from '../pipeline/publisher.ts';
import type { Report, RequestReport } from '../pipeline/report.ts';
import type { TapState } from '../taps/tap.ts';
import { version } from '../version.ts';
import { TopicHistogram } from './topic-histogram.ts';

const PREFIX = 'xmpp_event_pusher_';

/** Gauges of prom-client named `_total`, which promtool rejects; other metrics have the same values. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** Most sources with their own label, and the label of all others. */
const MOST_SOURCES = 100;
const OTHER_SOURCES = 'other';

/** Sources of the gauges' values, read at each scrape. */
export interface Observed {
  readonly outbox: Health;
  readonly topics: readonly TopicState[];
  readonly taps: readonly (Pick<TapState, 'waiting'> & { readonly name: string })[];
  /** Why the pusher is not ready; empty when it is. */
  readonly notReady: readonly unknown[];
}

export interface Metrics {
  readonly report: Partial<Report>;
  /** Adds the gauges. */
  observe(observed: () => Observed): void;
  /** Removes all of them from the registry. */
  remove(): void;
}

/**
 * The metrics of the process; a host program has its own.
 * @param logLost the number of lost log lines
 */
export function addProcessMetrics(registry: Registry, logLost: () => number): void {
  describeBuild(registry);
  new Counter({
    name: `${PREFIX}log_lines_lost_total`,
    help: 'Log lines that could not be written.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(logLost());
    },
  });
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
}

/**
 * Free and total space of a folder's disk. Both are absent if they can't be read.
 * @param folder the outbox's folder
 */
export function addDiskMetrics(registry: Registry, folder: string): void {
  const registers = [registry];
  const size = new Gauge({ name: `${PREFIX}outbox_disk_bytes`, help: "Size of the outbox's disk.", registers });
  new Gauge({
    name: `${PREFIX}outbox_disk_free_bytes`,
    help: "Free space on the outbox's disk for the daemon.",
    registers,
    async collect() {
      const disk = await statfs(folder).catch(() => undefined);
      this.remove();
      size.remove();
      if (!disk) return;
      size.set(disk.blocks * disk.bsize);
      this.set(disk.bavail * disk.bsize);
    },
  });
}

/** Adds the metrics of a pipeline to a registry. */
export function createMetrics(registry: Registry): Metrics {
  const registers = [registry];
  const own: string[] = [];
  const named = (name: string) => {
    own.push(PREFIX + name);
    return PREFIX + name;
  };
  const counter = <Label extends string>(name: string, help: string, labelNames: readonly Label[]) =>
    new Counter({ name: named(name), help, labelNames, registers });
  const histogram = (name: string, help: string, buckets: number[]) =>
    new TopicHistogram({ name: named(name), help, buckets, registers });

  const events = counter('events_received_total', 'New events.', ['tap', 'source', 'kind']);
  const duplicates = counter('events_duplicate_total', 'Repeated events, not kept again.', ['tap', 'source']);
  const rejected = counter('events_rejected_total', 'Malformed events; each becomes a dead letter.', ['tap', 'source']);
  const holes = counter('source_holes_total', 'Holes in the numbers of a source.', ['source']);
  const missing = counter('source_events_missing_total', 'Events missing in those holes.', ['source']);
  const conflicting = counter(
    'source_conflicts_total',
    'Numbers that a source used twice for different events. Those are lost unless it resends them.',
    ['source'],
  );
  const refused = counter('source_refused_total', 'Refused batches of a source, which it sends again.', [
    'source',
    'reason',
  ]);
  const contacts = new Gauge({
    name: named('source_last_contact_timestamp_seconds'),
    help: "Time of a source's last request, whatever the answer, in seconds since the Unix epoch.",
    labelNames: ['source'],
    registers,
  });
  const ages = new Gauge({
    name: named('source_event_age_seconds'),
    help: "Age of the newest event in a source's last batch on arrival; negative if its clock is ahead.",
    labelNames: ['source'],
    registers,
  });
  const skipped = counter(
    'events_skipped_total',
    'Events that must not be published, by the configuration or the plugin.',
    ['kind', 'reason'],
  );
  const outcomes = counter(
    'notifications_total',
    "SNS's verdict on a notification at each attempt: outcome delivered, retry, pause or dead.",
    ['topic', 'outcome', 'reason'],
  );
  const deadLetters = counter('dead_letters_total', 'New dead letters.', ['topic', 'reason']);
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
    'Time from an event to its acceptance by SNS.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3_600],
  );
  const known = new Set<string>();
  /** Sources name themselves, so there may be any number: those beyond the first share a label. */
  const labelOf = (source: string) => {
    if (!known.has(source) && known.size >= MOST_SOURCES) return OTHER_SOURCES;
    introduce(source);
    return source;
  };
  /**
   * Prometheus misses the first increase unless a counter starts at 0, so a source's counters exist before its first
   * loss.
   */
  const introduce = (source: string) => {
    if (known.has(source)) return;
    known.add(source);
    holes.inc({ source }, 0);
    missing.inc({ source }, 0);
    conflicting.inc({ source }, 0);
  };

  /** The outcome of one request's notifications. */
  const count = ({ topic, entries, verdicts, at }: RequestReport) => {
    if (verdicts === 'split') return;
    const latencies = latency.of(topic);
    let delivered = 0;
    for (let index = 0; index < entries.length; index++) {
      const verdict = verdicts[index];
      if (verdict) {
        outcomes.inc({ topic, outcome: verdict.kind, reason: verdict.reason });
        continue;
      }
      delivered += 1;
      // Negative if the machines' clocks differ.
      latencies.observe(Math.max(at - (entries[index] as Notification).at, 0) / 1_000);
    }
    if (delivered > 0) outcomes.inc({ topic, outcome: 'delivered', reason: '' }, delivered);
  };

  return {
    report: {
      contact({ source: name, newestAt, refused: code }) {
        const source = labelOf(name);
        const now = Date.now();
        contacts.set({ source }, now / 1_000);
        if (newestAt !== undefined) ages.set({ source }, (now - newestAt) / 1_000);
        if (code !== undefined) refused.inc({ source, reason: code });
      },
      batch({ tap, source: name, kinds, duplicates: again, rejected: malformed, missing: lost, conflicts }) {
        const source = labelOf(name);
        for (const [kind, count] of kinds) events.inc({ tap, source, kind }, count);
        if (again > 0) duplicates.inc({ tap, source }, again);
        if (malformed > 0) rejected.inc({ tap, source }, malformed);
        if (lost > 0) {
          holes.inc({ source });
          missing.inc({ source }, lost);
        }
        if (conflicts > 0) conflicting.inc({ source }, conflicts);
      },
      skipped: (event, reason) => skipped.inc({ kind: kindOf(event), reason }),
      // Dead letters without a topic have an empty label.
      deadLetter: ({ topic = '', reason }) => deadLetters.inc({ topic, reason }),
      request(report) {
        const { topic, entries, ms } = report;
        requests.of(topic).observe(ms / 1_000);
        batches.of(topic).observe(entries.length);
        count(report);
      },
    },
    observe(observed) {
      const latest = [...lastHeard(observed().outbox)].toSorted(([, a], [, b]) => b - a);
      for (const [source] of latest) labelOf(source);
      own.push(...observe(registry, observed, (source) => (known.has(source) ? source : OTHER_SOURCES)));
    },
    remove() {
      for (const name of own) registry.removeSingleMetric(name);
    },
  };
}

function describeBuild(registry: Registry): void {
  new Gauge({
    name: `${PREFIX}build_info`,
    help: 'Always 1; its labels are the release and the version of Node.js.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version, node: process.versions.node }, 1);
}

/**
 * The gauges. The first one's `collect` fills them all, in one turn of the event loop, so that a scrape is consistent;
 * prom-client collects in the order of registration, as its own default metrics rely on too.
 */
function observe(registry: Registry, observed: () => Observed, labelOf: (source: string) => string): string[] {
  const all: Gauge[] = [];
  const names: string[] = [];
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
    names.push(PREFIX + name);
    return made;
  };
  const ready = gauge('ready', '1 while /readyz answers 200.', [], () => fill());
  const depth = gauge('outbox_notifications', 'Notifications that SNS has not accepted yet.', ['topic']);
  const atTap = gauge('tap_waiting_events', 'Events in the RabbitMQ queue that the tap reads.', ['tap']);
  const bytes = gauge('outbox_bytes', "Size of the outbox's content.", []);
  const maxBytes = gauge('outbox_max_bytes', 'Limit of that size, outbox.max_bytes.', []);
  const oldest = gauge('outbox_oldest_age_seconds', 'Age of the oldest waiting notification; 0 if there is none.', []);
  const writable = gauge('outbox_writable', "0 while the disk fails and the outbox can't be written.", []);
  const deadLetters = gauge('dead_letters_kept', 'Dead letters to be handled by a person.', []);
  const paused = gauge('topic_paused', '1 while a topic is paused, for the reason in the label.', ['topic', 'reason']);
  const inFlight = gauge('publish_requests_in_flight', 'Open PublishBatch requests.', ['topic']);
  const heard = gauge(
    'source_last_heard_timestamp_seconds',
    'When events of a source were last accepted, in seconds since the Unix epoch.',
    ['source'],
  );

  const known = gauge('sources', 'Known sources.', []);
  const unacknowledged = gauge(
    'source_holes_unacknowledged',
    'Holes in the numbers of a source that no one has acknowledged.',
    ['source'],
  );

  const fill = () => {
    const { outbox: state, topics, taps, notReady } = observed();
    for (const each of all) each.reset();
    ready.set(notReady.length === 0 ? 1 : 0);
    for (const { topic, depth: waiting } of state.topics) depth.set({ topic }, waiting);
    for (const { name, waiting } of taps) if (waiting !== undefined) atTap.set({ tap: name }, waiting);
    bytes.set(state.bytes);
    maxBytes.set(state.maxBytes);
    oldest.set(state.oldestAt === undefined ? 0 : Math.max(Date.now() - state.oldestAt, 0) / 1_000);
    writable.set(state.fault === undefined ? 1 : 0);
    deadLetters.set(state.deadLetters);
    for (const { topic, pause, inFlight: requests } of topics) {
      paused.set({ topic, reason: pause?.reason ?? '' }, pause ? 1 : 0);
      inFlight.set({ topic }, requests);
    }
    const latest = lastHeard(state);
    known.set(latest.size);
    const labels = new Map<string, { at: number; holes: number }>();
    const of = (source: string) => {
      const label = labelOf(source);
      const found = labels.get(label) ?? { at: 0, holes: 0 };
      labels.set(label, found);
      return found;
    };
    for (const [source, at] of latest) {
      const found = of(source);
      found.at = Math.max(found.at, at);
    }
    for (const { source } of state.holes) of(source).holes += 1;
    for (const [source, { at, holes }] of labels) {
      if (at > 0) heard.set({ source }, at / 1_000);
      unacknowledged.set({ source }, holes);
    }
  };
  return names;
}

/** When each source was last heard, over all its epochs; milliseconds since the Unix epoch. */
function lastHeard({ sources }: Health): Map<string, number> {
  const latest = new Map<string, number>();
  for (const { source, heardAt } of sources) latest.set(source, Math.max(heardAt, latest.get(source) ?? 0));
  return latest;
}
