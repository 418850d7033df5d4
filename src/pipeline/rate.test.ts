import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createRateLimit } from './rate.ts';

/** A sender that sends as much as allowed to an SNS that throttles above `quota` per second; in steps of 10 ms. */
function simulate(seconds: number, quota: (second: number) => number, cap?: number) {
  let time = 1_000_000;
  const limit = createRateLimit({ cap, now: () => time });
  const taken: number[] = [];
  const refused: number[] = [];
  const rates: number[] = [];
  for (let second = 0; second < seconds; second++) {
    let budget = quota(second);
    let accepted = 0;
    let turnedAway = 0;
    for (let step = 0; step < 100; step++, time += 10) {
      // The sender has 400 messages ready every 10 ms.
      const messages = Math.min(limit.available(), 400);
      limit.spend(messages);
      // A request is accepted or throttled as a whole: the excess over the quota is throttled.
      const over = Math.max(messages - budget, 0);
      turnedAway += over;
      for (let n = 0; n < over; n += 10) limit.throttled(Math.min(10, over - n));
      accepted += Math.min(messages, budget);
      budget -= Math.min(messages, budget);
    }
    taken.push(accepted);
    refused.push(turnedAway);
    rates.push(limit.rate());
  }
  return { limit, taken, refused, rates };
}

describe('the rate', () => {
  it('does not limit the rate while SNS does not throttle', () => {
    const { limit, taken } = simulate(3, () => Number.POSITIVE_INFINITY);
    assert.equal(limit.rate(), Number.POSITIVE_INFINITY);
    assert.deepEqual(taken, [40_000, 40_000, 40_000]);
  });

  it('never exceeds the cap', () => {
    const { taken } = simulate(5, () => Number.POSITIVE_INFINITY, 500);
    for (const accepted of taken) assert.ok(accepted <= 500 + 50, String(accepted));
    assert.ok((taken.at(-1) ?? 0) >= 490);
  });

  it("falls to SNS's rate and stays near it", () => {
    const { taken, refused, rates } = simulate(60, () => 3_000);
    for (const accepted of taken.slice(15)) assert.ok(accepted > 1_800, String(accepted));
    for (const rate of rates.slice(5)) assert.ok(rate < 4_500, String(rate));
    const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
    assert.ok(sum(refused.slice(5)) < 0.2 * sum(taken.slice(5)), `${sum(refused.slice(5))} refused`);
  });

  it('recovers when SNS accepts more again', () => {
    const { limit, taken } = simulate(120, (second) => (second < 20 ? 1_000 : Number.POSITIVE_INFINITY));
    assert.equal(limit.rate(), Number.POSITIVE_INFINITY);
    assert.equal(taken.at(-1), 40_000);
  });

  it('respects a cap below the lowest rate while SNS throttles', () => {
    let time = 0;
    const limit = createRateLimit({ cap: 1, now: () => time });
    limit.throttled(1);
    assert.equal(limit.rate(), 1);
    time += 60_000;
    assert.equal(limit.rate(), 1);
  });

  it('waits for whole batches, but at most a tenth of a second', () => {
    let time = 0;
    const limit = createRateLimit({ cap: 300, now: () => time });
    limit.spend(limit.available());
    assert.equal(limit.wait(10), 34);
    time += 33;
    assert.equal(limit.available(10), 0);
    assert.equal(limit.available(9), 9);
    time += 1;
    assert.equal(limit.available(10), 10);
    const slow = createRateLimit({ cap: 20, now: () => time });
    slow.spend(slow.available());
    assert.equal(slow.wait(10), 100, 'two of them');
  });

  it('returns the wait until the next message', () => {
    let time = 0;
    const limit = createRateLimit({ cap: 100, now: () => time });
    limit.spend(limit.available());
    assert.equal(limit.available(), 0);
    assert.equal(limit.wait(), 10);
    time += 10;
    assert.equal(limit.available(), 1);
    assert.equal(limit.wait(), 0);
  });
});
