import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fastify, { type FastifyInstance } from 'fastify';
import { until } from '../../test/support/process.ts';
import { deliver } from '../../test/support/reports.ts';
import type { Notification } from '../notification/notification.ts';
import { guard } from './access.ts';
import { createFlow, type Flow } from './flow.ts';
import { createWatch, serveLive, type TailLines } from './live.ts';
import { createLogger } from './log.ts';
import type { State } from './state.ts';
import { trendOf } from './trend.ts';

const STATE: State = {
  at: 0,
  notReady: [],
  topics: [],
  taps: [],
  sources: [],
  otherSources: { count: 0, holes: 0, missing: 0 },
  outbox: { bytes: 0, maxBytes: 1, oldestAt: undefined, fault: undefined, deadLetters: 0 },
  trend: trendOf([], 1),
  replay: undefined,
  trace: undefined,
  notPublished: [],
};

const notification = (n: number): Notification => ({
  eventId: `s/e/${n}`,
  topic: 'arn:aws:sns:eu-west-1:123456789012:a',
  orderKey: 'alice@localhost',
  at: 1_000,
  message: '{"message":"what people wrote"}',
  attributes: [],
  bytes: 31,
});

/** A reader of the feed that can stop reading. */
interface Reader {
  readonly socket: net.Socket;
  events(name: string): unknown[];
}

