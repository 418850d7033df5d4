/** Mistakes of a host program in plain JavaScript, without a compiler: nothing is lost or wrongly withheld. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { until } from '../test/support/process.ts';
import { SILENT } from './log.ts';
import type { Notification } from './notification/notification.ts';
import type { SnsPlugin } from './notification/plugin.ts';
import { memoryOutbox } from './outbox/memory.ts';
import type { Sink } from './pipeline/sink.ts';
import { createPusher, type PusherOptions, type SinkSettings } from './pusher.ts';
import { type HttpTapSettings, httpTap } from './taps/http/http.ts';
import type { GivenBatch } from './taps/in-process.ts';

const message = (body: string) => ({
  kind: 'message',
  at: 1_763_820_191_340,
  host: 'localhost',
  type: 'chat',
  from: `${body}@localhost/phone`,
  to: 'bob@localhost',
  body,
});
const EVENTS = ['1', '2', '3'].map(message);

/** A sink that accepts everything; the first `times` requests of more than `above` notifications get another answer. */
function faultySink(answer: (() => unknown) | undefined, times: number, above = 0) {
  const taken: Notification[] = [];
  let left = times;
  const publish = (_: string, entries: readonly Notification[]): unknown => {
    if (answer && entries.length > above && left-- > 0) return answer();
    taken.push(...entries);
    return Promise.resolve(entries.map(() => undefined));
  };
  const sink = { limits: () => ({ maxEntries: 10, maxBytes: 262_144 }), publish } as Sink;
  return { taken, settings: { sink, topics: { pm: 'pm' }, retryBaseMs: 1 } satisfies SinkSettings };
}

/** A log that keeps its errors. */
function errorsOf() {
  const errors: { readonly problem?: string }[] = [];
  return { errors, log: { ...SILENT, error: (fields: object) => void errors.push(fields) } };
}

describe('a sink that does not answer as it should', () => {
  for (const [what, answer] of [
    ['answers too few verdicts', () => Promise.resolve([])],
    ['answers nothing', () => Promise.resolve(undefined)],
    ['answers what is no verdict', () => Promise.resolve([null, 'ok', { kind: 'later' }])],
    ['answers holes', () => Promise.resolve([undefined, undefined, undefined, undefined])],
    [
      'throws before it answers',
      () => {
        throw new Error('of the sink');
      },
    ],
  ] as const)
    it(`a sink gets everything again, once and in order, after it ${what}`, async () => {
      const { taken, settings } = faultySink(answer, 1);
      const { errors, log } = errorsOf();
      await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox(), log });
      await pusher.receive({ source: 's', events: EVENTS });
      await until('all of it', () => taken.length === 3);
      assert.equal(errors.length, 1);
      await until('an empty outbox', () => pusher.state().outbox.topics.every(({ depth }) => depth === 0));
    });

  it('pauses a topic whose sink asks to split a single notification', async () => {
    const { settings } = faultySink(() => Promise.resolve('split'), Number.POSITIVE_INFINITY);
    const sink = { ...settings, retryCount: 0 };
    await using pusher = await createPusher({ sink, outbox: memoryOutbox() });
    await pusher.receive({ source: 's', events: EVENTS });
    await until('the pause', () => pusher.state().topics[0]?.pause !== undefined);
    assert.equal(pusher.state().topics[0]?.pause?.reason, 'SinkFaulty');
  });

  it('accepts a sink that answers without a promise', async () => {
    const { taken, settings } = faultySink(() => [undefined, undefined, undefined], 1);
    const { errors, log } = errorsOf();
    await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox(), log });
    await pusher.receive({ source: 's', events: EVENTS });
    await until('an empty outbox', () => pusher.state().outbox.topics.every(({ depth }) => depth === 0));
    assert.deepEqual([taken.length, errors.length], [0, 0]);
  });

  for (const maxEntries of [0, -1, Number.NaN, undefined])
    it(`sends one notification at a time to a sink that allows ${maxEntries} in a request`, async () => {
      const { taken, settings } = faultySink(undefined, 0);
      const sizes = new Set<number>();
      const sink = {
        limits: () => ({ maxEntries, maxBytes: 262_144 }),
        publish: (topic: string, entries: readonly Notification[]) => {
          sizes.add(entries.length);
          return settings.sink.publish(topic, entries);
        },
      } as Sink;
      await using pusher = await createPusher({ sink: { ...settings, sink }, outbox: memoryOutbox() });
      await pusher.receive({ source: 's', events: EVENTS });
      await until('all of it', () => taken.length === 3);
      assert.deepEqual([...sizes], [1]);
    });
});

