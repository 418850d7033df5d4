/** The requirements of `dedupe` and `presenceState`, tested for each store. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import {
  type ClaimStore,
  dedupe,
  dynamoStore,
  memoryStore,
  type PresenceNotification,
  presenceState,
  type StateStore,
} from '../src/consumer/index.ts';
import { type Dynamo, startDynamo } from './support/dynamodb.ts';

type Store = ClaimStore & StateStore;

const ALICE = 'alice@example.org';
const event = (seq: number): PresenceNotification => ({
  kind: 'presence',
  user_id: ALICE,
  present: seq % 2 === 1,
  id: `node/e/${seq}`,
  source: 'node',
  epoch: 'e',
  seq,
  at: 7,
  attributes: {},
  fields: {},
  delivery: {},
});

let dynamo: Dynamo;
before(async () => {
  dynamo = await startDynamo();
  await dynamo.createTable('stores');
});
after(() => dynamo[Symbol.asyncDispose]());

// Unique names, because the tests share the table.
let names = 0;
const name = () => `name ${names++}`;

for (const [kind, open] of [
  ['memoryStore', (now?: () => number): Store => memoryStore({ ...(now && { now }) })],
  ['dynamoStore', (now?: () => number): Store => dynamoStore(dynamo.client, { table: 'stores', ...(now && { now }) })],
] as const)
  describe(kind, () => {
    it('gives a claim to one of many simultaneous requests', async () => {
      const [store, id] = [open(), name()];
      const answers = await Promise.all(Array.from({ length: 8 }, (_, n) => store.claim(id, `owner ${n}`, 60_000)));
      assert.deepEqual(answers.toSorted(), [...Array(7).fill('busy'), 'claimed']);
    });

    it('a claim ends with its lease, and goes to the next request', async () => {
      let time = 1_000_000;
      const [store, id] = [open(() => time), name()];
      assert.equal(await store.claim(id, 'one', 1_500), 'claimed');
      time += 1_499;
      assert.equal(await store.claim(id, 'two', 1_500), 'busy');
      time += 1;
      assert.equal(await store.claim(id, 'two', 1_500), 'claimed');
    });

    it('remembers finished events for the retention', async () => {
      let time = 1_000_000;
      const [store, id] = [open(() => time), name()];
      await store.claim(id, 'one', 60_000);
      await store.done(id, 'one', 5_000);
      time += 4_999;
      assert.equal(await store.claim(id, 'two', 60_000), 'done');
      time += 1;
      assert.equal(await store.claim(id, 'two', 60_000), 'claimed');
    });

    it("releases only the requester's own claim, and no finished event", async () => {
      const [store, id] = [open(), name()];
      await store.claim(id, 'one', 60_000);
      await store.release(id, 'another');
      assert.equal(await store.claim(id, 'two', 60_000), 'busy');
      await store.release(id, 'one');
      assert.equal(await store.claim(id, 'two', 60_000), 'claimed');
      await store.done(id, 'two', 60_000);
      await store.release(id, 'two');
      assert.equal(await store.claim(id, 'three', 60_000), 'done');
      await store.release(name(), 'one');
    });

    it('writes a record only over the version that was read', async () => {
      const [store, key] = [open(), name()];
      assert.equal(await store.read(key), undefined);
      assert.equal(await store.write(key, 'a', 1), false);
      assert.equal(await store.write(key, 'a', 0), true);
      assert.equal(await store.write(key, 'b', 0), false);
      const { version = 0, ...record } = (await store.read(key)) ?? {};
      assert.deepEqual(record, { value: 'a' });
      assert.equal(await store.write(key, 'c', version), true);
      assert.equal(await store.write(key, 'd', version), false);
      assert.equal((await store.read(key))?.value, 'c');
    });

    it('four parallel consumers end in the right state and handle each event once', async () => {
      const store = open();
      const state = presenceState(store);
      const handled: number[] = [];
      const once = dedupe(store);
      const consume = async (seqs: readonly number[]) => {
        for (const seq of seqs) {
          await state.apply(event(seq));
          const handling = once(event(seq), ({ seq: number = 0 }) => handled.push(number));
          await handling.catch((error: { code?: string }) => assert.equal(error.code, 'busy'));
        }
      };
      const seqs = [3, 1, 2, 5, 4, 6];
      await Promise.all([seqs, seqs.toReversed(), seqs.toSorted(), seqs.slice(2)].map(consume));
      assert.deepEqual(await state.get(ALICE), { present: false, at: 7 });
      assert.deepEqual(handled.toSorted(), [1, 2, 3, 4, 5, 6]);
    });
  });

it('dynamoStore throws errors of the table, and never treats them as an answer', async () => {
  const store = dynamoStore(dynamo.client, { table: 'missing' });
  const missing = { name: 'ResourceNotFoundException' };
  await assert.rejects(store.claim('a', 'one', 1), missing);
  await assert.rejects(store.release('a', 'one'), missing);
  await assert.rejects(store.write('a', 'b', 0), missing);
  await assert.rejects(store.read('a'), missing);
});
