/** The part of every outbox's suite about any sequence of operations, as a property. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { type Consumer, consume, turns } from '../../test/support/consumer.ts';
import { admission, ids, notification, TOPIC } from '../../test/support/outbox.ts';
import type { OutboxUnderTest, Promises } from './contract.ts';
import type { Stored } from './outbox.ts';

export function orderContract(make: () => Promise<OutboxUnderTest>, { durable, runs = 50 }: Promises): void {
  it('loses nothing, returns nothing settled, and keeps the order of each key under any operations (property)', async () => {
    const step = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          kind: fc.constant('commit' as const),
          keys: fc.array(fc.nat(3), { minLength: 1, maxLength: 6 }),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant('request' as const), credit: fc.integer({ min: 1, max: 5 }) }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('settle' as const),
          share: fc.double({ min: 0, max: 1, noNaN: true }),
        }),
      },
      { weight: 1, arbitrary: fc.constant({ kind: 'consumer' as const }) },
      ...(durable ? [{ weight: 1, arbitrary: fc.constant({ kind: 'open' as const }) }] : []),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const fresh = await make();
        let box = await fresh.open();
        let consumer: Consumer = consume(box, TOPIC, 0);
        let committed = 0;
        const settled: string[] = [];
        let handed: Stored[] = [];
        const collect = async () => {
          await turns(5);
          handed.push(...consumer.held.slice(handed.length));
        };
        for (const each of steps) {
          if (each.kind === 'commit')
            await box.commit(
              admission(...each.keys.map((key) => notification(`${++committed}`, { orderKey: `${key}` }))),
            );
          else if (each.kind === 'request') consumer.backlog.request(each.credit);
          else if (each.kind === 'settle') {
            await collect();
            // A consumer settles one key's notifications in their order.
            const open = handed.filter(({ eventId }) => !settled.includes(eventId));
            const now = open.slice(0, Math.ceil(open.length * each.share));
            await consumer.settle(...now);
            settled.push(...ids(now));
          } else {
            await consumer.close();
            handed = [];
            if (each.kind === 'open') {
              await box.close();
              box = await fresh.open();
            }
            consumer = consume(box, TOPIC, 0);
          }
        }
        await consumer.close();
        consumer = consume(box, TOPIC);
        const left = await consumer.next(committed - settled.length);
        assert.deepEqual(await consumer.rest(), []);
        assert.deepEqual(new Set([...settled, ...ids(left)]).size, committed);
        const keys = new Set(left.map(({ orderKey }) => orderKey));
        for (const key of keys) {
          const order = left.filter(({ orderKey }) => orderKey === key).map(({ eventId }) => Number(eventId));
          assert.deepEqual(
            order,
            order.toSorted((a, b) => a - b),
          );
        }
        await consumer.close();
        await box.close();
        await fresh.dispose();
      }),
      { numRuns: runs },
    );
  });
}
