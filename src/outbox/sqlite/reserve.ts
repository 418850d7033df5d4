/**
 * Room on the disk that is kept free for the worst moment: a file beside the outbox that is removed when the disk is
 * full, so that what SNS already has can still be struck out. It is as large as SQLite's log may grow, for that is what
 * emptying the log into the database file can take; then the log is used again in place.
 */
import { closeSync, openSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';

export interface Reserve {
  /** Its size in bytes. */
  readonly size: number;
  /** Makes it, if it is not there; false while the disk has no room for it and as much again. */
  restore(): boolean;
  /** Gives its room away. */
  release(): void;
}

/** How large it is where there is room, in bytes; on a small disk a tenth of what is free. */
const MOST_BYTES = 34 * 1_048_576;
const LEAST_BYTES = 65_536;
const SHARE = 0.1;
const CHUNK = Buffer.alloc(65_536);

/** @param file of the outbox, whose folder exists */
export function createReserve(file: string): Reserve {
  const name = `${file}.reserve`;
  const present = statSync(name, { throwIfNoEntry: false })?.size ?? 0;
  const size = Math.max(LEAST_BYTES, Math.min(MOST_BYTES, Math.floor((freeBytes(file) + present) * SHARE)));
  // Either may fail with the disk, of which those who ask for them know already.
  const release = () => {
    try {
      rmSync(name, { force: true });
    } catch {
      // A disk that nothing can be removed from has no room to give either.
    }
  };
  return {
    size,
    release,
    restore() {
      try {
        if ((statSync(name, { throwIfNoEntry: false })?.size ?? 0) >= size) return true;
        if (freeBytes(file) < 2 * size) return false;
        write(name, size);
        return true;
      } catch {
        release(); // Somebody else was faster: half a reserve is none.
        return false;
      }
    },
  };
}

function freeBytes(file: string): number {
  const { bavail, bsize } = statfsSync(path.dirname(file));
  return bavail * bsize;
}

/** Writes it out, for a file with a hole in place of its content would keep no room. */
function write(name: string, size: number): void {
  const handle = openSync(name, 'w', 0o600);
  try {
    for (let written = 0; written < size; )
      written += writeSync(handle, CHUNK, 0, Math.min(CHUNK.length, size - written));
  } finally {
    closeSync(handle);
  }
}
