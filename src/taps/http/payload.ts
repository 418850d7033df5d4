/** The schema of a batch, version 1 of the tap protocol, from which `schemas/tap-protocol.schema.json` is generated. */
import { z } from 'zod';
import { epochName, firstSeq, sourceName } from '../batch.ts';

/** Limits of a batch: number of events, and bytes of its JSON (4 MiB). */
export const MAX_EVENTS = 1_000;
export const MAX_BATCH_BYTES = 4_194_304;
const MESSAGE_BOTH = 'epoch and first_seq go together';
export const batchSchema = z
  .object({
    source: sourceName,
    epoch: epochName.optional(),
    first_seq: firstSeq.optional(),
    events: z.array(z.unknown(), 'should be a list of events'),
  })
  .refine(({ epoch, first_seq }) => (epoch === undefined) === (first_seq === undefined), { error: MESSAGE_BOTH });
