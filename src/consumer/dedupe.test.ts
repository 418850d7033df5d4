import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { dedupe } from './dedupe.ts';
import { memoryStore } from './memory-store.ts';
import type { PresenceNotification } from './notification.ts';

const event = (id?: string): PresenceNotification => ({
  kind: 'presence',
  user_id: 'alice@example.org',
  present: true,
  ...(id !== undefined && { id }),
  attributes: {},
  fields: {},
  delivery: {},
});

const never = () => assert.fail('was handled');

describe('dedupe', () => {
  it('handles each event once, even if repeated or if handlers fail', async () => {
    const delivery = fc.record({ id: fc.constantFrom('a', 'b', 'c'), fails: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(delivery), async (deliveries) => {
        const once = dedupe(memoryStore());
        const handled: string[] = [];
        for (const { id, fails } of deliveries) {
          const handling = once(event(id), () => {
            if (fails) throw new Error('fails');
            handled.push(id);
          });
          await handling.catch((error: Error) => assert.equal(error.message, 'fails'));
        }
        const expected = deliveries.filter(({ fails }) => !fails).map(({ id }) => id);
        assert.deepEqual(handled, [...new Set(expected)]);
      }),
    );
  });

  it('refuses an event that another consumer is handling, and skips it once handled', async () => {
    const once = dedupe(memoryStore());
    const { promise, resolve } = Promise.withResolvers<void>();
    const first = once(event('a'), () => promise);
    await assert.rejects(once(event('a'), never), { code: 'busy' });
    resolve();
    assert.equal(await first, 'handled');
    assert.equal(await once(event('a'), never), 'repeated');
  });

  it('takes over an event whose consumer died', async () => {
    let time = 0;
    const store = memoryStore({ now: () => time });
    await store.claim('a', 'one that dies', 1_000);
    const once = dedupe(store, { leaseMs: 1_000 });
    time = 999;
    await assert.rejects(once(event('a'), never), { code: 'busy' });
    time = 1_000;
    assert.equal(await once(event('a'), () => undefined), 'handled');
  });

  it('forgets an event after its retention', async () => {
    let time = 0;
    const once = dedupe(memoryStore({ now: () => time }), { keepMs: 5_000 });
    assert.equal(await once(event('a'), () => undefined), 'handled');
    time = 4_999;
    assert.equal(await once(event('a'), never), 'repeated');
    time = 5_000;
    assert.equal(await once(event('a'), () => undefined), 'handled');
  });

  it('does not release a claim that another consumer holds now', async () => {
    let time = 0;
    const store = memoryStore({ now: () => time });
    await store.claim('a', 'slow', 10);
    time = 10;
    await store.claim('a', 'next', 10);
    await store.release('a', 'slow');
    assert.equal(await store.claim('a', 'third', 10), 'busy');
  });

  it('remembers a limited number of events in memory', async () => {
    const once = dedupe(memoryStore({ maxEvents: 2 }));
    for (const id of ['a', 'b', 'c']) await once(event(id), () => undefined);
    assert.equal(await once(event('c'), never), 'repeated');
    assert.equal(await once(event('a'), () => undefined), 'handled');
  });

  it('refuses an event without an id, and names the option that adds one', async () => {
    await assert.rejects(dedupe(memoryStore())(event(), never), { code: 'no-id', message: /"event_id"/ });
  });
});
