import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Registry } from 'prom-client';
import type { Notification } from '../notification/notification.ts';
import type { Health } from '../outbox/outbox.ts';
import type { TopicState } from '../pipeline/publisher.ts';
import { type BatchReport, reportTo } from '../pipeline/report.ts';
import type { Verdict } from '../pipeline/sink.ts';
import { version } from '../version.ts';
import { addProcessMetrics, createMetrics, type Observed } from './metrics.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';

const emptyOutbox: Health = {
  topics: [],
  sources: [],
  holes: [],
  deadLetters: 0,
  bytes: 0,
  maxBytes: 1_000,
  oldestAt: undefined,
  fault: undefined,
};

interface Shown {
  outbox?: Partial<Health>;
  topics?: TopicState[];
  taps?: Observed['taps'];
  notReady?: unknown[];
}

function showing(shown: Shown): Registry {
  const registry = new Registry();
  createMetrics(registry).observe(() => ({
    outbox: { ...emptyOutbox, ...shown.outbox },
    topics: shown.topics ?? [],
    taps: shown.taps ?? [],
    notReady: shown.notReady ?? [],
  }));
  return registry;
}

/** A registry, and what is reported to the metrics in it. */
function reporting() {
  const registry = new Registry();
  return { registry, report: reportTo(createMetrics(registry).report) };
}

const batch = (fields: Partial<BatchReport>): BatchReport => ({
  tap: 'http',
  source: 's',
  kinds: new Map(),
  duplicates: 0,
  rejected: 0,
  missing: 0,
  conflicts: 0,
  ...fields,
});

const notification = (at: number): Notification => ({
  eventId: 's/e/1',
  topic: TOPIC,
  orderKey: 'alice@localhost',
  at,
  message: '{}',
  attributes: [],
  bytes: 2,
});

