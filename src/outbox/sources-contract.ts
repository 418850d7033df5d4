/** The part of every outbox's suite about sources: their positions and the holes in their numbers. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { turns } from '../../test/support/consumer.ts';
import { admission, commitAs, lastOf, notification } from '../../test/support/outbox.ts';
import type { OutboxBench } from './contract.ts';

/** @param durable whether commits survive a close and reopening */
export function sourcesContract(bench: OutboxBench, durable: boolean): void {
  it('knows the position of each source and epoch, and none of others', async () => {
    assert.equal(await lastOf(bench.outbox, 's', 'x'), undefined);
    await commitAs(bench.outbox, 's', 'x', 7, admission(notification('e1')));
    assert.equal(await lastOf(bench.outbox, 's', 'x'), 7);
    // Events without a notification move it too.
    await commitAs(bench.outbox, 's', 'x', 12, admission(), 3);
    await commitAs(bench.outbox, 's', 'y', 4, admission());
    assert.deepEqual([await lastOf(bench.outbox, 's', 'x'), await lastOf(bench.outbox, 's', 'y')], [12, 4]);
    assert.equal(await lastOf(bench.outbox, 's2', 'x'), undefined);
  });

  it("keeps each source's holes with range and time until acknowledged", async () => {
    let now = 1_000;
    await bench.reopen({ now: () => now });
    await commitAs(bench.outbox, 's', 'x', 7, admission());
    await commitAs(bench.outbox, 's', 'x', 12, admission(), 3);
    now = 2_000;
    await commitAs(bench.outbox, 't', 'y', 4, admission());
    await commitAs(bench.outbox, 't', 'y', 9, admission(), 1);
    const reported = () =>
      bench.outbox
        .health()
        .holes.map(({ source, epoch, first, last, missing, at }) => [source, epoch, first, last, missing, at]);
    const [ofT, ofS] = [
      ['t', 'y', 5, 5, 1, 2_000],
      ['s', 'x', 8, 10, 3, 1_000],
    ];
    assert.deepEqual(reported(), [ofT, ofS]);
    if (durable) {
      await bench.reopen();
      assert.deepEqual(reported(), [ofT, ofS]);
    }
    assert.deepEqual(await bench.outbox.sources.holes(), bench.outbox.health().holes);
    assert.equal(await bench.outbox.sources.acknowledge('s'), 1);
    assert.deepEqual(reported(), [ofT]);
    assert.equal(await bench.outbox.sources.acknowledge(), 1);
    assert.deepEqual(reported(), []);
    const sums = (await bench.outbox.sources.list(10)).map(({ source, holes, missing }) => [source, holes, missing]);
    assert.deepEqual(sums.toSorted(), [
      ['s', 1, 3],
      ['t', 1, 1],
    ]);
  });

  it('forgets a retired source with its positions and holes', async () => {
    for (const epoch of ['x', 'y']) await commitAs(bench.outbox, 's', epoch, 7, admission());
    await commitAs(bench.outbox, 's', 'x', 12, admission(), 3);
    await commitAs(bench.outbox, 'other', 'x', 1, admission());
    assert.equal(await bench.outbox.sources.retire('s'), true);
    assert.equal(await bench.outbox.sources.retire('s'), false);
    assert.equal(await lastOf(bench.outbox, 's', 'x'), undefined);
    const { sources, holes } = bench.outbox.health();
    assert.deepEqual([sources.map(({ source }) => source), holes], [['other'], []]);
    if (durable) await bench.reopen();
    assert.equal(await lastOf(bench.outbox, 's', 'y'), undefined);
    assert.equal(await lastOf(bench.outbox, 'other', 'x'), 1);
  });

  it("knows the time of an epoch's newest event", async () => {
    const newest = async () => {
      const cursor = await bench.outbox.source('s', 'x');
      cursor.release();
      return cursor.newestAt;
    };
    const commit = async (last: number, newestAt?: number) => {
      const cursor = await bench.outbox.source('s', 'x');
      await cursor.commit(admission(), { last, missing: 0, newestAt });
      cursor.release();
    };
    assert.equal(await newest(), undefined);
    await commit(1, 5_000);
    await commit(2, 4_000);
    await commit(3);
    assert.equal(await newest(), 5_000);
    if (durable) await bench.reopen();
    assert.equal(await newest(), 5_000);
  });

  it('gives a position to one holder at a time, in the order of requests', async () => {
    const first = await bench.outbox.source('s', 'x');
    const order: string[] = [];
    const waiting = [1, 2].map(async (n) => {
      const cursor = await bench.outbox.source('s', 'x');
      order.push(`${n} sees ${cursor.last}`);
      await cursor.commit(admission(), { last: n * 10, missing: 0 });
      cursor.release();
    });
    const elsewhere = await bench.outbox.source('s', 'y');
    elsewhere.release();
    await turns();
    assert.deepEqual(order, []);
    await first.commit(admission(), { last: 5, missing: 0 });
    first.release();
    await Promise.all(waiting);
    assert.deepEqual(order, ['1 sees 5', '2 sees 10']);
  });
}
