import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ids, letter } from '../../test/support/outbox.ts';
import { SILENT } from '../log.ts';
import { memoryOutbox } from '../outbox/memory.ts';
import { deleteExpired, startRetention } from './retention.ts';

const DAY_MS = 86_400_000;

describe('the retention of dead letters', () => {
  /** A store with one dead letter for each of the first days. */
  const store = async (days: number) => {
    let time = 0;
    const now = () => time;
    const { deadLetters } = memoryOutbox({ now });
    for (let day = 0; day < days; day++) {
      time = day * DAY_MS;
      await deadLetters.put([letter(`day ${day}`)]);
    }
    const setup = { deadLetters, log: SILENT, now, keepMs: 0 };
    return { setup, kept: async () => ids(await deadLetters.find({}, 1_000)) };
  };

  for (const days of [0, 1, 2, 3, 10, 33])
    for (const kept of [0, 1, 2, 5, 40])
      it(`keeps dead letters of ${kept} of ${days} days`, async () => {
        const { setup, kept: left } = await store(days);
        const expected = Math.min(days, kept + 1);
        assert.equal(await deleteExpired({ ...setup, keepMs: kept * DAY_MS }), days - expected);
        assert.deepEqual(
          await left(),
          Array.from({ length: expected }, (_, index) => `day ${days - expected + index}`),
        );
      });

  it('logs how many were deleted, and why deleting failed', async (t) => {
    const { setup } = await store(3);
    const lines: unknown[][] = [];
    const log = {
      ...SILENT,
      info: (...line: unknown[]) => lines.push(line),
      error: (...line: unknown[]) => lines.push(line),
    };
    t.after(startRetention({ ...setup, log }));
    const purge = () => Promise.reject(new Error('the disk is full'));
    t.after(startRetention({ ...setup, log, deadLetters: { ...setup.deadLetters, purge } }));
    await t.waitFor(() => assert.equal(lines.length, 2));
    const sorted = lines.map(([fields]) => JSON.stringify(fields)).toSorted();
    assert.deepEqual(sorted, ['{"count":2,"keepMs":0}', '{"problem":"the disk is full"}']);
  });
});
