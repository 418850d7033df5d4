import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { State } from '../ops/state.ts';
import { drawStatus, sparkline } from './status-text.ts';

const topic = (name: string, fields: Partial<State['topics'][number]> = {}): State['topics'][number] => ({
  arn: `arn:aws:sns:eu-west-1:123456789012:${name}`,
  hosts: [],
  ...{ state: 'open', since: 0, reason: '', advice: '', pause: undefined },
  ...{ depth: 0, inFlight: 0, rate: 12.4, lastAt: 99_000 },
  ...fields,
});
const STATE: State = {
  at: 100_000,
  notReady: [],
  topics: [
    topic('fine'),
    topic('busy', {
      state: 'throttled',
      since: 40_000,
      depth: 2_252,
      reason: 'it takes 2/s',
      advice: 'raise the quota',
    }),
  ],
  taps: [
    { name: 'http', at: 'http://127.0.0.1:5290/v1/events' },
    { name: 'rabbitmq', at: 'amqp://mq1/xmpp queue events', waiting: 1_200, note: 'reads; 5 sessions online' },
  ],
  sources: [],
  otherSources: { count: 0, holes: 0, missing: 0 },
  outbox: { bytes: 5, maxBytes: 100, oldestAt: 10_000, fault: undefined, deadLetters: 3 },
  trend: { perSecond: 58, emptyInMs: undefined, fullInMs: 1, text: 'growing 58/s, full in 3 h' },
  trace: undefined,
  replay: { since: 1, asked: 7_000, taken: 10, deadAgain: 6_980, waiting: 10 },
  notPublished: [
    { reason: 'filtered', rate: 30 },
    { reason: 'duplicate', rate: 0.52 },
  ],
};
const samples = [0, 10, 20].map((n) => ({ at: n, in: n, out: n / 2, backlog: n, p50: 27, p99: 40 }));

describe('status', () => {
  it('status shows the figures, problems first, and advice', () => {
    const text = drawStatus(STATE, samples);
    assert.match(text, /^Ready, 1 of 2 topics not open/);
    assert.match(text, /\nhttp +— +http:\/\/127.0.0.1:5290\/v1\/events\n/);
    assert.match(text, /\nrabbitmq +1,200 +amqp:\/\/mq1\/xmpp queue events {2}reads; 5 sessions online\n/);
    assert.match(text, /^In +10\/s +▁▅█ +not published: 30\/s filtered, 0\.52\/s duplicate$/m);
    assert.match(text, /^Waiting +2,252 +▁▅█ +growing 58\/s, full in 3 h +the oldest for 90 s$/m);
    assert.match(text, /^Event to SNS +— +███ +none taken for 99 s$/m);
    assert.match(text, /^Replay +7,000 +10 taken, 6,980 dead again, 10 waiting$/m);
    assert.match(text, /^busy +throttled for 60 s +2,252[\s\S]*\nfine +open +0 +12\.4 +0 +just now\n/m);
    assert.match(text, / {2}busy: it takes 2\/s\n {4}what to do: raise the quota\n/);
  });

  it('status shows that the daemon is not ready, and escapes control characters in names', () => {
    const notReady = [{ what: 'topic \u001b[2J\u202ex', reason: 'paused: NotFound', advice: 'make it\nor correct it' }];
    const text = drawStatus({ ...STATE, notReady }, []);
    assert.match(text, /^NOT READY: 1 problem /);
    assert.match(text, / {2}topic ·\[2J·x: paused: NotFound\n {4}what to do: make it\n {6}or correct it\n/);
  });

  it('status lists the daemons that share the outbox, and partitions without a daemon', () => {
    const partition = { topic: 'arn:aws:sns:eu-west-1:123456789012:fine', queue: 'xep.1.2.0', daemon: 'a1', depth: 7 };
    const shared = {
      daemons: [
        { id: 'a1', self: true, url: undefined, deadLetters: 3 },
        { id: 'b2', self: false, url: 'http://mq2:5291', deadLetters: 5 },
      ],
      partitions: [partition, { ...partition, queue: 'xep.1.2.1', daemon: undefined, depth: 9 }],
    };
    const text = drawStatus({ ...STATE, shared }, samples);
    assert.match(text, /^a1 \(this one\) +1 +7 +3 +—$/m);
    assert.match(text, /^b2 +0 +0 +5 +http:\/\/mq2:5291$/m);
    assert.match(text, /^ {2}xep\.1\.2\.1 of fine: no daemon works on it, 9 waiting$/m);
  });

  it('status draws an hour as forty bars, each the maximum of its part', () => {
    const line = sparkline(Array.from({ length: 1_800 }, (_, n) => (n === 900 ? 7 : 0)));
    assert.deepEqual([line.length, line.indexOf('█')], [40, 20]);
    assert.deepEqual([sparkline([]), sparkline([0, 0])], ['', '▁▁']);
  });
});
