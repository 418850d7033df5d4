/** A new file for each test of the calling suite. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach } from 'node:test';

export interface NewFile {
  /** The folder of all the suite's files, deleted at its end. */
  readonly folder: string;
  /** Where no file is yet. */
  readonly file: string;
}

/** Calls `use` before each test of the calling suite. */
export function beforeEachWithFile(use: (at: NewFile) => void): void {
  let folder: string;
  let files = 0;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'outbox-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  beforeEach(() => use({ folder, file: path.join(folder, `${++files}.db`) }));
}