describe('a plugin of a host program', () => {
  class Filtering {
    filter(): boolean {
      return false;
    }
    static filter(): boolean {
      return false;
    }
  }
  for (const [what, plugin] of [
    ['an object of a class', new Filtering()],
    ['a class', Filtering],
    ['an object that inherits', Object.create({ filter: () => false })],
    ['an object without a prototype', Object.assign(Object.create(null), { filter: () => false })],
    ['a proxy', new Proxy({ filter: () => false }, {})],
  ] as [string, SnsPlugin][])
    it(`a plugin filters when it is ${what}`, async () => {
      const { taken, settings } = faultySink(undefined, 0);
      const pusher = await createPusher({ sink: settings, outbox: memoryOutbox(), plugin });
      await pusher.receive({ source: 's', events: EVENTS });
      assert.deepEqual(
        pusher.state().outbox.topics.map(({ depth }) => depth),
        [0],
      );
      await pusher.stop();
      assert.equal(taken.length, 0);
    });

  for (const plugin of [5, true, [], ''])
    it(`refuses ${JSON.stringify(plugin)} as a plugin`, async () => {
      const options = { sink: faultySink(undefined, 0).settings, outbox: memoryOutbox(), plugin };
      await assert.rejects(createPusher(options as unknown as PusherOptions), { code: 'PLUGIN_UNUSABLE' });
    });
});

describe('a host program', () => {
  it('handles overlapping reloads, and a stop during them', async () => {
    const [first, ...others] = [1, 2, 3, 4].map(() => faultySink(undefined, 0));
    const pusher = await createPusher({ sink: first?.settings, outbox: memoryOutbox() });
    await Promise.all(others.map(({ settings }) => pusher.reload({ sink: settings })));
    await pusher.receive({ source: 's', events: EVENTS });
    await until('all of it', () => others.some(({ taken }) => taken.length === 3));
    assert.equal(first?.taken.length, 0);
    const reloads = others.map(({ settings }) => pusher.reload({ sink: settings }));
    await Promise.all([...reloads, pusher.stop()]);
  });

  it('an async listener that fails stops nothing', async () => {
    const { settings } = faultySink(undefined, 0);
    const { errors, log } = errorsOf();
    await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox(), log });
    pusher.on('delivered', async () => {
      throw new Error('of the listener');
    });
    await pusher.receive({ source: 's', events: [message('1')] });
    await until('the line', () => errors.length === 1);
    assert.equal(errors[0]?.problem, 'of the listener');
  });

  it("reports why a tap could not start, even if it can't stop either", async () => {
    const { errors, log } = errorsOf();
    const tap = {
      name: 'mine',
      start: () => Promise.reject(new Error('of the start')),
      stop: () => Promise.reject(new Error('of the stop')),
      state: () => ({ at: undefined }),
    };
    await assert.rejects(createPusher({ outbox: memoryOutbox(), taps: [tap], log }), { message: 'of the start' });
    assert.deepEqual(errors, [{ problem: 'of the stop' }]);
  });

  const throwing = () => {
    throw new Error('of the event');
  };
  for (const [what, event] of [
    ['a BigInt in it', { kind: 'x', n: 5n }],
    ['a getter that throws', Object.defineProperty({}, 'kind', { enumerable: true, get: throwing })],
    ['a toJSON that throws', { kind: 'x', toJSON: throwing }],
    ['a proxy that throws', new Proxy({}, { get: throwing, ownKeys: throwing })],
  ] as [string, unknown][])
    it(`refuses only the event with ${what}`, async () => {
      await using pusher = await createPusher({ outbox: memoryOutbox() });
      const { accepted, rejected } = await pusher.receive({ source: 's', events: [message('1'), event] });
      assert.deepEqual([accepted, rejected.map(({ index }) => index)], [1, [1]]);
      assert.equal((await pusher.deadLetters.find({}, 10)).length, 1);
    });

  for (const batch of [undefined, 'events', { source: 's' }, { source: 's', events: 'x' }])
    it(`answers BATCH_INVALID to the batch ${JSON.stringify(batch)}`, async () => {
      await using pusher = await createPusher({ outbox: memoryOutbox() });
      await assert.rejects(pusher.receive(batch as unknown as GivenBatch), { code: 'BATCH_INVALID' });
    });
});

