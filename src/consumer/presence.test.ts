import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { memoryStore } from './memory-store.ts';
import type { PresenceNotification } from './notification.ts';
import { presenceState } from './presence.ts';

const USERS = ['alice@example.org', 'bob@example.org'];

const presence = (
  source: string,
  epoch: string,
  seq: number,
  at: number,
  user: number,
  present: boolean,
): PresenceNotification => ({
  kind: 'presence',
  user_id: USERS[user] as string,
  present,
  id: `${source}/${epoch}/${seq}`,
  source,
  epoch,
  seq,
  at,
  attributes: {},
  fields: {},
  delivery: {},
});

const change = fc.record({ user: fc.nat(1), present: fc.boolean(), ms: fc.nat(4) });
/** Consecutive runs of one server; within a run many events share a millisecond and the clock may step back. */
const history = fc
  .array(fc.array(change, { minLength: 1, maxLength: 10 }), { minLength: 1, maxLength: 5 })
  .map((runs) =>
    runs.flatMap((run, index) =>
      run.map(({ user, present, ms }, n) =>
        presence('node', `run${(index * 7) % 5}`, n + 1, index * 10 + ms, user, present),
      ),
    ),
  );
/** Arbitrary events, including contradictory ones. */
const anything = fc.array(
  fc
    .tuple(
      fc.constantFrom('a', 'b'),
      fc.constantFrom('e', 'f'),
      fc.integer({ min: 1, max: 6 }),
      fc.nat(5),
      fc.boolean(),
    )
    .map(([source, epoch, seq, at, present]) => presence(source, epoch, seq, at, 0, present)),
  { maxLength: 12 },
);

async function stateAfter(deliveries: readonly PresenceNotification[]) {
  const state = presenceState(memoryStore());
  for (const delivery of deliveries) await state.apply(delivery);
  return Promise.all(USERS.map((user) => state.get(user)));
}

describe('presenceState', () => {
  it("ends with each user's last change after any shuffling, repetition and loss", async () => {
    const deliveries = history.chain((events) =>
      fc
        .array(fc.nat(events.length - 1), { maxLength: events.length * 2 })
        .map((picks) => ({ events, deliveries: picks.map((pick) => events[pick] as PresenceNotification) })),
    );
    await fc.assert(
      fc.asyncProperty(deliveries, async ({ events, deliveries }) => {
        const arrived = events.filter((event) => deliveries.includes(event));
        const expected = USERS.map((user) => arrived.findLast(({ user_id }) => user_id === user)?.present);
        assert.deepEqual(
          (await stateAfter(deliveries)).map((state) => state?.present),
          expected,
        );
      }),
      { numRuns: 500 },
    );
  });

  it('does not depend on the order of arrival, even if numbers and times contradict', async () => {
    const twice = anything
      .map((events) => [...new Map(events.map((event) => [event.id, event])).values()])
      .chain((events) =>
        fc.tuple(fc.constant(events), fc.shuffledSubarray(events, { minLength: events.length }), fc.array(fc.nat(11))),
      );
    await fc.assert(
      fc.asyncProperty(twice, async ([events, shuffled, again]) => {
        const repeated = again.flatMap((pick) => events.slice(pick, pick + 1));
        assert.deepEqual(await stateAfter([...shuffled, ...repeated]), await stateAfter(events));
      }),
      { numRuns: 500 },
    );
  });

  it('several consumers working on one user at once end in the same state', async () => {
    const events = Array.from({ length: 20 }, (_, n) => presence('node', 'e', n + 1, 7, 0, n % 2 === 0));
    const state = presenceState(memoryStore());
    await Promise.all(events.toReversed().map((event) => state.apply(event)));
    assert.deepEqual(await state.get('alice@example.org'), { present: false, at: 7 });
  });

  it('distinguishes changes from late and repeated notifications', async () => {
    const state = presenceState(memoryStore());
    const apply = async (seq: number, present: boolean) => state.apply(presence('node', 'e', seq, seq, 0, present));
    assert.deepEqual(await apply(2, true), { present: true, at: 2, changed: true });
    assert.deepEqual(await apply(2, true), { present: true, at: 2, changed: false });
    assert.deepEqual(await apply(1, false), { present: true, at: 2, changed: false });
    assert.deepEqual(await apply(3, true), { present: true, at: 3, changed: false });
    assert.deepEqual(await apply(4, false), { present: false, at: 4, changed: true });
    assert.equal(await state.get('bob@example.org'), undefined);
  });

  it('counts a user with remaining sessions as present', async () => {
    const state = presenceState(memoryStore());
    const left = { ...presence('node', 'e', 1, 1, 0, false), sessions: 1 };
    assert.equal((await state.apply(left)).present, true);
  });

  it('keeps a limited record, however often a server restarts', async () => {
    const store = memoryStore();
    const state = presenceState(store);
    for (let run = 0; run < 100; run++) await state.apply(presence('node', `run${run}`, 1, run, 0, run % 2 === 0));
    const record = await store.read('presence#alice@example.org');
    assert.equal(Object.keys(JSON.parse(record?.value ?? '')).length, 16);
    const old = await state.apply(presence('node', 'run3', 1, 3, 0, true));
    assert.deepEqual(old, { present: false, at: 99, changed: false });
  });

  it('orders unnumbered events by time', async () => {
    const state = presenceState(memoryStore());
    const { source, epoch, seq, ...base } = presence('', '', 0, 0, 0, true);
    await state.apply({ ...base, id: 'uuid-2', at: 2, present: false });
    await state.apply({ ...base, id: 'uuid-1', at: 1, present: true });
    assert.equal((await state.get('alice@example.org'))?.present, false);
  });

  it('refuses a notification without a time, and names the option that adds one', async () => {
    const { at, ...timeless } = presence('node', 'e', 1, 1, 0, true);
    await assert.rejects(presenceState(memoryStore()).apply(timeless), { code: 'no-order', message: /"timestamp"/ });
  });

  it('gives up if a record keeps changing', async () => {
    const store = { ...memoryStore(), write: async () => false };
    await assert.rejects(presenceState(store).apply(presence('node', 'e', 1, 1, 0, true)), { code: 'conflict' });
  });
});
