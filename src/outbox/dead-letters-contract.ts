/** The suite that every store of dead letters passes. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ids, letter, TOPIC } from '../../test/support/outbox.ts';
import type { DeadContent, DeadLetterFilter, DeadLetterQuery, DeadLetterStore } from './dead-letters.ts';

export interface StoreUnderTest {
  readonly store: DeadLetterStore;
  dispose(): Promise<void>;
}

const NOTIFICATION = {
  eventId: 'sent',
  topic: TOPIC,
  orderKey: 'erin@example.org',
  at: 1,
  message: '{"to_user_id":"frank@example.org","from_user_id":"erin@example.org","message":"x"}',
  attributes: [],
  bytes: 80,
};

export function deadLettersContract(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(`${name}, as any store of dead letters`, () => {
    let under: StoreUnderTest;
    let store: DeadLetterStore;
    beforeEach(async () => {
      under = await make();
      store = under.store;
      await store.put([
        letter('e1'),
        letter('e2', { topic: TOPIC, reason: 'InvalidParameter', attempts: 3 }),
        letter('e3', { topic: TOPIC }),
      ]);
      await store.put([letter('e4')]);
    });
    afterEach(() => under.dispose());

    const found = async (filter: DeadLetterFilter = {}, limit = 100, after?: number) =>
      ids(await store.find(filter, limit, after));

    it('keeps dead letters with any content', async () => {
      const contents: DeadContent[] = [
        { kind: 'raw', event: null },
        { kind: 'raw', event: { nested: [1, { text: '👩‍👩‍👧‍👦 \u0001' }] } },
        { kind: 'event', event: { kind: 'presence', jid: 'a@b/c' } },
      ];
      for (const content of contents) await store.put([letter('kept', { reason: 'kept', content })]);
      const kept = await store.find({ reason: 'kept' }, 10);
      assert.deepEqual(
        kept.map(({ content }) => content),
        contents,
      );
    });

    it('lists whole dead letters, oldest first, in portions', async () => {
      assert.deepEqual(await found(), ['e1', 'e2', 'e3', 'e4']);
      const [, second] = await store.find({}, 2);
      assert.equal(second?.topic, TOPIC);
      assert.deepEqual(await found({}, 2, second?.id), ['e3', 'e4']);
    });

    it('selects by number, reason, topic, and what existed at a listing', async () => {
      const [first, , third] = await store.find({}, 10);
      assert.deepEqual(await found({ ids: [first?.id ?? 0, third?.id ?? 0] }), ['e1', 'e3']);
      assert.deepEqual(await found({ reason: 'malformed' }), ['e1', 'e3', 'e4']);
      assert.deepEqual(await found({ topic: TOPIC }), ['e2', 'e3']);
      assert.deepEqual(await found({ topic: TOPIC, reason: 'malformed' }), ['e3']);
      assert.deepEqual(await found({ upToId: third?.id ?? 0 }), ['e1', 'e2', 'e3']);
      assert.deepEqual(await found({ ids: [] }), []);
    });

    it('searches names without regard to case, and no details from a plugin', async () => {
      const event = { kind: 'message', type: 'groupchat', from: 'Dave@Example.org/x', to: 'Tea_Room@conf.example.org' };
      await store.put([
        letter('group', { content: { kind: 'event', event } }),
        letter('sent', { content: { kind: 'notification', notification: NOTIFICATION } }),
        letter('hook', { reason: 'plugin', detail: 'filter: carol wrote 100% of it' }),
      ]);
      for (const [match, expected] of [
        ['DAVE@example', ['group']],
        ['tea_room', ['group']],
        ['tea%room', []],
        ['erin@', ['sent']],
        ['carol', []],
        ['PLUGIN', ['hook']],
        ['negative', ['e1', 'e2', 'e3', 'e4', 'group', 'sent']],
        ['e3', ['e3']],
      ] as const)
        assert.deepEqual(await found({ match }), expected, match);
      assert.equal(await store.requestReplay({ match: 'dave' }), 1);
      assert.equal(await store.purge({ match: 'dave' }), 1);
      assert.deepEqual(await found({ match: 'dave' }), []);
    });

    it('lists a page in any order, with the users concerned and the total', async () => {
      const event = { kind: 'presence', jid: 'zoe@Z.org/x', host: 'z.org' };
      await store.put([letter('z', { reason: 'a', attempts: 9, content: { kind: 'event', event } })]);
      const page = async (query: Partial<DeadLetterQuery>) => {
        const all = { filter: {}, sort: 'id', descending: true, offset: 0, limit: 10 } as const;
        const { letters, total } = await store.browse({ ...all, ...query });
        assert.ok(letters.every((each) => !('content' in each)));
        return [ids(letters), total];
      };
      assert.deepEqual(await page({}), [['z', 'e4', 'e3', 'e2', 'e1'], 5]);
      assert.deepEqual(await page({ descending: false, offset: 1, limit: 2 }), [['e2', 'e3'], 5]);
      assert.deepEqual(await page({ filter: { topic: TOPIC }, limit: 1 }), [['e3'], 2]);
      assert.deepEqual(await page({ sort: 'reason', descending: false }), [['e2', 'z', 'e1', 'e3', 'e4'], 5]);
      assert.deepEqual(await page({ sort: 'reason', limit: 2, offset: 2 }), [['e1', 'z'], 5]);
      assert.deepEqual(await page({ sort: 'attempts', limit: 2 }), [['z', 'e2'], 5]);
      assert.deepEqual(await page({ sort: 'user', limit: 2 }), [['z', 'e4'], 5]);
      assert.deepEqual(await page({ sort: 'topic', filter: { match: 'malformed' }, limit: 2 }), [['e3', 'e4'], 3]);
      const [newest] = (await store.browse({ filter: {}, sort: 'host', descending: true, offset: 0, limit: 1 }))
        .letters;
      assert.deepEqual([newest?.host, newest?.user, newest?.room], ['z.org', 'zoe@z.org', undefined]);
    });

    it('reads one by number, and nothing for an unknown number', async () => {
      const [first] = await store.find({}, 1);
      assert.deepEqual(await store.read(first?.id ?? 0), first);
      assert.equal(await store.read(1e9), undefined);
    });

    it('counts dead letters by reason and topic', async () => {
      const counts = await store.counts();
      assert.deepEqual(
        counts.map(({ reason, topic, count, replaying }) => [reason, topic, count, replaying]),
        [
          ['InvalidParameter', TOPIC, 1, 0],
          ['malformed', undefined, 2, 0],
          ['malformed', TOPIC, 1, 0],
        ],
      );
    });

    it('marks dead letters for replay once, and returns those marked', async () => {
      assert.deepEqual(await store.toReplay(10), []);
      let reached = 0;
      const onProgress = (count: number) => {
        reached = count;
      };
      assert.equal(await store.requestReplay({ topic: TOPIC }, onProgress), 2);
      assert.equal(reached, 2);
      assert.equal(await store.requestReplay({}), 2);
      assert.deepEqual(ids(await store.toReplay(3)), ['e1', 'e2', 'e3']);
      assert.ok((await store.find({}, 10)).every(({ replayRequested }) => replayRequested));
      assert.deepEqual(
        (await store.counts()).map(({ replaying }) => replaying),
        [1, 2, 1],
      );
    });

    it('deletes for good, and never reuses a number', async () => {
      const last = (await store.find({}, 10)).at(-1)?.id ?? 0;
      assert.equal(await store.purge({ topic: TOPIC }), 2);
      assert.deepEqual(await found(), ['e1', 'e4']);
      assert.equal(await store.purge({}), 2);
      assert.equal(await store.purge({}), 0);
      await store.put([letter('new')]);
      assert.ok(((await store.find({}, 1))[0]?.id ?? 0) > last);
    });
  });
}
