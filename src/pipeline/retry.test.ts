import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { pauseLength, retryDelay } from './retry.ts';

describe('the waits', () => {
  it("the waits between retries follow MongooseIM's schedule", () => {
    // 2^(n-1) · base − random(1..base)
    assert.equal(retryDelay(1, 50, 0), 49);
    assert.equal(retryDelay(1, 50, 0.999), 0);
    assert.equal(retryDelay(2, 50, 0), 99);
    assert.equal(retryDelay(3, 50, 0.5), 200 - 26);
    assert.equal(retryDelay(5, 0, 0.5), 0);
    // Beyond sensible values, and beyond a timer's limit (2^31 − 1 ms).
    assert.equal(retryDelay(27, 50, 0), 30_000);
    assert.equal(retryDelay(1_000, 3_600_000, 0), 3_600_000);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 5_000 }), fc.nat(999), (n, base, part) => {
        const delay = retryDelay(n, base, part / 1_000);
        if (2 ** (n - 1) * base > 30_000) return;
        assert.ok(Number.isInteger(delay));
        assert.ok(delay >= 2 ** (n - 1) * base - base && delay <= 2 ** (n - 1) * base - 1);
      }),
    );
  });

  it("a topic's pauses grow from 1 s to 30 s", () => {
    assert.deepEqual(
      [1, 2, 3, 4, 5, 6, 7, 60].map(pauseLength),
      [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000],
    );
  });
});
