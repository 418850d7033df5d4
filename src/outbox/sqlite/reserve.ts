/**
 * Reserved disk space: a file beside the outbox that is removed when the disk is full, so that settlements can still be
 * written. It is as large as SQLite's WAL may grow, because a checkpoint may need that much; afterwards the WAL is
 * reused in place.
 */
import { closeSync, rmSync, statfsSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import { createPrivate } from '../../private-file.ts';

export interface Reserve {
  /** Its size in bytes. */
  readonly size: number;
  /** Creates it if missing; false while the disk lacks room for twice its size. */
  restore(): boolean;
  /** Frees its space. */
  release(): void;
}

/** Its size in bytes with enough room; on a small disk a tenth of the free space. */
const MOST_BYTES = 34 * 1_048_576;
const LEAST_BYTES = 65_536;
const SHARE = 0.1;
const CHUNK = Buffer.alloc(65_536);

/** @param file the outbox's, in an existing folder */
export function createReserve(file: string): Reserve {
  const name = `${file}.reserve`;
  const present = statSync(name, { throwIfNoEntry: false })?.size ?? 0;
  const size = Math.max(LEAST_BYTES, Math.min(MOST_BYTES, Math.floor((freeBytes(file) + present) * SHARE)));
  // Both may fail with the disk, which the callers know already.
  const release = () => {
    try {
      rmSync(name, { force: true });
    } catch {
      // A disk that can't delete files has no room either.
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
        release(); // Another process took the space: half a reserve is useless.
        return false;
      }
    },
  };
}

function freeBytes(file: string): number {
  const { bavail, bsize } = statfsSync(path.dirname(file));
  return bavail * bsize;
}

/** Writes real bytes, because a sparse file would reserve nothing. */
function write(name: string, size: number): void {
  // What is left of one that was made halfway goes; a link is not followed.
  rmSync(name, { force: true });
  const handle = createPrivate(name);
  try {
    for (let written = 0; written < size; )
      written += writeSync(handle, CHUNK, 0, Math.min(CHUNK.length, size - written));
  } finally {
    closeSync(handle);
  }
}
