import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { Registry } from 'prom-client';
import { type Consumer, consume } from '../../test/support/consumer.ts';
import { lastOf } from '../../test/support/outbox.ts';
import { PusherError } from '../errors.ts';
import { parseEvent } from '../event.ts';
import { compileAdditions } from '../notification/additions.ts';
import type { Route } from '../notification/notification.ts';
import type { SnsPlugin } from '../notification/plugin.ts';
import { createMetrics } from '../ops/metrics.ts';
import type { DeadLetter } from '../outbox/dead-letters.ts';
import type { Outbox, Stored } from '../outbox/outbox.ts';
import { listDeadLetters, requestReplay } from '../outbox/sqlite/dead-letters.ts';
import { openDatabase } from '../outbox/sqlite/schema.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';
import type { Batch } from '../taps/tap.ts';
import { createIntake, type Intake } from './intake.ts';
import { type ContactReport, reportTo } from './report.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:pm';

const message = (body: unknown, fields: Record<string, unknown> = {}) => ({
  kind: 'message',
  at: 1_763_820_191_340,
  host: 'localhost',
  type: 'chat',
  from: 'alice@localhost/phone',
  to: 'bob@localhost',
  body,
  ...fields,
});

/** Events `from` to `to` of a queue, whose bodies are their numbers. */
const batch = (
  from: number,
  to: number,
  { events, ...fields }: Partial<Omit<Batch, 'events'>> & { events?: readonly unknown[] } = {},
): Batch => ({
  tap: 'http',
  source: 's',
  numbering: { epoch: 'x', first: from },
  events: (events ?? Array.from({ length: to - from + 1 }, (_, index) => message(String(from + index)))).map(
    parseEvent,
  ),
  ...fields,
});

