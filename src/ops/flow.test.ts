import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deliver } from '../../test/support/reports.ts';
import type { XmppEvent } from '../event.ts';
import type { Notification } from '../notification/notification.ts';
import type { BatchReport } from '../pipeline/report.ts';
import { createFlow, SAMPLE_MS } from './flow.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:a';

const notification = (at: number, topic = TOPIC): Notification => ({
  eventId: 's/e/1',
  topic,
  orderKey: 'alice@localhost',
  at,
  message: '{}',
  attributes: [],
  bytes: 2,
});

const received = (count: number): BatchReport => ({
  tap: 'http',
  source: 's',
  kinds: new Map([['presence', count]]),
  duplicates: 5,
  rejected: 0,
  missing: 0,
  conflicts: 0,
});

describe('flow', () => {
  it('gives rates per second since the previous sample', () => {
    const flow = createFlow(1_000);
    flow.batch(received(30));
    deliver(flow, notification(900), 1_000);
    flow.sample(7, 3_000);
    flow.sample(0, 5_000);
    assert.deepEqual(
      flow.samples().map(({ at, in: received, out, backlog }) => [at, received, out, backlog]),
      [
        [3_000, 15, 0.5, 7],
        [5_000, 0, 0, 0],
      ],
    );
  });

  it('rounds rates to hundredths once, so that they read the same live and later', () => {
    const flow = createFlow(0);
    flow.batch(received(247));
    flow.sample(0, 20_001);
    assert.equal(flow.samples()[0]?.in, 12.35);
  });

  it('gives latencies within 5 %, and none without deliveries', () => {
    const flow = createFlow(0);
    for (let ms = 1; ms <= 1_000; ms++) deliver(flow, notification(0), ms);
    flow.sample(0, 2_000);
    flow.sample(0, 4_000);
    const [first, second] = flow.samples();
    assert.ok(Math.abs(Number(first?.p50) / 500 - 1) < 0.05, String(first?.p50));
    assert.ok(Math.abs(Number(first?.p99) / 990 - 1) < 0.05, String(first?.p99));
    assert.deepEqual([second?.p50, second?.p99], [null, null]);
  });

  it('accepts any latency: negative, and a year', () => {
    const flow = createFlow(0);
    deliver(flow, notification(5_000), 1_000);
    flow.sample(0, 2_000);
    deliver(flow, notification(0), 365 * 86_400_000);
    flow.sample(0, 4_000);
    const [first, second] = flow.samples();
    assert.ok(Number(first?.p50) < 0.2);
    assert.ok(Number(second?.p50) > 4e9, 'at least the 50 days that it can tell');
  });

  it('keeps an hour of samples and the last 50 notifications', () => {
    const flow = createFlow(0);
    for (let n = 1; n <= 2_000; n++) flow.sample(n, n * SAMPLE_MS);
    assert.equal(flow.samples().length, 3_600_000 / SAMPLE_MS);
    assert.equal(flow.samples().at(-1)?.backlog, 2_000);
    for (let n = 1; n <= 60; n++) deliver(flow, notification(n), n);
    assert.deepEqual([flow.recent().length, flow.recent()[0]?.at, flow.recent().at(-1)?.at], [50, 11, 60]);
  });

  it('keeps of requests only the last 50 accepted notifications', () => {
    const flow = createFlow(0);
    const retry = { kind: 'retry', throttled: false, reason: 'r', detail: 'd', shown: 's', advice: 'a' } as const;
    for (let at = 1; at <= 9; at++) {
      const entries = Array.from({ length: 10 }, (_, n) => notification(at * 10 + n));
      const verdicts = entries.map((_, n) => (n % 2 === 0 ? undefined : retry));
      flow.request({ topic: TOPIC, entries, verdicts, ms: 1, at });
      flow.request({ topic: TOPIC, entries, verdicts: 'split', ms: 1, at });
    }
    assert.deepEqual(
      flow.recent().map(({ notification }) => notification.at),
      Array.from({ length: 45 }, (_, n) => 10 + 2 * n),
    );
    flow.request({
      topic: TOPIC,
      entries: Array(60).fill(notification(7)),
      verdicts: Array(60).fill(undefined),
      ms: 1,
      at: 10,
    });
    assert.deepEqual(
      [flow.recent().length, new Set(flow.recent().map(({ notification }) => notification.at)).size],
      [50, 1],
    );
  });

  it("reports each topic's figures", () => {
    const flow = createFlow(0);
    assert.equal(flow.topic(TOPIC), undefined);
    for (let n = 0; n < 4; n++) deliver(flow, notification(0), 100 + n);
    deliver(flow, notification(0, `${TOPIC}b`), 50);
    flow.sample(0, 2_000);
    assert.deepEqual([flow.topic(TOPIC)?.rate, flow.topic(TOPIC)?.lastAt], [2, 103]);
    assert.deepEqual([flow.topic(`${TOPIC}b`)?.rate, flow.topic(`${TOPIC}b`)?.lastAt], [0.5, 50]);
    flow.sample(0, 4_000);
    assert.equal(flow.topic(TOPIC)?.rate, 0);
  });

  it('notifies watchers until they stop', () => {
    const flow = createFlow(0);
    const seen: string[] = [];
    const stops = [
      flow.onSample(({ at }) => seen.push(`sample ${at}`)),
      flow.onDelivered(({ at }) => seen.push(`sent ${at}`)),
    ];
    deliver(flow, notification(0), 1);
    flow.sample(0, 2);
    for (const stop of stops) stop();
    deliver(flow, notification(0), 3);
    flow.sample(0, 4);
    assert.deepEqual(seen, ['sent 1', 'sample 2']);
  });

  it('reports what is not published and why, until that ends', () => {
    const flow = createFlow(0);
    const event = {} as XmppEvent;
    for (let at = 2_000; at <= 60_000; at += 2_000) {
      for (let n = 0; n < 6; n++) flow.skipped(event, 'filtered');
      flow.batch({ tap: 'http', source: 's', kinds: new Map(), duplicates: 2, rejected: 0, missing: 0, conflicts: 0 });
      flow.sample(0, at);
    }
    const rounded = flow.notPublished().map(({ reason, rate }) => [reason, Math.round(rate)]);
    assert.deepEqual(rounded, [
      ['filtered', 3],
      ['duplicate', 1],
    ]);
    for (let at = 62_000; at <= 120_000; at += 2_000) flow.sample(0, at);
    assert.deepEqual(flow.notPublished(), []);
  });
});
