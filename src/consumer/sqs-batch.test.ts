import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Parsed } from './notification.ts';
import { sqsBatch } from './sqs-batch.ts';

const record = (messageId: string, user: string, seq: number, group?: string) => ({
  messageId,
  body: JSON.stringify({ user_id: user, present: true, event_id: `node/e/${seq}`, timestamp: 7 }),
  attributes: group === undefined ? {} : { MessageGroupId: group },
  eventSource: 'aws:sqs',
});
const userOf = (item: Parsed) => (item.kind === 'presence' ? item.user_id : item.kind);
const failures = (...ids: string[]) => ({ batchItemFailures: ids.map((itemIdentifier) => ({ itemIdentifier })) });

describe('sqsBatch', () => {
  it("handles a standard queue's batch in the order of its events", async () => {
    const handled: string[] = [];
    const handler = sqsBatch((item) => handled.push(userOf(item)));
    const Records = [record('m3', 'c', 3), record('m1', 'a', 1), record('m2', 'b', 2)];
    assert.deepEqual(await handler({ Records }), failures());
    assert.deepEqual(handled, ['a', 'b', 'c']);
  });

  it('reports only the failed records, once each, with the reason', async () => {
    const errors: unknown[] = [];
    const handler = sqsBatch(
      async (item) => {
        if (userOf(item) === 'b') throw new Error('no');
        assert.notEqual(item.kind, 'malformed');
      },
      { onError: (error, item) => errors.push([(error as Error).name, userOf(item)]) },
    );
    const broken = { ...record('m4', 'd', 4), body: 'broken' };
    const answer = await handler({
      Records: [record('m1', 'a', 1), record('m2', 'b', 2), record('m3', 'c', 3), broken],
    });
    assert.deepEqual(answer, failures('m4', 'm2'));
    assert.deepEqual(errors, [
      ['AssertionError', 'malformed'],
      ['Error', 'b'],
    ]);
  });

  it('keeps the order of a FIFO queue, and stops a group after a failure', async () => {
    const handled: string[] = [];
    const handler = sqsBatch((item) => {
      if (userOf(item) === 'a2') throw new Error('no');
      handled.push(userOf(item));
    });
    const Records = [
      record('m1', 'a1', 9, 'A'),
      record('m2', 'a2', 8, 'A'),
      record('m3', 'b1', 7, 'B'),
      record('m4', 'a3', 6, 'A'),
    ];
    assert.deepEqual(await handler({ Records }), failures('m2', 'm4'));
    assert.deepEqual(handled, ['a1', 'b1']);
  });

  it('reports no record for input that is not an SQS batch, so that Lambda repeats all of it', async () => {
    const handler = sqsBatch(() => {
      throw new Error('no');
    });
    assert.deepEqual(await handler({ unknown: true }), failures(''));
  });
});
