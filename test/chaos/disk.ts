/** A small disk that can be filled: a tmpfs, which requires the right to mount. */
import { execFile } from 'node:child_process';
import { mkdtemp, open, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Disk extends AsyncDisposable {
  readonly path: string;
  /** Uses up all free space, also repeatedly. */
  fill(): Promise<void>;
  /** Frees the space used by `fill`. */
  free(): Promise<void>;
}

export async function mountDisk(bytes: number): Promise<Disk> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pusher-disk-'));
  await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder]).catch(async (error: Error) => {
    await rmdir(folder);
    throw new Error(`this test fills a disk, and needs the right to mount a tmpfs (root has it): ${error.message}`);
  });
  const filler = path.join(folder, 'filler');
  return {
    path: folder,
    async fill() {
      const file = await open(filler, 'a');
      // First in large pieces, then in single pages, until nothing fits.
      for (const piece of [1_048_576, 4_096]) {
        const zeros = Buffer.alloc(piece);
        try {
          for (;;) await file.appendFile(zeros);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        }
      }
      await file.close();
    },
    free: () => rm(filler, { force: true }),
    async [Symbol.asyncDispose]() {
      await run('umount', ['--lazy', folder]);
      await rmdir(folder);
    },
  };
}
