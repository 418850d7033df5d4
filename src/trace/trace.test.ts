import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { admission, notification, TOPIC } from '../../test/support/outbox.ts';
import type { PresenceEvent } from '../event.ts';
import type { Notification } from '../notification/notification.ts';
import type { Outbox } from '../outbox/outbox.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';
import type { SinkReceipt, Verdict } from '../pipeline/sink.ts';
import { startTrace, type Trace } from './trace.ts';

const REFUSED: Verdict = {
  kind: 'retry',
  throttled: false,
  reason: 'x',
  detail: '',
  shown: '',
  advice: '',
};

describe('the record', () => {
  let folder: string;
  let file: string;
  let outbox: Outbox;
  let trace: Trace;
  let logged: string[];
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'record-'));
    file = path.join(folder, 'outbox.db.trace');
    outbox = sqliteOutbox({ file: path.join(folder, 'outbox.db') });
    logged = [];
  });
  afterEach(async () => {
    await trace.close();
    await outbox.close();
    await rm(folder, { recursive: true, force: true });
  });

  const start = (keepMs = 3_600_000) => {
    const log = { info: note, warn: note, error: note };
    const outboxFile = path.join(folder, 'outbox.db');
    trace = startTrace({ file, outboxFile, keepMs, maxBytes: 10_000_000, log });
  };
  const note = (_: object, message: string) => void logged.push(message);
  const report = (
    entries: Notification[],
    verdicts: readonly (Verdict | undefined)[] | 'split' = entries.map(() => undefined),
    receipt?: SinkReceipt,
  ) => trace.report.request({ topic: TOPIC, entries, verdicts, receipt, ms: 1, at: Date.now() });
  const find = async (text: string, limit = 10_000) =>
    (await trace.find({ text, limit, from: 0, until: Number.MAX_SAFE_INTEGER })).findings;
  const whats = async (text: string) => (await find(text)).map(({ eventId, what }) => `${eventId} ${what}`);

  it('records the accepted part of a request, with its ids', async () => {
    start();
    const entries = ['e1', 'e2', 'e3'].map((id) => notification(id, { names: ['alice@localhost/phone'] }));
    report(entries, [undefined, REFUSED, undefined], { requestId: 'r1', messageIds: ['m1', undefined, 'm3'] });
    report(entries, 'split');
    const found = await find('alice@localhost');
    assert.deepEqual(
      found.map((each) => each.what === 'delivered' && [each.eventId, each.messageId, each.requestId]).sort(),
      [
        ['e1', 'm1', 'r1'],
        ['e3', 'm3', 'r1'],
      ],
    );
  });

  it('records skipped and dead events, and notifications accepted by a sink without receipts', async () => {
    start();
    const event: PresenceEvent = {
      ...{ kind: 'presence', id: 'e1', at: 1, host: 'localhost', jid: 'alice@localhost/desk', present: true },
    };
    trace.report.skipped(event, 'filtered');
    trace.report.skipped({ ...event, id: 'e2' }, 'filtered');
    const died = { topic: undefined, reason: 'malformed', detail: '', attempts: 0 };
    trace.report.deadLetter({ eventId: 'e3', ...died, content: { kind: 'raw', event: { jid: 'alice@localhost' } } });
    report([notification('e4', { names: ['alice@localhost/phone', 'bücher@localhost', '👩‍👧'] })]);
    assert.deepEqual((await whats('alice@localhost')).sort(), ['e1 skipped', 'e2 skipped', 'e3 dead', 'e4 delivered']);
    assert.deepEqual(await whats('👩‍👧'), ['e4 delivered']);
  });

  it('loses nothing at high speed, or of lines larger than its memory', async () => {
    start();
    for (let n = 0; n < 3_000; n++) {
      const entries = Array.from({ length: 10 }, (_, m) =>
        notification(`e${n * 10 + m}`, { names: [`u${n}@localhost`] }),
      );
      report(entries);
    }
    report([notification('large', { names: ['x'.repeat(700_000), 'alice@localhost'] })]);
    report([notification('after')]);
    assert.equal((await find('u2999@localhost')).length, 10);
    assert.deepEqual(await whats('e12345'), ['e12345 delivered']);
    assert.deepEqual(await whats('large'), ['large delivered']);
    assert.deepEqual(await whats('after'), ['after delivered']);
    assert.equal(trace.state().lost, 0);
  });

  it('answers many searches at once while writing, and refuses more than it can handle', async () => {
    start();
    await outbox.commit(admission(notification('waits')));
    const asked = Array.from({ length: 20 }, () => whats('waits'));
    report([notification('e1')]);
    const answers = await Promise.allSettled(asked);
    const given = answers
      .filter(({ status }) => status === 'fulfilled')
      .map((answer) => 'value' in answer && answer.value);
    assert.ok(given.length >= 1 && given.length < 20, `${given.length}`);
    for (const answer of given) assert.deepEqual(answer, ['waits waiting']);
    assert.deepEqual(await whats('e1'), ['e1 delivered']);
  });

  it("logs once that it can't be written, and counts lost records", async () => {
    await mkdir(file);
    start();
    for (const lost of [1, 2]) {
      report([notification('e1')]);
      assert.deepEqual(await whats('e1'), []);
      assert.equal(trace.state().lost, lost);
    }
    assert.match(String(trace.state().problem), /./);
    assert.equal(logged.filter((line) => /can't write the record/.test(line)).length, 1);
  });

  it('records nothing if switched off, and still finds waiting events', async () => {
    start(0);
    report([notification('e1')]);
    await outbox.commit(admission(notification('waits')));
    assert.deepEqual([await whats('e1'), await whats('waits')], [[], ['waits waiting']]);
  });

  it('records events from just before a stop', async () => {
    start();
    report([notification('e1')]);
    trace.moment({ at: Date.now(), kind: 'reload', text: 'the configuration' });
    await trace.close();
    start();
    assert.deepEqual(await whats('e1'), ['e1 delivered']);
    const { moments } = await trace.history();
    assert.deepEqual(
      moments.map(({ kind }) => kind),
      ['start', 'reload', 'stop', 'start'],
    );
  });
});
