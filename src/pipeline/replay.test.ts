import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import pino from 'pino';
import { until } from '../../test/support/process.ts';
import type { DeadLetter } from '../outbox/dead-letters.ts';
import { createReplays } from './replay.ts';

const letter = (id: number): DeadLetter => ({
  id,
  eventId: `s/e/${id}`,
  topic: undefined,
  reason: 'malformed',
  detail: 'd',
  attempts: 0,
  diedAt: 1,
  replayRequested: true,
  content: { kind: 'raw', event: {} },
});

/** An outbox with marked letters and their replay; `fail` makes the next replay throw. */
function scene() {
  const marked: DeadLetter[] = [];
  const batches: number[][] = [];
  const warnings: string[] = [];
  let fails = 0;
  let reads = 0;
  const replays = createReplays({
    deadLetters: {
      toReplay: async (limit) => {
        reads += 1;
        return marked.slice(0, limit);
      },
    },
    replay: async (letters) => {
      if (fails > 0) {
        fails -= 1;
        throw new Error('the outbox is full');
      }
      batches.push(letters.map(({ id }) => id));
      marked.splice(0, letters.length);
    },
    log: pino({ level: 'warn', base: undefined }, { write: (line) => void warnings.push(JSON.parse(line).problem) }),
    batch: 2,
    retryMs: 1,
  });
  return {
    marked,
    batches,
    warnings,
    replays,
    reads: () => reads,
    fail: () => {
      fails += 1;
    },
  };
}

describe('replays', () => {
  it('replays all marked dead letters, batch by batch, then stops searching', async () => {
    const { marked, batches, replays, reads } = scene();
    marked.push(letter(1), letter(2), letter(3));
    replays.wake();
    await until('the replay', () => marked.length === 0);
    await replays.stop();
    assert.deepEqual(batches, [[1, 2], [3]]);
    assert.equal(reads(), 3, 'the last look finds nothing, and no other follows');
  });

  it('replays dead letters that were marked during a replay', async () => {
    const { marked, batches, replays } = scene();
    replays.wake();
    marked.push(letter(1));
    replays.wake();
    await until('the replay', () => marked.length === 0);
    assert.deepEqual(batches, [[1]]);
    await replays.stop();
  });

  it('retries a failed replay, with a line in the log', async () => {
    const { marked, batches, warnings, replays, fail } = scene();
    fail();
    marked.push(letter(1));
    replays.wake();
    await until('the replay', () => marked.length === 0);
    assert.deepEqual([batches, warnings], [[[1]], ['the outbox is full']]);
    await replays.stop();
  });

  it('starts no replay after a stop', async () => {
    const { marked, batches, replays } = scene();
    await replays.stop();
    marked.push(letter(1));
    replays.wake();
    await replays.stop();
    assert.deepEqual(batches, []);
  });
});
