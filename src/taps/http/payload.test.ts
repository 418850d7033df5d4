import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ABSENT, changed, show } from '../../../test/support/varied.ts';
import { problemOf } from '../../event.ts';
import { batchSchema } from './payload.ts';

describe('a batch of the tap protocol', () => {
  const BATCH = { source: 'prosody@chat1', epoch: '9f2c41d07a', first_seq: 1_712, events: [] };
  const batchProblem = (input: unknown): string | undefined => {
    const result = batchSchema.safeParse(input);
    return result.success ? undefined : problemOf(result.error);
  };

  it('accepts a batch with and without numbers, and with events of any form', () => {
    assert.equal(batchProblem(BATCH), undefined);
    assert.equal(batchProblem({ source: 's', events: [null, 5, {}] }), undefined);
    assert.equal(
      batchProblem({ ...BATCH, source: 'x'.repeat(256), epoch: 'y'.repeat(256), first_seq: 2 ** 48 }),
      undefined,
    );
  });

  const SOURCE = 'should be the name of the sending server node';
  for (const [field, value, expected] of [
    ['source', ABSENT, `source: ${SOURCE}`],
    ['source', 5, `source: ${SOURCE}`],
    ['source', '', `source: ${SOURCE}, not empty`],
    ['source', 'x'.repeat(257), `source: ${SOURCE} of at most 256 characters`],
    ['source', 'a\nb\u0000', 'source: holds U+0000, which XML does not allow'],
    ['source', 'a\nb', `source: ${SOURCE} without control characters`],
    ['source', 'a\u0085', `source: ${SOURCE} without control characters`],
    ['epoch', 'a\tb', "epoch: should be the name of the source's queue without control characters"],
    ['epoch', '', "epoch: should be the name of the source's queue, not empty"],
    ['epoch', 5, "epoch: should be the name of the source's queue"],
    ['epoch', ABSENT, 'epoch and first_seq go together'],
    ['first_seq', ABSENT, 'epoch and first_seq go together'],
    ['first_seq', 0, 'first_seq: should be 1 or more'],
    ['first_seq', 1.5, 'first_seq: should be a whole number'],
    ['first_seq', '1', 'first_seq: should be a whole number'],
    ['first_seq', 2 ** 53, 'first_seq: should be a whole number'],
    ['first_seq', 2 ** 48 + 1, `first_seq: should be at most ${2 ** 48}`],
    ['events', ABSENT, 'events: should be a list of events'],
    ['events', {}, 'events: should be a list of events'],
  ] as const)
    it(`refuses a batch with ${field} ${show(value)}: ${expected}`, () => {
      assert.equal(batchProblem(changed(BATCH, field, value)), expected);
    });

  it('refuses a batch that is not an object', () => {
    for (const input of [null, [], 'text', 5]) assert.ok(batchProblem(input));
  });
});