describe('intake', () => {
  let folder: string;
  let files = 0;
  let file: string;
  let outbox: Outbox;
  let consumer: Consumer;
  let registry: Registry;
  let logged: Record<string, unknown>[];
  let contacts: ContactReport[];
  let plugin: SnsPlugin;
  let topics: Route['topics'];
  let host: string;
  let intake: Intake;

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'intake-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  beforeEach(() => open());
  afterEach(() => outbox.close());

  function open(maxBytes = 1e9): void {
    file = path.join(folder, `${++files}.db`);
    outbox = sqliteOutbox({ file, maxBytes });
    consumer = consume(outbox, TOPIC);
    registry = new Registry();
    logged = [];
    contacts = [];
    plugin = {};
    topics = { pm: TOPIC };
    host = 'localhost';
    const log = pino({ level: 'debug' }, { write: (line: string) => logged.push(JSON.parse(line)) });
    intake = createIntake({
      outbox,
      log,
      report: reportTo(createMetrics(registry).report, { contact: (report) => contacts.push(report) }),
      routeOf: (name): Route | undefined =>
        name === host
          ? {
              topics,
              plugin,
              presence: 'user',
              additions: compileAdditions({ attributes: [] }),
              maxBytes: () => 262_144,
            }
          : undefined,
    });
  }

  const taken = async (): Promise<Stored[]> => consumer.rest();
  const bodies = async (): Promise<string[]> => (await taken()).map(({ message }) => JSON.parse(message).message);
  const counted = async (name: string): Promise<string[]> =>
    (await registry.getSingleMetricAsString(`xmpp_event_pusher_${name}`))
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.replace(/^\w+/, ''));
  const warnings = () => logged.filter(({ level }) => Number(level) >= 40);

  function deadLetters(): DeadLetter[] {
    const database = openDatabase(file, { create: false });
    const letters = listDeadLetters(database, {}, 100);
    database.close();
    return letters;
  }

  const numbers = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => String(from + index));

  it('refuses a batch at once while the disk fails, even if another batch of its source waits', async (t) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    t.mock.method(outbox, 'source', async () => ({
      last: undefined,
      newestAt: undefined,
      commit: () => promise,
      release() {},
    }));
    const first = intake.receive(batch(1, 2));
    const fault = new PusherError('OUTBOX_UNUSABLE', 'the disk failed');
    t.mock.getter(outbox, 'fault', () => fault);
    await assert.rejects(intake.receive(batch(1, 2)), fault);
    resolve();
    assert.deepEqual(await first, { accepted: 2, duplicates: 0, rejected: [] });
  });

  describe('of numbered events', () => {
    it('keeps each event under its number', async () => {
      assert.deepEqual(await intake.receive(batch(1, 3)), { accepted: 3, duplicates: 0, rejected: [] });
      const rows = await taken();
      assert.deepEqual(
        rows.map(({ eventId, orderKey, at }) => [eventId, orderKey, at]),
        [1, 2, 3].map((n) => [`s/x/${n}`, 'alice@localhost', 1_763_820_191_340]),
      );
      assert.equal(await lastOf(outbox, 's', 'x'), 3);
      assert.deepEqual(await counted('events_received_total'), ['{tap="http",source="s",kind="pm"} 3']);
      assert.deepEqual(warnings(), []);
    });

    it('keeps no event twice: from the same batch, a part of it, or an overlapping one', async () => {
      await intake.receive(batch(1, 5));
      assert.deepEqual(await intake.receive(batch(1, 5)), { accepted: 0, duplicates: 5, rejected: [] });
      assert.deepEqual(await intake.receive(batch(2, 3)), { accepted: 0, duplicates: 2, rejected: [] });
      assert.deepEqual(await intake.receive(batch(4, 8)), { accepted: 3, duplicates: 2, rejected: [] });
      assert.deepEqual(await intake.receive(batch(6, 9)), { accepted: 1, duplicates: 3, rejected: [] });
      assert.deepEqual(await bodies(), numbers(1, 9));
      assert.equal(await lastOf(outbox, 's', 'x'), 9);
      assert.deepEqual(await counted('events_duplicate_total'), ['{tap="http",source="s"} 12']);
      assert.deepEqual(await counted('events_received_total'), ['{tap="http",source="s",kind="pm"} 9']);
      assert.deepEqual(warnings(), []);
    });

    it('counts and logs numbers reused for other events, but not repeated events', async () => {
      const at = (ms: number) => ({ events: [message('a', { at: ms }), message('b', { at: ms + 1 })] });
      await intake.receive(batch(1, 2, at(1_000)));
      await intake.receive(batch(1, 2, at(1_000)));
      assert.deepEqual(warnings(), []);
      assert.deepEqual(await intake.receive(batch(1, 2, at(9_000))), { accepted: 0, duplicates: 2, rejected: [] });
      const [line] = warnings();
      assert.deepEqual([line?.level, line?.source, line?.from, line?.to, line?.conflicts], [50, 's', 1, 2, 2]);
      assert.deepEqual(await counted('source_conflicts_total'), ['{source="s"} 2']);
      // The same if only the beginning of a batch reuses numbers.
      await intake.receive(batch(2, 3, at(20_000)));
      assert.deepEqual(await counted('source_conflicts_total'), ['{source="s"} 3']);
    });

    it('remembers the numbers of events after a restart', async () => {
      await intake.receive(batch(1, 5));
      await outbox.close();
      outbox = sqliteOutbox({ file });
      const again = createIntake({
        outbox,
        report: reportTo(),
        log: pino({ level: 'silent' }),
        routeOf: () => undefined,
      });
      assert.deepEqual(await again.receive(batch(3, 6)), { accepted: 1, duplicates: 3, rejected: [] });
    });

    it('tracks numbers by source and epoch', async () => {
      await intake.receive(batch(1, 5));
      assert.equal((await intake.receive(batch(1, 2, { source: 't' }))).accepted, 2);
      assert.equal((await intake.receive(batch(1, 2, { numbering: { epoch: 'y', first: 1 } }))).accepted, 2);
    });

    it('handles the batches of a source one after another', async () => {
      // The first batch's plugin is the slowest.
      plugin = {
        filter: async (event) => {
          await sleep(event.id === 's/x/1' ? 100 : 1);
          return true;
        },
      };
      const receipts = await Promise.all([
        intake.receive(batch(1, 3)),
        intake.receive(batch(1, 3)),
        intake.receive(batch(2, 5)),
        intake.receive(batch(1, 2, { source: 't' })),
      ]);
      assert.deepEqual(
        receipts.map(({ accepted, duplicates }) => [accepted, duplicates]),
        [
          [3, 0],
          [0, 3],
          [2, 2],
          [2, 0],
        ],
      );
      const rows = await taken();
      const of = (source: string) => rows.map(({ eventId }) => eventId).filter((id) => id.startsWith(`${source}/`));
      assert.deepEqual(of('s'), ['s/x/1', 's/x/2', 's/x/3', 's/x/4', 's/x/5']);
      assert.deepEqual(of('t'), ['t/x/1', 't/x/2']);
      assert.ok(
        rows.findIndex(({ eventId }) => eventId === 't/x/1') < rows.findIndex(({ eventId }) => eventId === 's/x/1'),
        'another source does not wait',
      );
    });

    it('continues with a source after one of its batches failed', async (t) => {
      const real = await outbox.source('s', 'x');
      real.release();
      t.mock.method(outbox, 'source').mock.mockImplementationOnce(async () => ({
        last: real.last,
        newestAt: real.newestAt,
        commit: () => Promise.reject(new Error('once')),
        release: () => undefined,
      }));
      const failing = intake.receive(batch(1, 1));
      const next = intake.receive(batch(1, 2));
      await assert.rejects(failing, { message: 'once' });
      assert.deepEqual(await next, { accepted: 2, duplicates: 0, rejected: [] });
      assert.deepEqual(await bodies(), ['1', '2']);
      assert.deepEqual(await counted('events_received_total'), ['{tap="http",source="s",kind="pm"} 2']);
    });

    it('counts and logs a hole in the numbers as a loss', async () => {
      await intake.receive(batch(1, 2));
      assert.deepEqual(await intake.receive(batch(10, 11)), { accepted: 2, duplicates: 0, rejected: [] });
      await intake.receive(batch(13, 13));
      assert.deepEqual(await bodies(), ['1', '2', '10', '11', '13']);
      assert.deepEqual(await counted('source_holes_total'), ['{source="s"} 2']);
      assert.deepEqual(await counted('source_events_missing_total'), ['{source="s"} 8']);
      const [source] = outbox.health().sources;
      assert.deepEqual([source?.last, source?.holes, source?.missing], [13, 2, 8]);
      assert.deepEqual(
        warnings().map(({ source, epoch, from, to, missing }) => ({ source, epoch, from, to, missing })),
        [
          { source: 's', epoch: 'x', from: 3, to: 9, missing: 7 },
          { source: 's', epoch: 'x', from: 12, to: 12, missing: 1 },
        ],
      );
      // A late batch is a duplicate by its numbers.
      assert.deepEqual(await intake.receive(batch(3, 9)), { accepted: 0, duplicates: 7, rejected: [] });
    });

    it("an epoch's first number is never a hole", async () => {
      assert.deepEqual(await intake.receive(batch(100, 101)), { accepted: 2, duplicates: 0, rejected: [] });
      assert.deepEqual(await intake.receive(batch(100, 102)), { accepted: 1, duplicates: 2, rejected: [] });
      assert.equal(await lastOf(outbox, 's', 'x'), 102);
      assert.deepEqual(await counted('source_events_missing_total'), ['{source="s"} 0']);
      assert.deepEqual(warnings(), []);
    });

    it('a batch without events is never a hole', async () => {
      assert.deepEqual(await intake.receive(batch(50, 49)), { accepted: 0, duplicates: 0, rejected: [] });
      assert.equal(await lastOf(outbox, 's', 'x'), undefined);
      assert.deepEqual(warnings(), []);
    });
  });

  it('gives each event without a number an id, and does not recognise repetitions', async () => {
    const unnumbered = batch(1, 2, { numbering: undefined });
    assert.deepEqual(await intake.receive(unnumbered), { accepted: 2, duplicates: 0, rejected: [] });
    assert.deepEqual(await intake.receive(unnumbered), { accepted: 2, duplicates: 0, rejected: [] });
    const ids = (await taken()).map(({ eventId }) => eventId);
    assert.equal(new Set(ids).size, 4);
    for (const id of ids) assert.match(id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assert.deepEqual(outbox.health().sources, []);
  });

  it('makes a dead letter only of a malformed event, unchanged', async () => {
    const odd = { ...message('x'), from: 'hidden hidden', extra: ['\u0000', '\ud800'] };
    const events = [message('1'), odd, message('2'), null, message('a\u0000')];
    const rejected = [
      { index: 1, reason: 'from: should be a JID' },
      { index: 3, reason: 'should be an object' },
      { index: 4, reason: 'body: holds U+0000, which XML does not allow' },
    ];
    assert.deepEqual(await intake.receive(batch(1, 5, { events })), { accepted: 2, duplicates: 0, rejected });
    assert.deepEqual(await bodies(), ['1', '2']);
    assert.equal(await lastOf(outbox, 's', 'x'), 5);
    assert.deepEqual(
      deadLetters().map(({ id: _, diedAt: __, ...letter }) => letter),
      rejected.map(({ index, reason }) => ({
        eventId: `s/x/${index + 1}`,
        topic: undefined,
        reason: 'malformed',
        detail: reason,
        attempts: 0,
        content: { kind: 'raw', event: events[index] },
        replayRequested: false,
      })),
    );
    assert.deepEqual(await counted('events_rejected_total'), ['{tap="http",source="s"} 3']);
    assert.doesNotMatch(JSON.stringify(logged), /hidden/);
    // Redelivered events are neither refused again nor kept again.
    assert.deepEqual(await intake.receive(batch(1, 5, { events })), { accepted: 0, duplicates: 5, rejected: [] });
    assert.equal(deadLetters().length, 3);
  });

  it('acknowledges and counts events that are not published', async () => {
    const events = [
      message('1', { host: 'elsewhere.example.org' }),
      message('2', { type: 'groupchat' }),
      { kind: 'presence', at: 1, host: 'localhost', jid: 'a@localhost/x', present: true, sessions: 2 },
    ];
    assert.deepEqual(await intake.receive(batch(1, 3, { events })), { accepted: 3, duplicates: 0, rejected: [] });
    assert.deepEqual(await taken(), []);
    assert.equal(await lastOf(outbox, 's', 'x'), 3);
    assert.deepEqual(await counted('events_skipped_total'), [
      '{kind="pm",reason="host-has-no-sns"} 1',
      '{kind="muc",reason="no-topic"} 1',
      '{kind="presence",reason="no-topic"} 1',
    ]);
  });

  it('makes a dead letter of a message that is too large, with the sizes', async () => {
    await intake.receive(batch(1, 2, { events: [message('x'.repeat(300_000)), message('2')] }));
    assert.deepEqual(await bodies(), ['2']);
    const [letter, ...more] = deadLetters();
    assert.deepEqual(more, []);
    assert.deepEqual([letter?.eventId, letter?.reason, letter?.content.kind], ['s/x/1', 'too-large', 'event']);
    assert.match(
      String(letter?.detail),
      /^message of 300\d+ bytes and attributes of 0 bytes make 300\d+, the topic takes/,
    );
  });

  describe('with a plugin', () => {
    it('keeps the order of events, however fast the plugin answers each', async () => {
      plugin = {
        userGuid: async (jid) => jid.toString(),
        messageAttributes: async (...parameters) => {
          const stanza = parameters[4];
          await sleep(Math.random() * 20);
          return { n: Number(stanza.getChildText('body')) };
        },
      };
      await intake.receive(batch(1, 50));
      assert.deepEqual(
        (await taken()).map(({ attributes }) => attributes[0]?.value),
        numbers(1, 50),
      );
    });

    it('a plugin that fails for one event affects no other, and the log shows no message text', async () => {
      plugin = {
        filter: (event) => {
          if (event.kind === 'message' && event.body === '2') throw new Error(`hidden ${event.body}`);
          return true;
        },
      };
      assert.deepEqual(await intake.receive(batch(1, 3)), { accepted: 3, duplicates: 0, rejected: [] });
      assert.deepEqual(await bodies(), ['1', '3']);
      const [letter] = deadLetters();
      assert.deepEqual([letter?.eventId, letter?.reason, letter?.detail], ['s/x/2', 'plugin', 'filter: hidden 2']);
      assert.deepEqual(letter?.content, { kind: 'event', event: { ...message('2'), id: 's/x/2' } });
      assert.match(JSON.stringify(warnings()), /event became a dead letter/);
      assert.doesNotMatch(JSON.stringify(logged), /hidden/);
    });
  });

  it('reports each contact of a source, whatever the answer', async () => {
    await intake.receive(batch(1, 2));
    await intake.receive({ ...batch(1, 2), events: [] });
    await intake.receive({ ...batch(1, 2), numbering: undefined });
    const fault = new PusherError('OUTBOX_UNUSABLE', 'the disk failed');
    Object.defineProperty(outbox, 'fault', { get: () => fault });
    await assert.rejects(intake.receive(batch(3, 4)), fault);
    assert.deepEqual(
      contacts.map(({ numbered, events, newestAt, refused }) => [numbered, events, newestAt !== undefined, refused]),
      [
        [true, 2, true, undefined],
        [true, 0, false, undefined],
        [false, 2, true, undefined],
        [true, 2, true, 'OUTBOX_UNUSABLE'],
      ],
    );
  });

  it('accepts nothing while the outbox is full: the position stays, and nothing is counted', async () => {
    await outbox.close();
    open(1);
    await assert.rejects(intake.receive(batch(1, 2)), { code: 'OUTBOX_FULL' });
    assert.equal(await lastOf(outbox, 's', 'x'), undefined);
    assert.deepEqual(await taken(), []);
    assert.deepEqual(await counted('events_received_total'), []);
  });

  describe('replays', () => {
    async function replayAll(): Promise<void> {
      const database = openDatabase(file, { create: false });
      await requestReplay(database, {});
      database.close();
      await intake.replay(await outbox.deadLetters.toReplay(100));
    }

    it('replays an event that a plugin failed for, under its own id', async () => {
      let mended = false;
      plugin = {
        filter: () => {
          if (mended) return true;
          throw new Error('no');
        },
      };
      await intake.receive(batch(1, 2));
      assert.equal(deadLetters().length, 2);
      mended = true;
      await replayAll();
      assert.deepEqual(deadLetters(), []);
      assert.deepEqual(
        (await taken()).map(({ eventId }) => eventId),
        ['s/x/1', 's/x/2'],
      );
    });

    it('a replay that fails again makes a new dead letter', async () => {
      await intake.receive(batch(1, 1, { events: [null] }));
      await replayAll();
      const [letter, ...more] = deadLetters();
      assert.deepEqual(more, []);
      assert.deepEqual(
        [letter?.id, letter?.eventId, letter?.reason, letter?.replayRequested],
        [2, 's/x/1', 'malformed', false],
      );
    });

    for (const [what, reason, change] of [
      ['whose topic is not configured any more', 'no-topic', () => (topics = {})],
      ['that a filter says no to', 'filtered', () => (plugin = { filter: () => false })],
      ['of a host without sns', 'host-has-no-sns', () => (host = 'elsewhere')],
    ] as const)
      it(`turns a replay of one ${what} into a new dead letter with the reason`, async () => {
        await intake.receive(batch(1, 1, { events: [message('x'.repeat(300_000))] }));
        const [before] = deadLetters();
        change();
        await replayAll();
        const [letter, ...more] = deadLetters();
        assert.deepEqual(more, []);
        assert.deepEqual(
          [letter?.id, letter?.eventId, letter?.reason, letter?.detail, letter?.replayRequested],
          [2, 's/x/1', 'skipped', reason, false],
        );
        assert.deepEqual(letter?.content, before?.content);
        assert.deepEqual(await taken(), []);
        const line = logged.find(({ deadLetter }) => deadLetter === 1);
        assert.deepEqual([line?.reason, line?.skipped], ['skipped', reason]);
        assert.match(String(line?.msg), /^replay failed/);
      });

    it('replays a refused notification unchanged', async () => {
      await intake.receive(batch(1, 1));
      const [row] = (await taken()) as [Stored];
      await consumer.backlog.settle([
        { notification: row, dead: { reason: 'InvalidParameter', detail: 'no', attempts: 1 } },
      ]);
      await replayAll();
      assert.deepEqual(deadLetters(), []);
      const [again] = (await taken()) as [Stored];
      assert.deepEqual({ ...again, seq: row.seq }, row);
      assert.ok(again.seq >= row.seq);
    });

    it("a dead letter stays marked if the outbox can't accept its replay", async () => {
      await intake.receive(batch(1, 1, { events: [null] }));
      const database = openDatabase(file, { create: false });
      await requestReplay(database, {});
      database.close();
      const requested = await outbox.deadLetters.toReplay(100);
      await outbox.close();
      await assert.rejects(intake.replay(requested), { code: 'OUTBOX_CLOSED' });
      assert.equal(deadLetters()[0]?.replayRequested, true);
    });
  });
});
