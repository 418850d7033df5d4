import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deliver } from '../../test/support/reports.ts';
import { SILENT } from '../log.ts';
import type { Health } from '../outbox/outbox.ts';
import type { SourceState } from '../outbox/sources.ts';
import type { TopicState } from '../pipeline/publisher.ts';
import { createConditions } from './conditions.ts';
import { createFlow, type Flow } from './flow.ts';
import { createReplayCounter } from './replays.ts';
import { type Seen, stateOf } from './state.ts';

const ARN = 'arn:aws:sns:eu-west-1:123456789012';
const pause = { reason: 'NotFound', detail: 'gone', advice: 'make it', since: 1, began: 2, until: 3 };

const outbox = (fields: Partial<Health>): Health => ({
  topics: [],
  sources: [],
  holes: [],
  deadLetters: 0,
  bytes: 1,
  maxBytes: 2,
  oldestAt: undefined,
  fault: undefined,
  ...fields,
});
const of = (fields: Partial<Health>, topics: TopicState[] = []) =>
  stateFrom({ outbox: outbox(fields), topics, taps: [], notReady: [] }, createFlow(0));
const stateFrom = (pusher: Seen['pusher'], flow: Flow) =>
  stateOf({
    pusher,
    flow,
    conditions: createConditions(flow, SILENT),
    replays: createReplayCounter(),
    hosts: HOSTS,
    now: 100,
  });
const pool = { size: 100, inFlight: 2 };

const HOSTS = new Map([[`${ARN}:a`, ['example.org']]]);

describe('state', () => {
  it("combines the publisher's, outbox's and flow's figures of a topic", () => {
    const flow = createFlow(0);
    const message = { eventId: 'e', topic: `${ARN}:a`, orderKey: 'k', at: 0, message: '', attributes: [], bytes: 0 };
    deliver(flow, message, 90);
    flow.sample(0, 1_000);
    const topics = [
      { topic: `${ARN}:a`, pause: undefined, inFlight: 2, pool },
      { topic: `${ARN}:b`, pause, inFlight: 0, pool },
    ];
    const pusher = { outbox: outbox({ topics: [{ topic: `${ARN}:b`, depth: 5 }] }), topics, taps: [], notReady: [] };
    assert.deepEqual(stateFrom(pusher, flow).topics, [
      {
        arn: `${ARN}:a`,
        hosts: ['example.org'],
        ...{ state: 'open', since: 100, reason: '', advice: '' },
        ...{ pause: undefined, depth: 0, inFlight: 2, rate: 1, lastAt: 90 },
      },
      {
        arn: `${ARN}:b`,
        hosts: [],
        ...{ state: 'paused', since: 1, reason: 'NotFound: gone', advice: 'make it' },
        ...{ pause, depth: 5, inFlight: 0, rate: 0, lastAt: undefined },
      },
    ]);
  });

  it('shows a topic without a route while it has a backlog', () => {
    const topics = [
      { topic: `${ARN}:gone`, depth: 3 },
      { topic: `${ARN}:done`, depth: 0 },
    ];
    assert.deepEqual(
      of({ topics }).topics.map(({ arn, state, depth }) => [arn, state, depth]),
      [[`${ARN}:gone`, 'orphaned', 3]],
    );
  });

  it('combines the queues of one source', () => {
    const queue = (source: string, epoch: string, heardAt: number, holes = 0): SourceState => ({
      source,
      epoch,
      last: heardAt * 10,
      holes,
      missing: holes * 2,
      heardAt,
    });
    const sources = [queue('b', 'old', 5, 1), queue('a', 'only', 7), queue('b', 'new', 9, 2)];
    const touch = { contactAt: undefined, rate: 0, refused: undefined, silent: false, clockMs: 0, notes: [] };
    const none = { newHoles: 0, newestHole: undefined, ...touch };
    assert.deepEqual(of({ sources }).sources, [
      { source: 'a', epoch: 'only', last: 70, holes: 0, missing: 0, heardAt: 7, earlier: 0, ...none },
      { source: 'b', epoch: 'new', last: 90, holes: 3, missing: 6, heardAt: 9, earlier: 1, ...none },
    ]);
  });

  it('shows at most a hundred sources, those with new holes first, and sums up the others', () => {
    const sources = Array.from({ length: 30_000 }, (_, n) => ({
      source: `s${n}`,
      epoch: 'e',
      last: 1,
      holes: 1,
      missing: 2,
      heardAt: n,
    }));
    const hole = { id: 7, source: 's0', epoch: 'e', first: 3, last: 4, missing: 2, at: 5 };
    const state = of({ sources, holes: [hole] });
    assert.equal(state.sources.length, 100);
    assert.deepEqual(state.otherSources, { count: 29_900, holes: 29_900, missing: 59_800 });
    const found = state.sources.find(({ source }) => source === 's0');
    assert.deepEqual([found?.newHoles, found?.newestHole], [1, hole]);
    assert.ok(state.sources.some(({ source }) => source === 's29999'));
    assert.ok(JSON.stringify(state).length < 50_000);
  });
});
