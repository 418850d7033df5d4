/** Makes a program clean up no matter how it ends: by a signal, even SIGKILL, by a closed pipe or by an error. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { guardFolder } from '../test/support/guard.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/**
 * From now on temporary files go to one folder, which is deleted at the end. Code that starts processes must stop them
 * in an `exit` listener added before this call.
 * @param name prefix of the folder's name
 */
export function leaveNothing(name: string): void {
  let folder: string | undefined;
  // Processes killed just now may still be writing.
  process.on('exit', () => {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  });
  for (const signal of SIGNALS) process.on(signal, () => process.exit(128 + constants.signals[signal]));
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', ({ code }: NodeJS.ErrnoException) => {
      // The reader is gone: `npm run demo | head`, or a closed terminal.
      process.exit(code === 'EPIPE' || code === 'EIO' ? 128 + constants.signals.SIGPIPE : 1);
    });
  if (process.env.npm_lifecycle_event !== undefined) endWithParent();
  // Last, so that a signal at any time finds its listener.
  folder = mkdtempSync(path.join(tmpdir(), `${name}-`));
  guardFolder(folder);
  // A server started by the program may run as another user.
  chmodSync(folder, 0o755);
  process.env.TMPDIR = folder;
}

/** Ends with npm: a killed npm leaves what it runs. */
function endWithParent(): void {
  const parent = process.ppid;
  const look = () => process.ppid === parent || process.exit(128 + constants.signals.SIGHUP);
  setInterval(look, 1_000).unref();
}
