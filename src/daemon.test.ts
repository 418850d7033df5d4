import assert from 'node:assert/strict';
import { it } from 'node:test';
import pino from 'pino';
import { startSampling } from './daemon.ts';
import { SAMPLE_MS } from './ops/flow.ts';
import type { Health } from './outbox/outbox.ts';

it('keeps sampling after the outbox was unreadable, which it logs once', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const logged: string[] = [];
  const samples: number[] = [];
  let damaged = false;
  const health = (): Health => {
    if (damaged) throw new Error('database disk image is malformed');
    const topics = [{ topic: 'a', depth: 2 }];
    return {
      topics,
      sources: [],
      holes: [],
      deadLetters: 0,
      bytes: 0,
      maxBytes: 1,
      oldestAt: undefined,
      fault: undefined,
    };
  };
  const stop = startSampling(
    {
      flow: {
        sample(backlog, at) {
          samples.push(backlog);
          return { at, in: 0, out: 0, backlog, p50: null, p99: null };
        },
      },
      ...{ conditions: { sample() {} }, contacts: { sample() {} }, history: { sample() {} } },
    },
    { state: () => ({ outbox: health(), topics: [], taps: [], orphaned: [], notReady: [] }) },
    pino({}, { write: (line: string) => logged.push(line) }),
  );
  t.mock.timers.tick(SAMPLE_MS);
  damaged = true;
  t.mock.timers.tick(SAMPLE_MS);
  t.mock.timers.tick(SAMPLE_MS);
  assert.deepEqual([samples, logged.length], [[2], 1]);
  assert.match(String(logged[0]), /"level":50.*disk image is malformed.*the outbox does not answer/);
  damaged = false;
  t.mock.timers.tick(SAMPLE_MS);
  stop();
  t.mock.timers.tick(SAMPLE_MS);
  assert.deepEqual([samples, logged.length], [[2, 2], 1]);
});