describe('the live feed', () => {
  let flow: Flow;
  let server: FastifyInstance;
  let sockets: net.Socket[];
  let delivered = 0;
  /** The listeners that the readers of one test have in the flow. */
  let watching: Set<unknown>;
  let allowed: boolean;
  let stateOf: () => State;
  beforeEach(async () => {
    flow = createFlow(0);
    watching = new Set();
    allowed = true;
    stateOf = () => STATE;
    sockets = [];
    delivered = 0;
    server = fastify({ forceCloseConnections: true });
    const log = createLogger('silent');
    const counted = {
      ...flow,
      onSample: counting(flow.onSample, watching),
      onDelivered: counting(flow.onDelivered, watching),
    };
    const access = { ...guard(server, { token: undefined, log }), allows: () => allowed };
    serveLive(server, { flow: counted, state: () => stateOf(), access, log });
    await server.listen({ host: '127.0.0.1', port: 0 });
  });
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await server.close();
  });

  const deliverMany = (count: number) => {
    for (let n = 0; n < count; n++) deliver(flow, notification(++delivered), 2_000);
  };

  const read = async (query: string): Promise<Reader> => {
    const { port } = server.server.address() as net.AddressInfo;
    const socket = net.connect(port, '127.0.0.1');
    sockets.push(socket);
    let text = '';
    socket.setEncoding('utf8').on('data', (more: string) => {
      text += more;
    });
    await once(socket, 'connect');
    // HTTP/1.0, so that the events come without the lengths of chunks between them.
    socket.write(`GET /api/live${query} HTTP/1.0\r\nHost: localhost\r\n\r\n`);
    const events = (name: string): unknown[] =>
      [...text.matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)]
        .filter(([, found]) => found === name)
        .map(([, , data]) => JSON.parse(String(data)));
    await until('the hello', () => events('hello').length > 0);
    return { socket, events };
  };
  const tailOf = ({ events }: Reader) => events('notifications') as TailLines[];

  it('sends the state first, and then every sample', async () => {
    flow.sample(3, 2_000);
    const reader = await read('');
    const [hello] = reader.events('hello') as { samples: { backlog: number }[]; state: State }[];
    assert.deepEqual(
      hello?.samples.map(({ backlog }) => backlog),
      [3],
    );
    assert.deepEqual(hello?.state.outbox, { bytes: 0, maxBytes: 1, deadLetters: 0 });
    flow.sample(4, 4_000);
    await until('the tick', () => reader.events('tick').length === 1);
    deliverMany(1);
    assert.deepEqual(tailOf(reader), [], 'nobody asked for notifications');
  });

  it('sends notifications, the latest first, with bodies only on request', async () => {
    deliverMany(2);
    const lines = await read('?tail=lines');
    const bodies = await read('?tail=bodies');
    await until('both to be told', () => [lines, bodies].every((reader) => tailOf(reader).length === 1));
    const line = { at: 2_000, eventAt: 1_000, topic: notification(1).topic, about: 'alice@localhost', bytes: 31 };
    const { message } = notification(1);
    assert.deepEqual(tailOf(lines), [{ list: [1, 2].map((n) => ({ ...line, eventId: `s/e/${n}` })), missed: 0 }]);
    assert.deepEqual(tailOf(bodies)[0]?.list[1], { ...line, eventId: 's/e/2', message });
  });

  it('summarizes matches beyond the limit, with their number', async () => {
    const reader = await read('?tail=lines&most=5&match=S/E/77');
    deliverMany(600);
    await until('some', () => tailOf(reader).length === 1);
    assert.deepEqual(
      tailOf(reader).map(({ list, ...counts }) => [list.map(({ eventId }) => eventId), counts]),
      [[['s/e/77'], { missed: 0, passed: 600 }]],
    );
    deliverMany(3);
    await until('how many passed', () => tailOf(reader).length === 2);
    assert.deepEqual(tailOf(reader)[1], { list: [], missed: 0, passed: 3 });
    const other = await read('?tail=lines&topic=none');
    await until('how many passed', () => tailOf(other).length === 1);
    assert.deepEqual(tailOf(other), [{ list: [], missed: 0, passed: 50 }]);
  });

  it("omits what exceeds a reader's limit, and says how much", async () => {
    const reader = await read('?tail=lines&most=5');
    deliverMany(20);
    await until('some', () => tailOf(reader).length === 1);
    assert.deepEqual([tailOf(reader)[0]?.list.length, tailOf(reader)[0]?.missed], [5, 15]);
  });

  it('buffers no more for a slow reader, and reports what it missed', async () => {
    const reader = await read('?tail=bodies');
    reader.socket.pause();
    // Far more than sockets and buffers take: 400 MB of lines.
    for (let n = 0; n < 200; n++) {
      deliverMany(10_000);
      await nextTurn();
    }
    flow.sample(0, 4_000);
    reader.socket.resume();
    const total = () => tailOf(reader).reduce((sum, { list, missed }) => sum + list.length + missed, 0);
    await until('every notification to be told or counted', () => total() === delivered);
    const missed = tailOf(reader).reduce((sum, { missed }) => sum + missed, 0);
    assert.ok(missed > delivered / 2, `${missed} missed`);
  });

  it('disconnects a reader that does not read', async () => {
    const reader = await read('?tail=bodies');
    const large = { ...notification(0), message: 'x'.repeat(200_000) };
    reader.socket.pause();
    const closed = once(reader.socket, 'close');
    await until('it to be cut off', () => {
      for (let n = 0; n < 20; n++) deliver(flow, large, 2_000);
      flow.sample(0, 4_000);
      return watching.size === 0;
    });
    reader.socket.resume();
    await closed;
  });

  for (const [what, bytes, samples] of [
    ['much is buffered', 1024 * 1024 + 1, 2],
    ['little is buffered', 100_000, 16],
  ] as const)
    it(`disconnects a reader that reads nothing while ${what} after ${samples} samples, but not one that reads a little`, () => {
      const reader = { writableNeedDrain: true, writableLength: bytes };
      const reads = createWatch(reader);
      for (let n = 1; n < samples; n++) assert.ok(reads(), `sample ${n}`);
      assert.ok(!reads());

      const slow = { writableNeedDrain: true, writableLength: bytes };
      const readsSlowly = createWatch(slow);
      for (let n = 0; n < 50; n++) {
        assert.ok(readsSlowly());
        slow.writableLength -= 1;
      }
    });

  it('buffers at most 4 MiB for a reader, however few notifications those are', async () => {
    const reader = await read('?tail=bodies');
    const lines = await read('?tail=lines');
    const large = { ...notification(0), message: 'x'.repeat(200_000) };
    for (let n = 0; n < 100; n++) deliver(flow, large, 2_000);
    const total = (of: Reader) => tailOf(of).reduce((sum, { list, missed }) => sum + list.length + missed, 0);
    await until('all to be told or counted', () => total(reader) === 100 && total(lines) === 100);
    const sizes = tailOf(reader).map((event) => JSON.stringify(event).length);
    assert.ok(
      sizes.every((size) => size < 4 * 1024 * 1024),
      `${sizes}`,
    );
    const told = (of: Reader) => tailOf(of).reduce((sum, { list }) => sum + list.length, 0);
    assert.ok(told(reader) < 30, `${told(reader)} told`);
    assert.equal(told(lines), 100, 'what is not sent does not count');
  });

  it('refuses unknown parameters', async () => {
    for (const query of ['?tail=all', '?most=0', '?most=99999'])
      assert.equal((await server.inject({ url: `/api/live${query}`, headers: { host: 'localhost' } })).statusCode, 400);
  });

  it('sends nothing to a reader whose session ended, not even what was buffered', async () => {
    const large = { ...notification(0), message: 'x'.repeat(200_000) };
    const deliverMuch = () => {
      for (let n = 0; n < 20; n++) deliver(flow, large, 2_000);
    };
    deliverMuch();
    const reader = await read('?tail=bodies');
    reader.socket.pause();
    deliverMuch();
    allowed = false;
    flow.sample(0, 2_000);
    assert.equal(watching.size, 0);
    const ended = once(reader.socket, 'end');
    reader.socket.resume();
    await ended;
  });

  it('answers an error if the state is unavailable, and leaves nothing open', async () => {
    stateOf = () => assert.fail('the outbox does not answer');
    const { statusCode } = await server.inject({ url: '/api/live', headers: { host: 'localhost' } });
    assert.deepEqual([statusCode, watching.size], [500, 0]);
  });

  it('follows several requests on one stream, and changes them without a new stream', async () => {
    const reader = await read('?samples=no');
    const [{ stream, samples }] = reader.events('hello') as [{ stream: string; samples: unknown }];
    assert.equal(samples, undefined);
    const follow = async (...wanted: { of: string; bodies: boolean; match: string }[]) => {
      const payload = { follow: wanted.map((each) => ({ ...each, most: 10 })) };
      const headers = { host: 'localhost' };
      return (await server.inject({ method: 'POST', url: `/api/live/${stream}`, headers, payload })).statusCode;
    };
    const told = (of: string) => (reader.events('notifications') as TailLines[]).filter((lines) => lines.of === of);
    assert.equal(await follow({ of: 'a', bodies: false, match: '' }, { of: 'b', bodies: true, match: 'nobody' }), 200);
    deliver(flow, notification(1), 2_000);
    await until('both to be told', () => told('a').length === 1 && told('b').length === 1);
    assert.deepEqual([told('a')[0]?.list.length, told('b')[0]?.list.length, told('b')[0]?.passed], [1, 0, 1]);
    assert.equal(await follow({ of: 'c', bodies: true, match: 'alice' }), 200);
    deliver(flow, notification(2), 2_000);
    await until('the new one to be told', () => told('c').flatMap(({ list }) => list).length === 2);
    assert.deepEqual([told('a').length, told('b').length], [1, 1]);
    assert.match(told('c')[0]?.list[0]?.message ?? '', /what people wrote/);
    assert.equal(
      await follow(...Array.from({ length: 21 }, (_, n) => ({ of: `${n}`, bodies: false, match: '' }))),
      400,
    );
    reader.socket.destroy();
    await until('it to be forgotten', () => watching.size === 0);
    assert.equal(await follow(), 404);
  });

  it('forgets a reader that left', async () => {
    const reader = await read('?tail=lines');
    assert.equal(watching.size, 2);
    reader.socket.destroy();
    await until('it to be forgotten', () => watching.size === 0);
  });
});

/** Keeps the listeners that are there in a set. */
const counting =
  <T>(watch: (listener: T) => () => void, listeners: Set<unknown>) =>
  (listener: T): (() => void) => {
    const stop = watch(listener);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      stop();
    };
  };
