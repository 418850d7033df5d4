/**
 * What a daemon knows of its parcels when it ends, beside its file of dead letters: which places of them are settled, and
 * how much the queues hold. Read at the next start, so that an orderly end repeats nothing.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Depth } from './depths.ts';

export interface Handover {
  readonly settled: readonly (readonly [parcel: string, places: string])[];
  readonly depths: readonly (readonly [queue: string, depth: Depth])[];
}

const NOTHING: Handover = { settled: [], depths: [] };

/** Reads what was left, once: a kill after this leaves nothing that is out of date. */
export function takeHandover(file: string): Handover {
  try {
    const text = readFileSync(file, 'utf8');
    rmSync(file);
    return JSON.parse(text) as Handover;
  } catch {
    return NOTHING; // None was left, or it can't be read: what of a parcel was delivered is repeated then.
  }
}

export function leaveHandover(file: string, handover: Handover): void {
  writeFileSync(`${file}.new`, JSON.stringify(handover), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
