/**
 * What an adapter says of its queue: the file `status` in the queue's folder, one line of JSON, which it writes anew at
 * most once a second while something changes (docs/adapters.md).
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

const status = z.object({
  /** Events that the daemon has not taken yet. */
  waiting: z.int().min(0),
  /** When the daemon last took a batch, in milliseconds since the Unix epoch. */
  contact: z.int().optional(),
  /** Why it did not take the last one. */
  problem: z.string().optional(),
});

export type QueueStatus = z.infer<typeof status>;

/** Undefined where the adapter has not written it: it did not run yet, or it is an older one. */
export function queueStatus(folder: string): QueueStatus | undefined {
  try {
    return status.safeParse(JSON.parse(readFileSync(path.join(folder, 'status'), 'utf8'))).data;
  } catch {
    return undefined; // Not there, or not written by an adapter: nothing is known, as the caller says.
  }
}
