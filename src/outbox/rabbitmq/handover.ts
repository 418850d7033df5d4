/**
 * Saves a stopping daemon's knowledge of its parcels beside its file of dead letters: their settled places, and the
 * queues' contents. The next start reads it, so that an orderly stop repeats nothing.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { FORMAT } from '../../rabbitmq/format.ts';
import type { Depth } from './depths.ts';

export interface Handover {
  readonly settled: readonly (readonly [parcel: string, places: string])[];
  readonly depths: readonly (readonly [queue: string, depth: Depth])[];
}

/** Most returned parcels to remember. */
const MOST_SETTLED = 20_000;

const NOTHING: Handover = { settled: [], depths: [] };

/** Reads and deletes the file, so that a later kill leaves no outdated one. */
export function takeHandover(file: string): Handover {
  try {
    const text = readFileSync(file, 'utf8');
    rmSync(file);
    const { format = FORMAT, ...handover } = JSON.parse(text) as Handover & { format?: number };
    return format > FORMAT ? NOTHING : handover;
  } catch {
    return NOTHING; // Missing or unreadable: the delivered part of a parcel is repeated.
  }
}

export function leaveHandover(file: string, handover: Handover): void {
  writeFileSync(`${file}.new`, JSON.stringify({ format: FORMAT, ...handover }), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Adds the settled places of parcels that were returned; forgets the oldest ones beyond a limit. */
export function remember(settled: Map<string, string>, parcels: Handover['settled']): void {
  for (const [id, places] of parcels) settled.set(id, places);
  for (const id of settled.keys()) {
    if (settled.size <= MOST_SETTLED) break;
    settled.delete(id);
  }
}
