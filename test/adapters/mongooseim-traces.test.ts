/**
 * MongooseIM's adapter in each recorded scenario, on a stand-in that plays the recordings: with the hook names from 6.3
 * on and until 6.2, in the recorded order and in others that the server may produce.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type CollectedEvent, type Collector, startCollector } from '../support/collector.ts';
import { type MongooseIm, startMongooseIm } from '../support/mongooseim.ts';
import {
  type Call,
  createPlayer,
  type Expected,
  isFree,
  ORDERS,
  type Order,
  readTrace,
  type Scenario,
} from '../support/mongooseim-trace.ts';

const RECORDINGS = ['admin', 'api', 'carbons', 'chat', 'muc', 'presence', 'privacy', 'sasl2']
  // The longest ones last.
  .concat(['server', 'websocket', 'takeover', 'stream_management']);

/** The user whom an event is about. */
const userOf = (event: { jid?: string; from?: string }) => (event.jid ?? event.from ?? '').replace(/\/.*/s, '');

const inShort = ({ kind, jid, present, sessions, type, from, to, body, stanza_id }: Expected) =>
  kind === 'presence' ? { jid, present, sessions } : { type, from, to, body, stanza_id };

/** Compares events with the expected ones: in each user's order, or in any order if the recording says so. */
function compare(scenario: Pick<Scenario, 'expect' | 'anyOrder'>, got: readonly CollectedEvent[]): void {
  const wanted = Map.groupBy(scenario.expect, userOf);
  const found = Map.groupBy(got as readonly Expected[], userOf);
  assert.deepEqual([...found.keys()].sort(), [...wanted.keys()].sort());
  for (const [user, events] of wanted) {
    const all = found.get(user) ?? [];
    // The expectation has no random ids made by the server.
    const same = all.map((event, index) => {
      const withoutId = events[index]?.kind === 'message' && events[index].stanza_id === undefined;
      return inShort(withoutId ? { ...event, stanza_id: undefined } : event);
    });
    if (!scenario.anyOrder) {
      assert.deepEqual(same, events.map(inShort), user);
      continue;
    }
    const unordered = (list: readonly Expected[]) =>
      list.map((event) => JSON.stringify({ ...inShort(event), sessions: undefined, stanza_id: undefined })).sort();
    assert.deepEqual(unordered(all), unordered(events), user);
    const counts = all
      .filter(({ kind }) => kind === 'presence')
      .map(({ present, sessions }) => ({ present, sessions }));
    for (const [index, { present, sessions }] of counts.entries()) {
      const previous = counts[index - 1]?.sessions;
      if (previous !== undefined) assert.equal(sessions, previous + (present ? 1 : -1), `${user}'s sessions`);
    }
  }
}

for (const old of [false, true]) {
  describe(`recordings of MongooseIM, hooks named as ${old ? 'until 6.2' : 'from 6.3 on'}`, () => {
    let tap: Collector;
    let server: MongooseIm;
    before(async () => {
      tap = await startCollector({ anyBody: true });
      server = await startMongooseIm({ url: tap.url, handoverMs: 300, old });
    });
    after(async () => {
      await server?.[Symbol.asyncDispose]();
      await tap?.[Symbol.asyncDispose]();
    });

    /** Plays a recording, with the steps in this order where the order is free. */
    async function play(name: string, order: Order): Promise<void> {
      await server.call('mongoose_trace', 'begin_trace');
      const player = createPlayer(server);
      let start = tap.events.length;
      let due: Pick<Scenario, 'expect' | 'anyOrder'> = { expect: [], anyOrder: false };
      for (const scenario of readTrace(name)) {
        due = { expect: [...due.expect, ...scenario.expect], anyOrder: due.anyOrder || scenario.anyOrder };
        for (const step of scenario.steps) {
          if (step.text === 'SIGKILL') await tap.wait('all before the kill', () => arrived(due, start));
          if (step.text === 'SIGKILL') await server.kill();
          if (step.text === 'the server has ended') await server.stop();
          const free = order !== 'as recorded' && isFree(step, order, scenario.anyOrder);
          const calls = free ? ORDERS[order](step.calls) : step.calls;
          const later = (index: number) => [...calls.slice(index + 1), ...following(scenario, step)];
          for (const [index, call] of calls.entries()) {
            if (call.hook === '(module start)' && server.pid === 0) {
              player.forget();
              await server.start();
              await server.call('mongoose_trace', 'begin_trace');
            } else await player.play(call, later(index));
          }
        }
        // A stopping server may leave some events to its next start.
        if (server.pid === 0) continue;
        await tap
          .wait(`${name}: ${scenario.name}`, () => arrived(due, start))
          .catch((error: Error) => {
            throw new Error(`${error.message}\n${server.log()}`);
          });
        try {
          compare(due, tap.events.slice(start));
        } catch (error) {
          throw new Error(`${name}, ${order}: ${scenario.name}`, { cause: error });
        }
        start = tap.events.length;
        due = { expect: [], anyOrder: false };
      }
      assert.equal(await server.call('gen_hook', 'raised'), '[]');
    }

    const following = (scenario: Scenario, step: Scenario['steps'][number]): Call[] =>
      scenario.steps.slice(scenario.steps.indexOf(step) + 1).flatMap(({ calls }) => calls);

    const arrived = ({ expect }: Pick<Scenario, 'expect'>, start: number) => tap.events.length >= start + expect.length;

    for (const name of RECORDINGS) {
      it(`${name}: sends the expected events${old ? '' : ', in each possible order'}`, async () => {
        await play(name, 'as recorded');
        if (old) return;
        for (const order of Object.keys(ORDERS) as Order[]) {
          const free = readTrace(name).some(({ steps, anyOrder }) =>
            steps.some((step) => isFree(step, order, anyOrder)),
          );
          if (order !== 'as recorded' && free) await play(name, order);
        }
        assert.deepEqual(tap.holes, []);
      });
    }
  });
}
