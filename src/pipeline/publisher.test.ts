import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { consume } from '../../test/support/consumer.ts';
import { until } from '../../test/support/process.ts';
import { SILENT } from '../log.ts';
import type { Notification } from '../notification/notification.ts';
import type { Outbox } from '../outbox/outbox.ts';
import { listDeadLetters } from '../outbox/sqlite/dead-letters.ts';
import { openDatabase } from '../outbox/sqlite/schema.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';
import type { BatchOutcome, SnsClient } from '../sns/client.ts';
import type { Circumstances, Failure } from '../sns/failure.ts';
import { snsSink } from '../sns/sink.ts';

import { createPublisher, type Publisher, type PublisherOptions } from './publisher.ts';
import { createRateLimit } from './rate.ts';
import { type RequestReport, reportTo } from './report.ts';
import type { Sink } from './sink.ts';

const A = 'arn:aws:sns:eu-west-1:123456789012:a';
const B = 'arn:aws:sns:eu-west-1:123456789012:b';

const notification = (eventId: string, orderKey = eventId, topic = A, bytes = 10): Notification => ({
  eventId,
  topic,
  orderKey,
  at: 0,
  message: `{"id":"${eventId}"}`,
  attributes: [],
  bytes,
});

const HERE: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
};
const REFUSED: Failure = { kind: 'entry', code: 'InvalidParameter', message: 'no', senderFault: true };
const BUSY: Failure = { kind: 'entry', code: 'InternalError', message: 'busy', senderFault: false };
const DOWN: Failure = { kind: 'network', code: 'ECONNREFUSED', message: 'down' };
const FAILING: Failure = { kind: 'request', status: 500, code: 'InternalError', message: 'oops' };
const DENIED: Failure = { kind: 'request', status: 403, code: 'AuthorizationError', message: 'denied' };
const THROTTLED: Failure = { kind: 'request', status: 400, code: 'Throttling', message: 'slow down' };
const POISON: Failure = { kind: 'request', status: 400, code: 'InvalidParameter', message: 'poison' };

/** The answer of a scripted SNS to a batch; `undefined` for an entry: accepted. */
type Script = (
  ids: string[],
  topic: string,
  request: number,
) => Failure | (Failure | undefined)[] | Promise<Failure | (Failure | undefined)[]>;

/** Accepts every batch after a delay. */
const takenAfter =
  (wait: () => Promise<unknown>): Script =>
  async () => {
    await wait();
    return [];
  };

