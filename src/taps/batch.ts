/** The tap protocol's rules for a batch's source and numbers. */
import { z } from 'zod';
import { name } from '../event.ts';

/** Far beyond any queue, and far below the largest number that the outbox returns exactly: 2^53. */
const MAX_FIRST_SEQ = 2 ** 48;

export const sourceName = name('the name of the sending server node').describe(
  'stable name of the sending server node',
);

export const epochName = name("the name of the source's queue").describe(
  'one run of the adapter, made at its start and kept beside its events',
);

export const firstSeq = z
  .int({ error: 'should be a whole number', abort: true })
  .min(1, 'should be 1 or more')
  .max(MAX_FIRST_SEQ, `should be at most ${MAX_FIRST_SEQ}`)
  .describe('number of events[0] in that run; events are numbered 1, 2, 3 … without gaps');
