/** What a host program in plain JavaScript may hand to the library, with no compiler between: nothing is lost or withheld in vain. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { until } from '../test/support/process.ts';
import { SILENT } from './log.ts';
import type { Notification } from './notification/notification.ts';
import type { SnsPlugin } from './notification/plugin.ts';
import { memoryOutbox } from './outbox/memory.ts';
import type { Sink } from './pipeline/sink.ts';
import { createPusher, type PusherOptions, type SinkSettings } from './pusher.ts';
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

/** A sink that takes everything; the first `times` requests of more than `above` notifications get another answer. */
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
    it(`gets everything again, in order and once, when it ${what}`, async () => {
      const { taken, settings } = faultySink(answer, 1);
      const { errors, log } = errorsOf();
      await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox(), log });
      await pusher.receive({ source: 's', events: EVENTS });
      await until('all of it', () => taken.length === 3);
      assert.equal(errors.length, 1);
      await until('an empty outbox', () => pusher.state().outbox.topics.every(({ depth }) => depth === 0));
    });

  it('is not asked for halves of a single notification for ever, and its topic waits', async () => {
    const { settings } = faultySink(() => Promise.resolve('split'), Number.POSITIVE_INFINITY);
    const sink = { ...settings, retryCount: 0 };
    await using pusher = await createPusher({ sink, outbox: memoryOutbox() });
    await pusher.receive({ source: 's', events: EVENTS });
    await until('the pause', () => pusher.state().topics[0]?.pause !== undefined);
    assert.equal(pusher.state().topics[0]?.pause?.reason, 'SinkFaulty');
  });

  it('may answer at once instead of by a promise', async () => {
    const { taken, settings } = faultySink(() => [undefined, undefined, undefined], 1);
    const { errors, log } = errorsOf();
    await using pusher = await createPusher({ sink: settings, outbox: memoryOutbox(), log });
    await pusher.receive({ source: 's', events: EVENTS });
    await until('an empty outbox', () => pusher.state().outbox.topics.every(({ depth }) => depth === 0));
    assert.deepEqual([taken.length, errors.length], [0, 0]);
  });

  for (const maxEntries of [0, -1, Number.NaN, undefined])
    it(`gets one notification at a time when it takes ${maxEntries} in a request`, async () => {
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
    it(`filters when it is ${what}`, async () => {
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
    it(`is refused when it is ${JSON.stringify(plugin)}`, async () => {
      const options = { sink: faultySink(undefined, 0).settings, outbox: memoryOutbox(), plugin };
      await assert.rejects(createPusher(options as unknown as PusherOptions), { code: 'PLUGIN_UNUSABLE' });
    });
});

describe('a host program', () => {
  it('goes on when an async listener fails', async () => {
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

  it('learns why a tap could not start, also when that tap can not stop either', async () => {
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

  for (const batch of [undefined, 'events', { source: 's' }, { source: 's', events: 'x' }])
    it(`gets BATCH_INVALID for the batch ${JSON.stringify(batch)}`, async () => {
      await using pusher = await createPusher({ outbox: memoryOutbox() });
      await assert.rejects(pusher.receive(batch as unknown as GivenBatch), { code: 'BATCH_INVALID' });
    });
});
