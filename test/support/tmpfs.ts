/** A small disk for tests: a tmpfs, which only root can mount. Without that right the test fails and says so. */
import { execFile } from 'node:child_process';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface SmallDisk extends AsyncDisposable {
  readonly folder: string;
  /** Makes the disk read-only. */
  makeReadOnly(): Promise<void>;
}

/** @param size for mount, such as `2m` */
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
      // Lazily, because a failed test may have left files open.
      await run('umount', ['--lazy', folder]);
      await rmdir(folder);
    },
  };
}
