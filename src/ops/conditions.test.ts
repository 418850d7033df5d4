import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import pino from 'pino';
import { Registry } from 'prom-client';
import type { TopicState } from '../pipeline/publisher.ts';
import { addConditionMetric, type Conditions, type ConditionsSeen, createConditions } from './conditions.ts';

const ARN = 'arn:aws:sns:eu-west-1:123456789012:a';
const PAUSE = { reason: 'NotFound', detail: 'gone', advice: 'make it', since: 4_000, began: 5_000, until: 6_000 };

const topic = (fields: Partial<TopicState> = {}): TopicState => ({
  topic: ARN,
  pause: undefined,
  inFlight: 0,
  pool: { size: 10, inFlight: 0 },
  ...fields,
});
const seen = (depth: number, ...topics: TopicState[]): ConditionsSeen => ({
  outbox: { topics: [{ topic: ARN, depth }], bytes: depth * 100, maxBytes: 1_000_000 },
  topics,
});
const throttled = (at: number) =>
  topic({ throttled: { at, reason: 'Throttling', detail: 'too fast', advice: 'wait' } });

describe('conditions', () => {
  let logged: { msg: string; level: number; lastedMs?: number }[];
  let conditions: Conditions;
  beforeEach(() => {
    logged = [];
    const log = pino({}, { write: (line: string) => void logged.push(JSON.parse(line)) });
    conditions = createConditions({ topic: () => ({ rate: 3, steady: 2, lastAt: 1 }) }, log);
  });
  const messages = () => logged.map(({ msg }) => msg);

  it('logs once each when throttling of a topic begins and ends', () => {
    for (let at = 0; at <= 60_000; at += 2_000) conditions.sample(seen(5, throttled(Math.min(at, 10_000))), at);
    assert.deepEqual(messages(), ['topic throttled', 'topic no longer throttled']);
    assert.deepEqual([logged[0]?.level, logged[1]?.lastedMs], [40, 40_000]);
  });

  it('a condition has its start and the rate that the sink accepts', () => {
    for (let at = 0; at <= 10_000; at += 2_000) conditions.sample(seen(5, throttled(at)), at);
    const [found] = conditions.of(seen(5, throttled(10_000)), 11_000);
    assert.deepEqual([found?.name, found?.since], ['throttled', 0]);
    assert.match(String(found?.reason), /it takes 2\/s/);
  });

  it('a pause counts at once, and its log line comes from the publisher', () => {
    conditions.sample(seen(5, topic()), 2_000);
    const paused = seen(5, topic({ pause: PAUSE }));
    assert.deepEqual(
      conditions.of(paused, 5_000).map(({ name, since }) => [name, since]),
      [['paused', 4_000]],
    );
    conditions.sample(paused, 6_000);
    conditions.sample(seen(0, topic()), 8_000);
    assert.deepEqual(
      conditions.of(seen(0, topic()), 9_000).map(({ name, since }) => [name, since]),
      [['open', 8_000]],
    );
    assert.deepEqual(messages(), []);
  });

  it('logs when a full pool makes a topic slow, and when the topic falls behind', () => {
    for (let at = 0; at <= 12_000; at += 2_000)
      conditions.sample(seen(50, topic({ pool: { size: 10, inFlight: 10 } })), at);
    for (let at = 14_000; at <= 100_000; at += 2_000) conditions.sample(seen(at / 100, topic()), at);
    assert.deepEqual(messages(), ['topic slow', 'topic no longer slow', 'topic behind']);
  });

  it('logs when a topic has an owner again, or an empty backlog', () => {
    conditions.sample(seen(5), 0);
    conditions.sample(seen(5, topic()), 2_000);
    conditions.sample(seen(5), 4_000);
    conditions.sample(seen(0), 6_000);
    assert.deepEqual(messages(), [
      'topic no longer orphaned',
      'nothing waits any more for a topic that was not configured',
    ]);
  });

  it('reports the destination of the whole backlog', () => {
    for (let at = 0; at <= 20_000; at += 2_000) conditions.sample(seen(at / 100, topic()), at);
    assert.equal(conditions.trend(1_000_000).text, 'growing 10/s, full in 16 min');
  });

  it('exactly one state of the condition metric is 1', async () => {
    const registry = new Registry();
    addConditionMetric(registry, () => conditions.of(seen(5, throttled(1)), 1));
    const text = await registry.metrics();
    assert.match(text, /topic_state\{topic="[^"]+:a",state="throttled"\} 1/);
    assert.equal(text.match(/topic_state\{.*\} 0/g)?.length, 5);
  });
});
