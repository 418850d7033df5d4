import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { type Brake, createBrake } from './brake.ts';

describe('answers to wrong secrets', () => {
  let now: number;
  let paused: number;
  let release: () => void;
  let brake: Brake;
  beforeEach(() => {
    now = 1_000_000;
    paused = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    release = resolve;
    brake = createBrake({
      now: () => now,
      pause: () => {
        paused += 1;
        return promise;
      },
    });
  });
  const fail = async (address: string, times = 1) => {
    for (let n = 0; n < times; n++) await brake.failed(address);
  };

  it('delays answers to wrong secrets from the eleventh on, for that address only', async () => {
    await fail('10.0.0.1', 10);
    assert.equal(paused, 0);
    const slowed = fail('10.0.0.1');
    assert.equal(paused, 1);
    await fail('10.0.0.2');
    assert.equal(paused, 1);
    release();
    await slowed;
  });

  it('answers wrong secrets at once again after a minute', async () => {
    await fail('10.0.0.1', 10);
    now += 60_000;
    await fail('10.0.0.1', 10);
    assert.equal(paused, 0);
  });

  it('counts wrong secrets per IPv6 network', async () => {
    for (let n = 0; n < 10; n++) await fail(`2001:db8::${n}:1`);
    release();
    for (const same of ['2001:db8::', '2001:db8::ffff', '2001:db8:0:0:1:2:3:4']) await fail(same);
    assert.equal(paused, 3);
    for (const other of ['2001:db8:0:1::1', '2001:db8:1::', '::1', '::ffff:10.0.0.1']) await fail(other);
    assert.equal(paused, 3);
  });

  it('bounds the number of delayed answers', async () => {
    await fail('10.0.0.1', 10);
    const slowed = Array.from({ length: 100 }, () => brake.failed('10.0.0.1'));
    assert.equal(paused, 100);
    await fail('10.0.0.1', 50);
    assert.equal(paused, 100);
    release();
    await Promise.all(slowed);
  });
});
