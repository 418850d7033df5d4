import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { Departure } from './departure.ts';

describe('the departure of parcels', () => {
  let left = 0;
  let departure: Departure;
  beforeEach(() => {
    mock.timers.enable({ apis: ['setTimeout'] });
    left = 0;
    departure = new Departure(() => {
      left += 1;
    });
  });
  afterEach(() => mock.timers.reset());

  const endOfTurn = () => Promise.resolve();
  /** Several writes that leave together, in one parcel. */
  async function crowd(): Promise<void> {
    for (let write = 0; write < 4; write++) departure.arrived(50);
    await endOfTurn();
    departure.sent(200);
  }

  it('is at the end of the turn at low load, while others are unconfirmed too', async () => {
    departure.arrived(1);
    departure.arrived(1);
    await endOfTurn();
    assert.equal(left, 1);
    departure.sent(2);
    departure.arrived(20);
    await endOfTurn();
    assert.equal(left, 2);
  });

  it('waits at high load for what left before and a moment for the next batches', async () => {
    await crowd();
    departure.arrived(100);
    await endOfTurn();
    assert.equal(left, 1);
    departure.answered(200);
    departure.sent(1); // A position.
    mock.timers.tick(10);
    assert.equal(left, 1);
    departure.answered(1);
    departure.arrived(100);
    mock.timers.tick(5);
    assert.equal(left, 2);
  });

  it('waits no longer than 200 ms for what is not confirmed', async () => {
    await crowd();
    departure.arrived(100);
    mock.timers.tick(199);
    assert.equal(left, 1);
    mock.timers.tick(1);
    assert.equal(left, 2);
  });

  it('does not wait for company when there was none last time', async () => {
    departure.arrived(100);
    await endOfTurn();
    departure.sent(100);
    departure.answered(100);
    departure.arrived(100);
    await endOfTurn();
    assert.equal(left, 2);
  });

  it('starts anew after a lost connection', async () => {
    await crowd();
    departure.arrived(100);
    departure.reset();
    mock.timers.tick(200);
    assert.equal(left, 1);
    departure.arrived(1);
    mock.timers.tick(5);
    await endOfTurn();
    assert.equal(left, 2);
  });
});
