/** A small disk for tests: a tmpfs, which root can mount. Without the right to do so the test fails and says it. */
import { execFile } from 'node:child_process';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface SmallDisk extends AsyncDisposable {
  readonly folder: string;
  /** Lets nothing be written any more. */
  makeReadOnly(): Promise<void>;
}

/** @param size as mount takes it, such as `2m` */
export async function mountSmallDisk(size: string): Promise<SmallDisk> {
  const folder = await mkdtemp(path.join(tmpdir(), 'small-disk-'));
  await run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder]).catch((error: Error) => {
    throw new Error(`this test needs the right to mount a tmpfs (root): ${error.message}`);
  });
  return {
    folder,
    async makeReadOnly() {
      await run('mount', ['-o', 'remount,ro', folder]);
    },
    async [Symbol.asyncDispose]() {
      // Lazily, for a test that failed may have left files on it open.
      await run('umount', ['--lazy', folder]);
      await rmdir(folder);
    },
  };
}
