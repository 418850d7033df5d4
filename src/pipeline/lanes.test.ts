import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CREDIT_BYTES, type Stored } from '../outbox/outbox.ts';
import { Fifo } from './fifo.ts';
import { type Entry, Lanes } from './lanes.ts';

const stored = (seq: number, orderKey: string, bytes = 10): Stored => ({
  seq,
  eventId: String(seq),
  topic: 'arn',
  orderKey,
  at: 0,
  message: '',
  attributes: [],
  bytes,
});
const seqs = (entries: readonly Entry[]) => entries.map(({ notification }) => notification.seq);

describe('lanes', () => {
  it('lanes return one notification of each key at a time, the longest waiting first', () => {
    const lanes = new Lanes();
    for (const [seq, key] of [
      [1, 'a'],
      [2, 'a'],
      [3, 'b'],
      [4, 'c'],
      [5, 'b'],
    ] as const)
      lanes.add(stored(seq, key));
    const first = lanes.take(10, 1_000);
    assert.deepEqual(seqs(first), [1, 3, 4]);
    assert.equal(lanes.ready, false);
    lanes.settled([first[1] as Entry]);
    assert.deepEqual(seqs(lanes.take(10, 1_000)), [5]);
    lanes.release(first[0] as Entry);
    assert.deepEqual(seqs(lanes.take(10, 1_000)), [1]);
    assert.equal(lanes.held, 4);
  });

  it('lanes pack by count and by bytes, and send an oversized notification alone', () => {
    const lanes = new Lanes();
    for (let seq = 1; seq <= 4; seq++) lanes.add(stored(seq, `k${seq}`, 40));
    lanes.add(stored(5, 'large', 200));
    assert.deepEqual(seqs(lanes.take(10, 100)), [1, 2]);
    assert.deepEqual(seqs(lanes.take(1, 100)), [3]);
    assert.deepEqual(seqs(lanes.take(10, 100)), [4]);
    assert.deepEqual(seqs(lanes.take(10, 100)), [5]);
    assert.deepEqual(lanes.take(10, 100), []);
  });

  it('a recall removes notifications not being sent, and keeps the order of the rest', () => {
    const lanes = new Lanes();
    for (let seq = 1; seq <= 100; seq++) lanes.add(stored(seq, 'room'));
    lanes.add(stored(101, 'alice'));
    lanes.add(stored(102, 'bob'));
    const [out] = lanes.take(1, 1_000) as [Entry];
    const recalled = new Set([1, 2, 64, 65, 99, 100, 101]);
    assert.deepEqual(
      lanes.forget(recalled).toSorted((a, b) => a - b),
      [2, 64, 65, 99, 100, 101],
    );
    assert.deepEqual([lanes.held, lanes.parked, lanes.readyCount], [63, 33, 1]);
    assert.deepEqual(seqs(lanes.take(10, 1_000)), [102]);
    lanes.settled([out]);
    assert.deepEqual(seqs(lanes.take(10, 1_000)), [3]);
    lanes.add(stored(103, 'alice'));
    assert.deepEqual(seqs(lanes.take(10, 1_000)), [103]);
  });

  it("counts a notification's charge from the backlog until it is settled", () => {
    const lanes = new Lanes();
    [0, 1, CREDIT_BYTES, CREDIT_BYTES + 1, 262_144].forEach((bytes, seq) => {
      lanes.add(stored(seq, `k${seq}`, bytes));
    });
    assert.equal(lanes.held, 1 + 1 + 1 + 2 + 64);
    const batch = lanes.take(10, 1_000_000);
    assert.equal(lanes.held, 69, 'what is out is held too');
    lanes.release(batch.pop() as Entry);
    assert.equal(lanes.held, 69);
    lanes.settled(batch);
    assert.equal(lanes.held, 64);
    lanes.settled(lanes.take(10, 1_000_000));
    assert.equal(lanes.held, 0);
  });

  it('keeps only numbers far behind, and loads the bodies in time', () => {
    const lanes = new Lanes();
    const rows = Array.from({ length: 1_000 }, (_, seq) => stored(seq, 'room'));
    for (const row of rows) lanes.add(row);
    lanes.add(stored(1_000, 'other'));
    assert.equal(lanes.held, 65);
    assert.equal(lanes.parked, 936);
    const order: number[] = [];
    let fetches = 0;
    for (;;) {
      const batch = lanes.take(10, 1_000);
      if (batch.length === 0) break;
      order.push(...seqs(batch));
      const wanted = lanes.settled(batch);
      if (wanted.length === 0) continue;
      fetches += 1;
      lanes.loaded(wanted.map((seq) => rows[seq] as Stored));
    }
    assert.deepEqual(order.slice(0, 2), [0, 1_000]);
    assert.deepEqual(
      order.filter((seq) => seq < 1_000),
      rows.map(({ seq }) => seq),
    );
    assert.ok(fetches > 20 && fetches < 40, String(fetches));
    assert.deepEqual([lanes.held, lanes.parked], [0, 0]);
  });

  it('copes with any number of rare keys', () => {
    const lanes = new Lanes();
    const KEYS = 10_000;
    for (let round = 0; round < 3; round++)
      for (let seq = round * KEYS; seq < (round + 1) * KEYS; seq += 2) {
        lanes.add(stored(seq, `k${seq % KEYS}`));
        lanes.add(stored(seq + 1, `k${seq % KEYS}`));
        const batch = lanes.take(10, 1_000);
        assert.deepEqual(seqs(batch), [seq]);
        lanes.settled(batch);
        lanes.settled(lanes.take(10, 1_000));
      }
    assert.deepEqual([lanes.held, lanes.parked, lanes.ready], [0, 0, false]);
  });

  it('refuses to settle or release a notification twice', () => {
    const lanes = new Lanes();
    lanes.add(stored(1, 'a'));
    const batch = lanes.take(1, 100);
    lanes.settled(batch);
    assert.throws(() => lanes.settled(batch), /settled or released twice/);
    assert.throws(() => lanes.release(batch[0] as Entry), /settled or released twice/);
  });

  it('packs what fits and keeps the order of each key, for any sizes and outcomes (property)', () => {
    const MAX_BYTES = 10_000;
    // Few keys for many rows: lanes become longer than their part in memory.
    const row = fc.record({
      key: fc.oneof(fc.constant('room'), fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f')),
      bytes: fc.integer({ min: 1, max: 12_000 }),
    });
    const steps = fc.infiniteStream(fc.constantFrom('add', 'take', 'take', 'settle', 'settle', 'release', 'fetch'));
    fc.assert(
      fc.property(fc.array(row, { maxLength: 400 }), steps, fc.integer({ min: 1, max: 10 }), (rows, stream, most) => {
        const all = rows.map(({ key, bytes }, seq) => stored(seq, key, bytes));
        const lanes = new Lanes();
        const left: number[] = [];
        const out: Entry[] = [];
        const wanted: number[][] = [];
        const waiting = [...all];
        const packs = (batch: readonly Entry[], wereReady: boolean) => {
          const keys = [...batch, ...out].map(({ notification }) => notification.orderKey);
          assert.equal(new Set(keys).size, keys.length, 'one of each key at a time');
          const total = batch.reduce((sum, { notification }) => sum + notification.bytes, 0);
          assert.ok(batch.length <= most && (total <= MAX_BYTES || batch.length === 1));
          assert.equal(batch.length > 0, wereReady);
          // Fewer than possible: so the next one would have exceeded a limit.
          if (batch.length === most || !lanes.ready) return;
          const [following] = lanes.take(1, MAX_BYTES) as [Entry];
          assert.ok(total + following.notification.bytes > MAX_BYTES);
          lanes.release(following);
        };
        while (left.length < all.length) {
          const step = stream.next().value;
          if (step === 'add') for (const one of waiting.splice(0, 20)) lanes.add(one);
          if (step === 'fetch') lanes.loaded((wanted.shift() ?? []).map((seq) => all[seq] as Stored));
          if (step === 'take') {
            const wereReady = lanes.ready;
            const batch = lanes.take(most, MAX_BYTES);
            packs(batch, wereReady);
            out.push(...batch);
          }
          const entry = step === 'settle' || step === 'release' ? out.shift() : undefined;
          if (entry && step === 'release') lanes.release(entry);
          if (!entry || step === 'release') continue;
          left.push(entry.notification.seq);
          const more = lanes.settled([entry]);
          if (more.length > 0) wanted.push(more);
        }
        assert.deepEqual([lanes.held, lanes.parked], [0, 0]);
        for (const key of new Set(rows.map((one) => one.key)))
          assert.deepEqual(
            left.filter((seq) => rows[seq]?.key === key),
            all.flatMap(({ seq, orderKey }) => (orderKey === key ? [seq] : [])),
          );
      }),
      { numRuns: 300 },
    );
  });
});

describe('the queue', () => {
  it('the queue is first in, first out, and can also add at the front (property)', () => {
    const step = fc.oneof(fc.constant('shift'), fc.constant('push'), fc.constant('front'));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const fifo = new Fifo<number>();
        const model: number[] = [];
        steps.forEach((what, n) => {
          if (what === 'push') fifo.push(model[model.push(n) - 1] as number);
          else if (what === 'front') {
            model.unshift(n);
            fifo.pushFront(n);
          } else assert.equal(fifo.shift(), model.shift());
          assert.equal(fifo.length, model.length);
          assert.equal(fifo.peek(), model[0]);
        });
      }),
    );
  });
});
