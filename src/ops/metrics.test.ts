import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { OutboxState } from '../outbox/outbox.ts';
import type { TopicState } from '../pipeline/publisher.ts';
import { version } from '../version.ts';
import { createMetrics, type Metrics } from './metrics.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';

const emptyOutbox: OutboxState = {
  topics: [],
  sources: [],
  deadLetters: 0,
  bytes: 0,
  maxBytes: 1_000,
  oldestAt: undefined,
  fault: undefined,
};

interface Shown {
  outbox?: Partial<OutboxState>;
  topics?: TopicState[];
  notReady?: unknown[];
}

function showing(shown: Shown): Metrics {
  const metrics = createMetrics();
  metrics.observe({
    outbox: () => ({ ...emptyOutbox, ...shown.outbox }),
    topics: () => shown.topics ?? [],
    notReady: () => shown.notReady ?? [],
  });
  return metrics;
}

/** The lines of the exposition that start with a name of ours, without the prefix. */
async function lines({ registry }: Metrics, name: string): Promise<string[]> {
  const text = await registry.metrics();
  const prefix = 'xmpp_event_pusher_';
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${prefix}${name}{`) || line.startsWith(`${prefix}${name} `))
    .map((line) => line.slice(prefix.length));
}

describe('metrics', () => {
  it('counts events by tap, source and kind, duplicates and malformed ones', async () => {
    const metrics = createMetrics();
    const kinds = new Map([
      ['presence', 3],
      ['muc', 1],
    ] as const);
    metrics.received('http', 's', { kinds, duplicates: 2, rejected: 1 });
    metrics.received('http', 's', { kinds: new Map([['presence', 1]]), duplicates: 0, rejected: 0 });
    assert.deepEqual(await lines(metrics, 'events_received_total'), [
      'events_received_total{tap="http",source="s",kind="presence"} 4',
      'events_received_total{tap="http",source="s",kind="muc"} 1',
    ]);
    assert.deepEqual(await lines(metrics, 'events_duplicate_total'), [
      'events_duplicate_total{tap="http",source="s"} 2',
    ]);
    assert.deepEqual(await lines(metrics, 'events_rejected_total'), ['events_rejected_total{tap="http",source="s"} 1']);
  });

  it('shows the holes of a source from zero on, so that the first one is an increase', async () => {
    const metrics = createMetrics();
    metrics.received('http', 's', { kinds: new Map(), duplicates: 0, rejected: 0 });
    assert.deepEqual(await lines(metrics, 'source_holes_total'), ['source_holes_total{source="s"} 0']);
    metrics.hole('s', 12);
    metrics.hole('s', 3);
    assert.deepEqual(await lines(metrics, 'source_holes_total'), ['source_holes_total{source="s"} 2']);
    assert.deepEqual(await lines(metrics, 'source_events_missing_total'), [
      'source_events_missing_total{source="s"} 15',
    ]);
  });

  it('introduces the sources that the outbox knows from before', async () => {
    const source = { source: 'old', epoch: 'e', last: 9, holes: 4, missing: 5, heardAt: 1_000 };
    const metrics = showing({ outbox: { sources: [source] } });
    assert.deepEqual(await lines(metrics, 'source_holes_total'), ['source_holes_total{source="old"} 0']);
  });

  it('counts outcomes with their reasons and puts latencies into buckets', async () => {
    const metrics = createMetrics();
    metrics.request(TOPIC, 10, 30);
    metrics.outcome(TOPIC, 'delivered', '', 9);
    metrics.outcome(TOPIC, 'retry', 'Throttled', 1);
    metrics.delivered(TOPIC, 40);
    metrics.delivered(TOPIC, -5);
    assert.deepEqual(await lines(metrics, 'notifications_total'), [
      `notifications_total{topic="${TOPIC}",outcome="delivered",reason=""} 9`,
      `notifications_total{topic="${TOPIC}",outcome="retry",reason="Throttled"} 1`,
    ]);
    assert.deepEqual(await lines(metrics, 'event_to_sns_seconds_sum'), [
      `event_to_sns_seconds_sum{topic="${TOPIC}"} 0.04`,
    ]);
    assert.deepEqual(await lines(metrics, 'event_to_sns_seconds_count'), [
      `event_to_sns_seconds_count{topic="${TOPIC}"} 2`,
    ]);
    assert.deepEqual(await lines(metrics, 'publish_batch_size_sum'), [`publish_batch_size_sum{topic="${TOPIC}"} 10`]);
  });

  it('shows the outbox, the topics and the sources as they are when it is read', async () => {
    const source = { source: 's', epoch: 'new', last: 9, holes: 0, missing: 0, heardAt: 2_000 };
    const shown: Shown = {
      outbox: {
        topics: [{ arn: TOPIC, depth: 7 }],
        sources: [source, { ...source, epoch: 'old', heardAt: 1_000 }],
        deadLetters: 2,
        bytes: 500,
        oldestAt: Date.now() + 60_000,
        fault: 'the disk is full',
      },
      topics: [
        {
          arn: TOPIC,
          inFlight: 1,
          pause: { reason: 'NotFound', detail: '', advice: '', since: 0, began: 0, until: 0 },
        },
      ],
      notReady: ['paused'],
    };
    const metrics = showing(shown);
    for (const [name, expected] of [
      ['ready', '0'],
      ['outbox_bytes', '500'],
      ['outbox_max_bytes', '1000'],
      ['outbox_oldest_age_seconds', '0'],
      ['outbox_writable', '0'],
      ['dead_letters_kept', '2'],
    ] as const)
      assert.deepEqual(await lines(metrics, name), [`${name} ${expected}`]);
    assert.deepEqual(await lines(metrics, 'outbox_notifications'), [`outbox_notifications{topic="${TOPIC}"} 7`]);
    assert.deepEqual(await lines(metrics, 'topic_paused'), [`topic_paused{topic="${TOPIC}",reason="NotFound"} 1`]);
    assert.deepEqual(await lines(metrics, 'publish_requests_in_flight'), [
      `publish_requests_in_flight{topic="${TOPIC}"} 1`,
    ]);
    assert.deepEqual(await lines(metrics, 'source_last_heard_timestamp_seconds'), [
      'source_last_heard_timestamp_seconds{source="s"} 2',
    ]);

    // The pause is over, and its reason is gone with it.
    shown.topics = [{ arn: TOPIC, inFlight: 0, pause: undefined }];
    shown.notReady = [];
    assert.deepEqual(await lines(metrics, 'topic_paused'), [`topic_paused{topic="${TOPIC}",reason=""} 0`]);
    assert.deepEqual(await lines(metrics, 'ready'), ['ready 1']);
  });

  it('asks the outbox once a reading', async () => {
    const metrics = createMetrics();
    let asked = 0;
    const outbox = () => {
      asked += 1;
      return emptyOutbox;
    };
    metrics.observe({ outbox, topics: () => [], notReady: () => [] });
    asked = 0;
    await metrics.registry.metrics();
    assert.equal(asked, 1);
  });

  it('says which release runs on which Node.js', async () => {
    assert.deepEqual(await lines(createMetrics(), 'build_info'), [
      `build_info{version="${version}",node="${process.versions.node}"} 1`,
    ]);
  });
});
