/** Searches the record's file: newest first, block by block, pausing between blocks. */
import type { Search } from '../outbox/sqlite/find.ts';
import type { TraceFile } from './file.ts';
import type { InRecord } from './messages.ts';
import { recordsIn, type TraceRecord } from './record.ts';

/** The newest `limit` matching records, newest first. */
export async function searchRecords(
  file: TraceFile,
  { wanted, limit, from, until, pause }: Search,
): Promise<Pick<InRecord, 'records' | 'unreadable'>> {
  const found: TraceRecord[] = [];
  let unreadable = 0;
  for (let below = Number.MAX_SAFE_INTEGER; found.length < limit; await pause()) {
    const block = file.block(below, from, until);
    if (!block) break;
    below = block.id;
    if (block.text === undefined) unreadable += 1;
    if (block.text === undefined) continue;
    if (!wanted.mayBeIn(block.text.toLowerCase())) continue;
    for (const line of block.text.split('\n')) {
      if (!wanted.mayBeIn(line.toLowerCase())) continue;
      for (const record of recordsIn(line)) if (isWanted(record)) found.push(record);
    }
  }
  return { records: found.sort((a, b) => b.at - a.at).slice(0, limit), unreadable };

  function isWanted({ eventId, names, at, outcome }: TraceRecord): boolean {
    if (at < from || at > until) return false;
    return wanted.matches({ eventId, names, ...(outcome.kind === 'delivered' && { messageId: outcome.messageId }) });
  }
}