describe('the publisher', () => {
  let folder: string;
  let outbox: Outbox;
  let publisher: Publisher | undefined;
  /** All requests, and the notifications accepted by SNS, in order. */
  let requests: string[][];
  let accepted: string[];
  let underWay: number;
  let mostUnderWay: number;

  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'publisher-'));
    outbox = sqliteOutbox({ file: path.join(folder, 'outbox.db') });
    requests = [];
    accepted = [];
    underWay = mostUnderWay = 0;
  });
  afterEach(async () => {
    await publisher?.stop(1_000);
    publisher = undefined;
    await outbox.close();
    rmSync(folder, { recursive: true });
    mock.timers.reset();
  });

  function scripted(script: Script, maxBytes = 262_144): Sink {
    const client: Pick<SnsClient, 'publishBatch'> = {
      async publishBatch(topic, entries): Promise<BatchOutcome> {
        const ids = entries.map(({ eventId }) => eventId);
        requests.push(ids);
        mostUnderWay = Math.max(mostUnderWay, ++underWay);
        const answer = await script(ids, topic, requests.length);
        underWay -= 1;
        if (!Array.isArray(answer)) return { failure: answer };
        ids.forEach((id, index) => {
          if (!answer[index]) accepted.push(id);
        });
        return { entries: ids.map((_, index) => answer[index]) };
      },
    };
    return snsSink({ client, maxBytes: () => maxBytes, circumstances: () => HERE });
  }

  function start(script: Script, options: Partial<PublisherOptions> = {}): Publisher {
    publisher = createPublisher({
      sink: scripted(script),
      outbox,
      topics: [A, B],
      poolSize: 100,
      retryCount: 2,
      retryBaseMs: 1,
      exhausted: 'wait',
      rate: createRateLimit(),
      log: SILENT,
      report: reportTo(),
      ...options,
    });
    return publisher;
  }

  it("reports the sink's receipts, and none for an unanswered request", async () => {
    const reports: RequestReport[] = [];
    const receipt = { requestId: 'r1', messageIds: ['m1'] };
    let asked = 0;
    const sink: Sink = {
      limits: () => ({ maxEntries: 10, maxBytes: 262_144 }),
      async publish(_, entries, onReceipt) {
        asked += 1;
        if (asked === 1) throw new Error('away');
        onReceipt?.(receipt);
        return entries.map(() => undefined);
      },
    };
    await commit(notification('e1'));
    start(async () => [], { sink, report: reportTo({ request: (report) => reports.push(report) }) });
    await empty();
    assert.deepEqual(
      reports.map((report) => report.receipt),
      [undefined, receipt],
    );
  });

  const commit = (...notifications: Notification[]) => outbox.commit({ notifications, deadLetters: [] });
  const depth = () => outbox.health().topics.reduce((sum, { depth }) => sum + depth, 0);
  const empty = () => until('the outbox to be empty', () => depth() === 0);
  const deadLetters = () => {
    const database = openDatabase(path.join(folder, 'outbox.db'), { create: false });
    const letters = listDeadLetters(database, {}, 1_000);
    database.close();
    return letters;
  };

  it('sends at once while there is a free slot, and packs what waits', async () => {
    const { promise: hold, resolve: letGo } = Promise.withResolvers<void>();
    start(
      takenAfter(() => hold),
      { poolSize: 1 },
    );
    await commit(notification('1'));
    await until('the first request', () => requests.length === 1);
    for (let n = 2; n <= 14; n++) await commit(notification(String(n)));
    letGo();
    await empty();
    assert.deepEqual(
      requests.map((ids) => ids.length),
      [1, 10, 3],
    );
  });

  it('waits briefly while several requests are open, so that batches are full', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const { promise: hold, resolve: letGo } = Promise.withResolvers<void>();
    start(takenAfter(() => hold));
    const sizes = () => requests.map((ids) => ids.length);
    // With few notifications each is sent at once.
    for (let n = 1; n <= 4; n++) await commit(notification(String(n)));
    await turn();
    assert.deepEqual(sizes(), [1, 1, 1, 1]);
    for (let n = 5; n <= 18; n++) await commit(notification(String(n)));
    await turn();
    assert.deepEqual(sizes(), [1, 1, 1, 1, 10]);
    mock.timers.tick(2);
    await turn();
    assert.deepEqual(sizes(), [1, 1, 1, 1, 10, 4]);
    mock.timers.reset();
    letGo();
    await empty();
  });

  it('never has more open requests than its pool allows', async () => {
    start(takenAfter(turn), { poolSize: 3 });
    await commit(...Array.from({ length: 200 }, (_, n) => notification(String(n))));
    await empty();
    assert.equal(mostUnderWay, 3);
  });

  it('limits the bytes in open requests, and still sends one of each topic', async () => {
    const { promise: held, resolve: letGo } = Promise.withResolvers<void>();
    start(takenAfter(() => held));
    const large = (n: number) => notification(`a${n}`, `a${n}`, A, 262_144);
    await commit(...Array.from({ length: 20 }, (_, n) => large(n)));
    await until('the requests', () => underWay >= 16);
    await commit(notification('b1', 'b1', B), notification('b2', 'b2', B));
    await until('the other topic', () => underWay >= 17);
    await turn();
    assert.deepEqual([underWay, requests.at(-1)], [17, ['b1', 'b2']]);
    letGo();
    await empty();
    assert.equal(accepted.length, 22);
  });

  it('limits batches by bytes too', async () => {
    start(() => [], { sink: scripted(() => [], 100) });
    await commit(...['a', 'b', 'c', 'd', 'e'].map((id) => notification(id, id, A, 40)));
    await empty();
    assert.deepEqual(requests, [['a', 'b'], ['c', 'd'], ['e']]);
  });

  it('sends one notification of a user at a time, in order, and one topic in each request', async () => {
    start(takenAfter(turn));
    await commit(
      notification('a1', 'a'),
      notification('a2', 'a'),
      notification('b1', 'b'),
      notification('a3', 'a'),
      notification('t1', 'a', B),
    );
    await empty();
    assert.deepEqual(
      accepted.filter((id) => id.startsWith('a')),
      ['a1', 'a2', 'a3'],
    );
    for (const ids of requests) assert.ok(ids.length === 1 || !ids.includes('t1'));
  });

  it('retries only the failed entries of a batch, before the following ones', async () => {
    start((ids, _, request) => ids.map((id) => (id === 'b1' && request === 1 ? BUSY : undefined)));
    await commit(notification('a1', 'a'), notification('b1', 'b'), notification('b2', 'b'));
    await empty();
    assert.deepEqual(requests[0], ['a1', 'b1']);
    assert.deepEqual(accepted.toSorted(), ['a1', 'b1', 'b2']);
    assert.ok(accepted.indexOf('b1') < accepted.indexOf('b2'));
    assert.equal(requests.flat().filter((id) => id === 'a1').length, 1);
  });

  it('pauses the topic after the last retry, and drops nothing', async () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
    let up = false;
    const running = start(() => (up ? [] : DOWN), { retryBaseMs: 0 });
    await commit(notification('1'), notification('other', 'other', B));
    /** Runs everything that is due, including the outbox's group commit; takes 50 ms of mocked time. */
    const settle = async () => {
      for (let n = 0; n < 50; n++) {
        mock.timers.tick(1);
        await turn();
      }
    };
    const untilPauseEnds = () => (running.topics()[0]?.pause?.until ?? 0) - Date.now();
    await settle();
    // The first attempt and two retries, for each topic.
    assert.equal(requests.length, 6);
    const paused = running.topics().map(({ pause }) => pause);
    assert.deepEqual(
      paused.map((pause) => [pause?.reason, (pause?.until ?? 0) - (pause?.began ?? 0)]),
      [
        ['ECONNREFUSED', 1_000],
        ['ECONNREFUSED', 1_000],
      ],
    );
    mock.timers.tick(untilPauseEnds() - 60);
    await settle();
    assert.equal(requests.length, 6);
    mock.timers.tick(10);
    await settle();
    // One test request for each topic; then twice the pause.
    assert.equal(requests.length, 8);
    const again = running.topics()[0]?.pause;
    assert.equal((again?.until ?? 0) - (again?.began ?? 0), 2_000);
    assert.equal(again?.since, paused[0]?.since);
    up = true;
    mock.timers.tick(untilPauseEnds());
    await settle();
    assert.deepEqual(accepted.toSorted(), ['1', 'other']);
    assert.deepEqual(
      running.topics().map(({ pause }) => pause),
      [undefined, undefined],
    );
    assert.equal(depth(), 0);
  });

  it('ends a pause on time, even when the clock was set back', async () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
    let behind = 0;
    let up = false;
    start(() => (up ? [] : DENIED), { now: () => Date.now() - behind });
    await commit(notification('1'));
    const pass = async (ms: number) => {
      for (let n = 0; n < ms; n++) {
        mock.timers.tick(1);
        await turn();
      }
    };
    await pass(50);
    assert.equal(requests.length, 1);
    up = true;
    behind = 3_600_000;
    await pass(1_050);
    assert.deepEqual(accepted, ['1']);
    assert.equal(depth(), 0);
  });

  it('retries a paused topic early on request, and no other', async () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
    let up = false;
    const running = start(() => (up ? [] : DENIED));
    await commit(notification('1'));
    const pass = async (ms: number) => {
      for (let n = 0; n < ms; n++) {
        mock.timers.tick(1);
        await turn();
      }
    };
    await pass(50);
    const since = running.topics()[0]?.pause?.since;
    assert.equal(running.tryNow(A), true);
    await pass(50);
    assert.equal(requests.length, 2, 'tried once more, and paused again');
    assert.equal(running.topics()[0]?.pause?.since, since, 'as it was before');
    up = true;
    assert.equal(running.tryNow(A), true);
    await pass(50);
    assert.deepEqual(accepted, ['1']);
    assert.deepEqual([running.tryNow(A), running.tryNow(B), running.tryNow('none')], [false, false, false]);
  });

  it('holds back only the notification that SNS keeps failing', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const running = start((ids) => ids.map((id) => (id === 'bad' ? BUSY : undefined)), { retryBaseMs: 0 });
    await commit(notification('bad'), ...Array.from({ length: 500 }, (_, n) => notification(`o${n}`, `k${n % 50}`)));
    const tries = () => requests.filter((ids) => ids.includes('bad')).length;
    const pass = async (ms: number) => {
      for (let n = 0; n < ms; n++) {
        mock.timers.tick(1);
        await turn();
      }
    };
    await pass(300);
    assert.equal(accepted.length, 500);
    assert.equal(tries(), 3);
    assert.equal(running.topics()[0]?.pause, undefined);
    await pass(1_000);
    assert.equal(tries(), 4);
    assert.equal(depth(), 1);
  });

  it('serves another topic on request', async () => {
    const running = start(() => []);
    const other = `${A}-renamed`;
    await commit(notification('before', 'x', other));
    running.serve(other);
    await commit(notification('after', 'x', other));
    await empty();
    assert.deepEqual(accepted, ['before', 'after']);
  });

  it('gives up after the retries if configured', async () => {
    start(() => FAILING, { exhausted: 'dead-letter' });
    await commit(notification('1'));
    await empty();
    assert.equal(requests.length, 3);
    const [letter] = deadLetters();
    assert.deepEqual([letter?.reason, letter?.attempts, letter?.topic], ['InternalError', 3, A]);
  });

  for (const [what, failure] of [
    ['the network', DOWN],
    ['a proxy', { kind: 'foreign', status: 502, code: 'HTTP502', server: '', contentType: '' }],
    ['the credentials', { kind: 'credentials', code: 'NoCredentials', message: '' }],
    ['the key', { kind: 'request', status: 403, code: 'ExpiredToken', message: '' }],
    ['the clock', { kind: 'request', status: 400, code: 'RequestExpired', message: '' }],
    ['the right to publish', DENIED],
  ] as const)
    it(`never gives up a notification because of ${what}, even if configured`, async () => {
      let mended = false;
      // The notification's own failures reach one below the limit.
      const running = start((_, __, request) => (mended ? [] : request <= 2 ? FAILING : failure), {
        exhausted: 'dead-letter',
      });
      await commit(notification('1'));
      await until('the pause', () => running.topics()[0]?.pause !== undefined);
      assert.equal(running.topics()[0]?.pause?.reason, failure.code);
      const trying = (done: () => boolean) => () => {
        running.tryNow(A);
        return done();
      };
      await until(
        'more tries',
        trying(() => requests.length >= 10),
      );
      mended = true;
      await until(
        'it to arrive',
        trying(() => accepted.length > 0),
      );
      assert.deepEqual(deadLetters(), []);
      assert.deepEqual(accepted, ['1']);
    });

  it('pauses only the topic that an operator has to fix', async () => {
    const running = start((_, topic) => (topic === A ? DENIED : []));
    await commit(notification('a1', 'a'), ...Array.from({ length: 30 }, (_, n) => notification(`b${n}`, `b${n}`, B)));
    await until('the other topic to be empty', () => depth() === 1);
    const [a, b] = running.topics();
    assert.equal(a?.pause?.reason, 'AuthorizationError');
    assert.match(a?.pause?.advice ?? '', /sns:Publish/);
    assert.equal(b?.pause, undefined);
    assert.equal(requests.filter((ids) => ids.includes('a1')).length, 1);
  });

  it("makes dead letters of messages that SNS never accepts, with SNS's reason", async () => {
    start((ids) => ids.map((id) => (id === '2' ? REFUSED : undefined)));
    await commit(notification('1'), notification('2'), notification('3'));
    await empty();
    assert.deepEqual(accepted, ['1', '3']);
    const [letter, ...more] = deadLetters();
    assert.deepEqual(more, []);
    assert.deepEqual(
      [letter?.eventId, letter?.reason, letter?.detail, letter?.attempts],
      ['2', 'InvalidParameter', 'no', 1],
    );
    assert.deepEqual(letter?.content, { kind: 'notification', notification: notification('2') });
  });

  it('finds the culprit in a request that was refused as a whole', async () => {
    /** At each request: how many SNS has accepted, and how many are unsettled. */
    const states: [number, number][] = [];
    const answer: Script = (ids) => {
      states.push([accepted.length, depth()]);
      return ids.includes('7') ? POISON : [];
    };
    start(answer, { poolSize: 1 });
    await commit(...Array.from({ length: 10 }, (_, n) => notification(String(n))));
    await empty();
    assert.equal(accepted.length, 9);
    // Accepted entries of a half are settled before the next half is sent, so that a kill in between does not resend
    // them.
    assert.ok(states.length > 3);
    for (const [taken, depth] of states) assert.ok(depth + taken <= 10, JSON.stringify(states));
    assert.deepEqual(
      deadLetters().map(({ eventId }) => eventId),
      ['7'],
    );
    assert.ok(requests.length <= 9);
  });

  it('lowers the rate when SNS throttles, which is no failure of a notification', async () => {
    const rate = createRateLimit();
    let throttles = 5;
    const running = start(() => (throttles-- > 0 ? THROTTLED : []), { rate, exhausted: 'dead-letter', poolSize: 7 });
    assert.deepEqual(running.topics()[0]?.pool, { size: 7, inFlight: 0 });
    await commit(notification('1'));
    await empty();
    assert.deepEqual(accepted, ['1']);
    assert.ok(rate.rate() < 100);
    const [{ throttled } = {}, other] = running.topics();
    assert.deepEqual([throttled?.reason, other?.throttled], ['Throttling', undefined]);
    assert.match(String(throttled?.advice), /quota/);
  });

  it('a stop waits for open requests, and leaves the rest in the outbox', async () => {
    const { promise: hold, resolve: letGo } = Promise.withResolvers<void>();
    const running = start(
      takenAfter(() => hold),
      { poolSize: 1 },
    );
    await commit(...Array.from({ length: 25 }, (_, n) => notification(String(n))));
    await until('a request', () => requests.length === 1);
    const stopped = running.stop(60_000);
    letGo();
    await stopped;
    assert.equal(requests.length, 1);
    assert.equal(depth(), 15);
  });

  it('publishes nothing after its stop', async () => {
    const running = start(() => []);
    await commit(notification('1'));
    await empty();
    await running.stop(1_000);
    await commit(notification('2'));
    await using left = consume(outbox, A);
    assert.deepEqual(
      (await left.next(1)).map(({ eventId }) => eventId),
      ['2'],
    );
    assert.deepEqual(accepted, ['1']);
  });

  it('leaves no timer after a stop during pauses, retries and waits', async () => {
    const running = start((ids) => (ids.includes('denied') ? DENIED : ids.map(() => BUSY)), { retryBaseMs: 60_000 });
    await commit(notification('busy'), notification('denied', 'x', B));
    await until('both to be asked', () => requests.length === 2);
    await running.stop(1_000);
    assert.deepEqual(
      process.getActiveResourcesInfo().filter((name) => name === 'Timeout'),
      [],
    );
  });

  it('a stop has a time limit', async () => {
    const running = start(() => new Promise<never>(() => {}));
    await commit(notification('1'));
    await until('a request', () => requests.length === 1);
    await running.stop(20);
    assert.equal(depth(), 1);
  });

  it('sends a long lane in order without delaying the others', async () => {
    start(takenAfter(turn));
    const room = Array.from({ length: 3_000 }, (_, n) => notification(`r${n}`, 'room'));
    const others = Array.from({ length: 100 }, (_, n) => notification(`o${n}`));
    await commit(...room, ...others);
    await empty();
    assert.deepEqual(
      accepted.filter((id) => id.startsWith('r')),
      room.map(({ eventId }) => eventId),
    );
    const lastOther = accepted.findLastIndex((id) => id.startsWith('o'));
    assert.ok(lastOther < 1_000, `the last of the others came as number ${lastOther}`);
  });

  it('publishes everything in the order of each key, whatever SNS answers (property)', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const MAX_BYTES = 1_000;
    const POOL = 4;
    /** The outcome of a request; `lost`: SNS accepts it, but the answer is lost. */
    const whole = fc.constantFrom(...['fine', 'fine', 'fine', 'down', 'lost', 'denied', 'throttled', 'poison']);
    const single = fc.constantFrom(...['taken', 'taken', 'taken', 'busy', 'dead']);
    const row = fc.record({
      key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm'),
      topic: fc.constantFrom(A, A, B),
      bytes: fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 100, max: 1_200 })),
    });
    let run = 0;
    const scenario = async (
      rows: { key: string; topic: string; bytes: number }[],
      outcomes: Iterator<[string, string[]]>,
    ) => {
      run += 1;
      const all = rows.map(({ key, topic, bytes }, n) => notification(`${run}.${n}`, key, topic, bytes));
      /** Each event, when SNS first accepted or refused it. */
      const done = new Set<string>();
      const busy = new Set<string>();
      let time = 0;
      let requestsUnderWay = 0;
      const publishBatch: SnsClient['publishBatch'] = async (topic, entries) => {
        const [request, singles] = outcomes.next().value as [string, string[]];
        const lanes = entries.map(({ topic, orderKey }) => `${topic} ${orderKey}`);
        assert.ok(entries.length <= 10 && entries.length > 0);
        assert.ok(entries.length === 1 || entries.reduce((sum, { bytes }) => sum + bytes, 0) <= MAX_BYTES);
        assert.deepEqual([...new Set(entries.map(({ topic }) => topic))], [topic]);
        assert.equal(new Set([...lanes, ...busy]).size, lanes.length + busy.size, 'one of each key at a time');
        assert.ok(++requestsUnderWay <= POOL);
        for (const lane of lanes) busy.add(lane);
        await turn();
        for (const lane of lanes) busy.delete(lane);
        requestsUnderWay -= 1;
        const finish = ({ eventId }: Notification) => done.add(eventId);
        if (request === 'down') return { failure: DOWN };
        if (request === 'denied') return { failure: DENIED };
        if (request === 'throttled') return { failure: THROTTLED };
        if (request === 'lost') {
          entries.forEach(finish);
          return { failure: DOWN };
        }
        if (request === 'poison') {
          if (entries.length === 1) entries.forEach(finish);
          return { failure: POISON };
        }
        const failures = entries.map((entry, index) => {
          if (singles[index] !== 'busy') finish(entry);
          return singles[index] === 'busy' ? BUSY : singles[index] === 'dead' ? REFUSED : undefined;
        });
        accepted.push(...entries.filter((_, index) => !failures[index]).map(({ eventId }) => eventId));
        return { entries: failures };
      };
      accepted = [];
      const running = start(() => [], {
        sink: snsSink({ client: { publishBatch }, maxBytes: () => MAX_BYTES, circumstances: () => HERE }),
        poolSize: POOL,
        retryBaseMs: 0,
        rate: createRateLimit({ now: () => time }),
      });
      for (let n = 0; n < all.length; n += 7) {
        void commit(...all.slice(n, n + 7));
        await turn();
      }
      for (let turns = 0; depth() > 0 || turns < 20; turns++) {
        assert.ok(turns < 100_000, 'it goes on');
        mock.timers.tick(20);
        time += 20;
        await turn();
      }
      await running.stop(1_000);
      const died = deadLetters().flatMap(({ eventId }) => (eventId.startsWith(`${run}.`) ? [eventId] : []));
      // Every event is either confirmed as accepted or a dead letter, exactly once.
      assert.deepEqual([...accepted, ...died].toSorted(), all.map(({ eventId }) => eventId).toSorted());
      const laneOf = new Map(all.map(({ eventId, topic, orderKey }) => [eventId, `${topic} ${orderKey}`]));
      for (const lane of new Set(laneOf.values()))
        assert.deepEqual(
          [...done].filter((id) => laneOf.get(id) === lane),
          [...laneOf].flatMap(([id, name]) => (name === lane ? [id] : [])),
        );
    };
    const outcome = fc.tuple(whole, fc.array(single, { minLength: 10, maxLength: 10 }));
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 150 }), fc.infiniteStream(outcome), scenario),
      { numRuns: 60 },
    );
  });
});
