import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FoundLetter, FoundWaiting } from '../outbox/sqlite/find.ts';
import { findAll } from './find.ts';
import type { Asked, InRecord, TraceState } from './messages.ts';
import type { Outcome, TraceRecord } from './record.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:pm';
const ASKED: Asked = { text: 'alice@localhost', from: 0, until: 1_000_000, limit: 10 };
const STATE: TraceState = {
  on: true,
  keepMs: 1,
  maxBytes: 1,
  since: undefined,
  bytes: 0,
  problem: undefined,
  lost: 0,
  elsewhere: false,
};
const event = (eventId: string, at: number) => ({ eventId, eventAt: 1, names: ['alice@localhost/phone'], at });
const waiting = (eventId: string, at: number): FoundWaiting => ({
  kind: 'waiting',
  ...event(eventId, at),
  topic: TOPIC,
  before: 7,
});
const letter = (eventId: string, at: number, reason: string): FoundLetter => ({
  kind: 'letter',
  ...event(eventId, at),
  id: 17,
  topic: TOPIC,
  reason,
  replayRequested: false,
});
const record = (eventId: string, at: number, outcome: Outcome): TraceRecord => ({ ...event(eventId, at), outcome });
const delivered: Outcome = { kind: 'delivered', topic: TOPIC, messageId: 'm', requestId: 'r' };
const inRecord = (...records: TraceRecord[]): InRecord => ({ records, unreadable: 0, since: 1, bytes: 0 });

const whats = (waits: FoundWaiting[], letters: FoundLetter[], ...records: TraceRecord[]) =>
  findAll(ASKED, { waiting: waits, letters, looked: waits.length }, inRecord(...records), STATE).findings.map(
    ({ what, eventId, at }) => `${eventId} ${what} ${at}`,
  );

describe('what became of an event', () => {
  it('combines waiting, dead and recorded events, newest first', () => {
    assert.deepEqual(
      whats(
        [waiting('e3', 300)],
        [letter('e2', 200, 'plugin')],
        record('e1', 100, delivered),
        record('e4', 400, { kind: 'skipped', reason: 'filtered' }),
      ),
      ['e4 skipped 400', 'e3 waiting 300', 'e2 dead 200', 'e1 delivered 100'],
    );
  });

  it('reports an event as delivered, not waiting, if it was published during the search', () => {
    assert.deepEqual(whats([waiting('e1', 100)], [], record('e1', 150, delivered)), ['e1 delivered 150']);
  });

  it('reports a replayed event as delivered and waiting again', () => {
    const replayed = whats([waiting('e1', 900)], [], record('e1', 150, delivered));
    assert.deepEqual(replayed, ['e1 waiting 900', 'e1 delivered 150']);
  });

  it('lists a dead letter once while it is kept, and says if it was deleted', () => {
    const died: Outcome = { kind: 'dead', topic: TOPIC, reason: 'plugin' };
    assert.deepEqual(whats([], [letter('e1', 100, 'plugin')], record('e1', 101, died)), ['e1 dead 100']);
    assert.deepEqual(whats([], [], record('e1', 101, died)), ['e1 dead 101']);
    // Its replay failed a while later.
    const twice = whats([], [letter('e1', 90_000, 'plugin')], record('e1', 101, died), record('e1', 90_001, died));
    assert.deepEqual(twice, ['e1 dead 90000', 'e1 dead 101']);
  });

  it('says that there may be more if the limit was reached', () => {
    const many = Array.from({ length: 12 }, (_, n) => record(`e${n}`, n, delivered));
    const found = findAll(ASKED, { waiting: [], letters: [], looked: 0 }, inRecord(...many), STATE);
    assert.deepEqual([found.findings.length, found.more], [10, true]);
  });
});