describe('options that are not as they should be', () => {
  const { settings } = faultySink(undefined, 0);
  for (const [what, options, problem] of [
    ['none', undefined, /^should be an object$/],
    ['without an outbox', {}, /^outbox: should be an outbox, with the functions source, /],
    ['a misspelt one', { outbox: memoryOutbox(), plugins: {} }, /^there is no option plugins; there are sns, sink, /],
    ['taps that are no list', { outbox: memoryOutbox(), taps: {} }, /^taps: should be a list of taps$/],
    ['taps that are none', { outbox: memoryOutbox(), taps: [undefined, {}] }, /^taps\.0: .*; taps\.1: should be a tap/],
    ['a log that is none', { outbox: memoryOutbox(), log: {} }, /^log: should be a log, with the functions info, /],
    ['a sink without topics', { sink: { sink: settings.sink } }, /sink\.topics: should be an object/],
    ['a sink that is none', { sink: { ...settings, sink: {} } }, /sink\.sink: should be a sink/],
    ['a sink beside its settings', { sink: settings.sink }, /sink\.topics: .*there is no option limits, publish/],
    [
      'a misspelt kind',
      { sink: { ...settings, topics: { presense: 'p' } } },
      /sink\.topics: there is no option presense/,
    ],
    [
      'an empty topic',
      { sink: { ...settings, topics: { pm: '' } } },
      /sink\.topics\.pm: should be the name of a topic/,
    ],
    ['no requests', { sink: { ...settings, poolSize: 0 } }, /sink\.poolSize: should be a whole number, 1 or more/],
    ['NaN', { sink: { ...settings, poolSize: Number.NaN } }, /sink\.poolSize: should be a whole number, 1 or more/],
    ['no rate', { sink: { ...settings, maxMessagesPerSecond: 0 } }, /sink\.maxMessagesPerSecond: should be above 0/],
    ['another end', { sink: { ...settings, exhausted: 'drop' } }, /sink\.exhausted: should be "wait" or "dead-letter"/],
    ['a host that is none', { hosts: { a: 5 } }, /hosts\.a: should be an object/],
    ["a host's sink", { hosts: { a: { ...settings, poolSize: 0 } } }, /hosts\.a\.poolSize: should be a whole number/],
  ] as [string, unknown, RegExp][])
    it(`names invalid options: ${what}`, async () => {
      await assert.rejects(createPusher(options as PusherOptions), { code: 'CONFIG_INVALID', message: problem });
    });

  const SNS = { region: 'eu-west-1', accountId: '123456789012', topics: { pm: 'pm' } };
  for (const [what, credentials, problem] of [
    ['neither keys nor a function', 5, /^sns\.credentials should be keys, a function or "aws"$/],
    ['null', null, /^sns\.credentials should be keys, a function or "aws"/],
    ['another word', 'AWS', /^sns\.credentials should be keys, a function or "aws"$/],
    ['without keys', {}, /^sns\.credentials should have accessKeyId and secretAccessKey$/],
    ['with half a key', { accessKeyId: 'a' }, /^sns\.credentials should have accessKeyId and secretAccessKey/],
    [
      'with a newline in the token',
      { accessKeyId: 'a', secretAccessKey: 'b', sessionToken: 'c\n' },
      /^sns\.credentials\.sessionToken ends in U\+000A/,
    ],
  ] as const)
    it(`names invalid credentials: ${what}`, async () => {
      const options = { outbox: memoryOutbox(), sns: { ...SNS, credentials } } as unknown as PusherOptions;
      await assert.rejects(createPusher(options), { code: 'CONFIG_INVALID', message: problem });
    });

  const LOCAL = { host: '127.0.0.1', port: 0 };
  for (const [what, given, problem] of [
    ['without an address', {}, /listen should be/],
    ['with an address as text', { listen: '127.0.0.1:0' }, /listen should be/],
    ['with a port that is none', { listen: { ...LOCAL, port: 70_000 } }, /listen should be/],
    ['open to all without a secret', { listen: { host: '0.0.0.0', port: 0 } }, /secret should have 20 characters/],
    ['open to all with a short one', { listen: { host: '::', port: 0 }, secret: 'short' }, /should have 20 characters/],
    ['with an empty secret', { listen: LOCAL, secret: '' }, /secret should be a text that is not empty/],
    ['with a newline in it', { listen: LOCAL, secret: 'abc\n' }, /secret ends in U\+000A \(a newline\)/],
  ] as const)
    it(`names invalid options of an HTTP tap: ${what}`, async () => {
      const taps = [httpTap(given as HttpTapSettings)];
      const rejection = { code: 'CONFIG_INVALID', message: problem };
      await assert.rejects(createPusher({ outbox: memoryOutbox(), taps }), rejection);
    });

  it('invalid options close the outbox', async () => {
    let closed = 0;
    const outbox = { ...memoryOutbox(), close: async () => void closed++ };
    await assert.rejects(createPusher({ outbox, taps: 5 } as unknown as PusherOptions), { code: 'CONFIG_INVALID' });
    assert.equal(closed, 1);
  });

  it('a reload with invalid options changes nothing', async () => {
    const { taken, settings } = faultySink(undefined, 0);
    await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox() });
    await assert.rejects(pusher.reload({ sink: { sink: settings.sink } } as unknown as PusherOptions), {
      code: 'CONFIG_INVALID',
    });
    await pusher.receive({ source: 's', events: EVENTS });
    await until('all of it', () => taken.length === 3);
  });
});