/** The lines of the exposition that start with a name of ours, without the prefix. */
async function lines(registry: Registry, name: string): Promise<string[]> {
  const text = await registry.metrics();
  const prefix = 'xmpp_event_pusher_';
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${prefix}${name}{`) || line.startsWith(`${prefix}${name} `))
    .map((line) => line.slice(prefix.length));
}

describe('metrics', () => {
  it("metrics show a source's last contact, the age of its events, and why it was refused", async () => {
    const { registry, report } = reporting();
    const contact = { tap: 'http', source: 's', numbered: true, events: 1 };
    report.contact({ ...contact, newestAt: Date.now() + 60_000, refused: 'OUTBOX_FULL' });
    const [at] = await lines(registry, 'source_last_contact_timestamp_seconds');
    assert.ok(Math.abs(Number(at?.split(' ')[1]) - Date.now() / 1_000) < 60);
    const [age] = await lines(registry, 'source_event_age_seconds');
    assert.ok(Number(age?.split(' ')[1]) < 0);
    assert.deepEqual(await lines(registry, 'source_refused_total'), [
      'source_refused_total{source="s",reason="OUTBOX_FULL"} 1',
    ]);
  });

  it('metrics count events by tap, source and kind, and duplicate and malformed ones', async () => {
    const { registry, report } = reporting();
    const kinds = new Map([
      ['presence', 3],
      ['muc', 1],
    ] as const);
    report.batch(batch({ kinds, duplicates: 2, rejected: 1 }));
    report.batch(batch({ kinds: new Map([['presence', 1]]) }));
    assert.deepEqual(await lines(registry, 'events_received_total'), [
      'events_received_total{tap="http",source="s",kind="presence"} 4',
      'events_received_total{tap="http",source="s",kind="muc"} 1',
    ]);
    assert.deepEqual(await lines(registry, 'events_duplicate_total'), [
      'events_duplicate_total{tap="http",source="s"} 2',
    ]);
    assert.deepEqual(await lines(registry, 'events_rejected_total'), [
      'events_rejected_total{tap="http",source="s"} 1',
    ]);
  });

  it("metrics show a source's holes from 0 on, so that the first one is an increase", async () => {
    const { registry, report } = reporting();
    report.batch(batch({}));
    assert.deepEqual(await lines(registry, 'source_holes_total'), ['source_holes_total{source="s"} 0']);
    report.batch(batch({ missing: 12 }));
    report.batch(batch({ missing: 3 }));
    assert.deepEqual(await lines(registry, 'source_holes_total'), ['source_holes_total{source="s"} 2']);
    assert.deepEqual(await lines(registry, 'source_events_missing_total'), [
      'source_events_missing_total{source="s"} 15',
    ]);
  });

  it('metrics include sources that the outbox knows from earlier runs', async () => {
    const source = { source: 'old', epoch: 'e', last: 9, holes: 4, missing: 5, heardAt: 1_000 };
    const registry = showing({ outbox: { sources: [source] } });
    assert.deepEqual(await lines(registry, 'source_holes_total'), ['source_holes_total{source="old"} 0']);
  });

  it('metrics count outcomes with reasons, and put latencies into buckets', async () => {
    const { registry, report } = reporting();
    const throttled: Verdict = {
      kind: 'retry',
      reason: 'Throttled',
      throttled: true,
      detail: 'd',
      shown: 's',
      advice: 'a',
    };
    // One happened before the answer, the others after it, by the clock of another machine.
    const entries = [notification(960), ...Array(9).fill(notification(1_005))];
    const verdicts = entries.map((_, index) => (index === 9 ? throttled : undefined));
    report.request({ topic: TOPIC, entries, verdicts, ms: 30, at: 1_000 });
    assert.deepEqual((await lines(registry, 'notifications_total')).toSorted(), [
      `notifications_total{topic="${TOPIC}",outcome="delivered",reason=""} 9`,
      `notifications_total{topic="${TOPIC}",outcome="retry",reason="Throttled"} 1`,
    ]);
    assert.deepEqual(await lines(registry, 'event_to_sns_seconds_sum'), [
      `event_to_sns_seconds_sum{topic="${TOPIC}"} 0.04`,
    ]);
    assert.deepEqual(await lines(registry, 'event_to_sns_seconds_count'), [
      `event_to_sns_seconds_count{topic="${TOPIC}"} 9`,
    ]);
    assert.deepEqual(await lines(registry, 'publish_request_duration_seconds_sum'), [
      `publish_request_duration_seconds_sum{topic="${TOPIC}"} 0.03`,
    ]);
    assert.deepEqual(await lines(registry, 'publish_batch_size_sum'), [`publish_batch_size_sum{topic="${TOPIC}"} 10`]);
  });

  it('metrics show the current outbox, topics and sources', async () => {
    const source = { source: 's', epoch: 'new', last: 9, holes: 0, missing: 0, heardAt: 2_000 };
    const shown: Shown = {
      outbox: {
        topics: [{ topic: TOPIC, depth: 7 }],
        sources: [source, { ...source, epoch: 'old', heardAt: 1_000 }],
        deadLetters: 2,
        bytes: 500,
        oldestAt: Date.now() + 60_000,
        fault: 'the disk is full',
      },
      topics: [
        {
          topic: TOPIC,
          inFlight: 1,
          pool: { size: 1, inFlight: 1 },
          pause: { reason: 'NotFound', detail: '', advice: '', since: 0, began: 0, until: 0 },
        },
      ],
      taps: [
        { name: 'http', waiting: undefined },
        { name: 'rabbitmq', waiting: 12 },
      ],
      notReady: ['paused'],
    };
    const registry = showing(shown);
    for (const [name, expected] of [
      ['ready', '0'],
      ['outbox_bytes', '500'],
      ['outbox_max_bytes', '1000'],
      ['outbox_oldest_age_seconds', '0'],
      ['outbox_writable', '0'],
      ['dead_letters_kept', '2'],
    ] as const)
      assert.deepEqual(await lines(registry, name), [`${name} ${expected}`]);
    assert.deepEqual(await lines(registry, 'outbox_notifications'), [`outbox_notifications{topic="${TOPIC}"} 7`]);
    assert.deepEqual(await lines(registry, 'tap_waiting_events'), ['tap_waiting_events{tap="rabbitmq"} 12']);
    assert.deepEqual(await lines(registry, 'topic_paused'), [`topic_paused{topic="${TOPIC}",reason="NotFound"} 1`]);
    assert.deepEqual(await lines(registry, 'publish_requests_in_flight'), [
      `publish_requests_in_flight{topic="${TOPIC}"} 1`,
    ]);
    assert.deepEqual(await lines(registry, 'source_last_heard_timestamp_seconds'), [
      'source_last_heard_timestamp_seconds{source="s"} 2',
    ]);

    // The pause is over, and its reason is gone with it.
    shown.topics = [{ topic: TOPIC, inFlight: 0, pool: { size: 1, inFlight: 0 }, pause: undefined }];
    shown.notReady = [];
    assert.deepEqual(await lines(registry, 'topic_paused'), [`topic_paused{topic="${TOPIC}",reason=""} 0`]);
    assert.deepEqual(await lines(registry, 'ready'), ['ready 1']);
  });

  it('a scrape queries the outbox once', async () => {
    const registry = new Registry();
    let asked = 0;
    const observed = (): Observed => {
      asked += 1;
      return { outbox: emptyOutbox, topics: [], taps: [], notReady: [] };
    };
    createMetrics(registry).observe(observed);
    asked = 0;
    await registry.metrics();
    assert.equal(asked, 1);
  });

  it('metrics show the release and the Node.js version', async () => {
    const registry = new Registry();
    addProcessMetrics(registry, () => 0);
    assert.deepEqual(await lines(registry, 'build_info'), [
      `build_info{version="${version}",node="${process.versions.node}"} 1`,
    ]);
  });

  it('metrics limit labels to a hundred sources, and sum up the others', async () => {
    const names = Array.from({ length: 150 }, (_, n) => `source${n}`);
    const sources = names.map((source, n) => ({
      source,
      epoch: 'e',
      last: 1,
      holes: 0,
      missing: 0,
      heardAt: 1_000 + n,
    }));
    const hole = { id: 1, source: 'source0', epoch: 'e', first: 1, last: 2, missing: 2, at: 1 };
    const registry = new Registry();
    const metrics = createMetrics(registry);
    metrics.observe(() => ({
      outbox: { ...emptyOutbox, sources, holes: [hole, { ...hole, id: 2 }] },
      topics: [],
      taps: [],
      notReady: [],
    }));
    const report = reportTo(metrics.report);
    for (const source of names) report.batch(batch({ source, missing: 3, kinds: new Map([['pm', 1]]) }));
    const lines = (await registry.metrics()).split('\n');
    const labels = new Set(lines.flatMap((line) => /source="([^"]*)"/.exec(line)?.[1] ?? []));
    assert.equal(labels.size, 101);
    // Those that were heard last have labels of their own.
    assert.ok(labels.has('source149') && !labels.has('source0') && labels.has('other'));
    assert.ok(lines.includes('xmpp_event_pusher_source_events_missing_total{source="other"} 150'));
    assert.ok(lines.includes('xmpp_event_pusher_source_holes_unacknowledged{source="other"} 2'));
    assert.ok(lines.includes('xmpp_event_pusher_source_last_heard_timestamp_seconds{source="other"} 1.049'));
    assert.ok(lines.includes('xmpp_event_pusher_sources 150'));
  });
});
