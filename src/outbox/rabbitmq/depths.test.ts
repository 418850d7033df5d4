import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Depths } from './depths.ts';

it('a depth is known again after a poll that met a parcel on its way back to its queue', () => {
  const depths = new Depths();
  depths.returned('q', { parcels: 1, notifications: 3, bytes: 500 });
  depths.polled('q', 0);
  assert.equal(depths.of('q').notifications, 0);
  depths.polled('q', 1);
  const { notifications, bytes } = depths.of('q');
  assert.deepEqual([notifications, bytes], [3, 500]);
});
