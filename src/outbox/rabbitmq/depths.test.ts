import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Depths } from './depths.ts';

it('a poll counts parcels that went back to their queue only after a moment', () => {
  let now = 0;
  const depths = new Depths(() => now);
  depths.returned('q', { parcels: 1, notifications: 3, bytes: 500 });
  depths.polled('q', 0);
  assert.equal(depths.of('q').notifications, 3);
  now = 2_000;
  depths.polled('q', 0);
  assert.equal(depths.of('q').notifications, 0);
});

it('a depth is known again after a poll that met a parcel on its way back to its queue', () => {
  let now = 0;
  const depths = new Depths(() => now);
  depths.returned('q', { parcels: 1, notifications: 3, bytes: 500 });
  now = 2_000;
  depths.polled('q', 0);
  depths.polled('q', 1);
  const { notifications, bytes } = depths.of('q');
  assert.deepEqual([notifications, bytes], [3, 500]);
});
