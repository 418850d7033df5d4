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

  it('log where a topic begins to be throttled and where that ends, once each', () => {
    for (let at = 0; at <= 60_000; at += 2_000) conditions.sample(seen(5, throttled(Math.min(at, 10_000))), at);
    assert.deepEqual(messages(), ['topic throttled', 'topic no longer throttled']);
    assert.deepEqual([logged[0]?.level, logged[1]?.lastedMs], [40, 40_000]);
  });

  it('know since when, and what the sink takes', () => {
    for (let at = 0; at <= 10_000; at += 2_000) conditions.sample(seen(5, throttled(at)), at);
    const [found] = conditions.of(seen(5, throttled(10_000)), 11_000);
    assert.deepEqual([found?.name, found?.since], ['throttled', 0]);
    assert.match(String(found?.reason), /it takes 2\/s/);
  });

  it('know a pause at once, and leave its lines to who pauses', () => {
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

  it('log where a pool that stays full makes a topic slow, and where it falls behind', () => {
    for (let at = 0; at <= 12_000; at += 2_000)
      conditions.sample(seen(50, topic({ pool: { size: 10, inFlight: 10 } })), at);
    for (let at = 14_000; at <= 100_000; at += 2_000) conditions.sample(seen(at / 100, topic()), at);
    assert.deepEqual(messages(), ['topic slow', 'topic no longer slow', 'topic behind']);
  });

  it('log where a topic has an owner again, or nothing waits for it any more', () => {
    conditions.sample(seen(5), 0);
    conditions.sample(seen(5, topic()), 2_000);
    conditions.sample(seen(5), 4_000);
    conditions.sample(seen(0), 6_000);
    assert.deepEqual(messages(), ['topic no longer orphaned', 'nothing waits any more for a topic that nobody owned']);
  });

  it('say where all that waits is going', () => {
    for (let at = 0; at <= 20_000; at += 2_000) conditions.sample(seen(at / 100, topic()), at);
    assert.equal(conditions.trend(1_000_000).text, 'growing 10/s, full in 16 min');
  });

  it('are a metric, of which one state is 1', async () => {
    const registry = new Registry();
    addConditionMetric(registry, () => conditions.of(seen(5, throttled(1)), 1));
    const text = await registry.metrics();
    assert.match(text, /topic_state\{topic="[^"]+:a",state="throttled"\} 1/);
    assert.equal(text.match(/topic_state\{.*\} 0/g)?.length, 5);
  });
});
