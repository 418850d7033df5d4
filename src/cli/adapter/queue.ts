/**
 * Reads an adapter's report on its queue: the file `status` in the queue's folder, one line of JSON, which the adapter
 * rewrites at most once a second while something changes (docs/adapters.md).
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

const status = z.object({
  /** Events that the daemon has not accepted yet. */
  waiting: z.int().min(0),
  /** When the daemon last accepted a batch, in milliseconds since the Unix epoch. */
  contact: z.int().optional(),
  /** Why it refused the last one. */
  problem: z.string().optional(),
});

export type QueueStatus = z.infer<typeof status>;

/** Undefined if the adapter hasn't written it: it has never run, or is too old. */
export function queueStatus(folder: string): QueueStatus | undefined {
  try {
    return status.safeParse(JSON.parse(readFileSync(path.join(folder, 'status'), 'utf8'))).data;
  } catch {
    return undefined; // Missing, or not written by an adapter; the caller reports that.
  }
}
