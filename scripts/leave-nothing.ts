/** Sees to it that a program leaves nothing behind, whatever ends it: a signal, a closed pipe, an error. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/**
 * From here on temporary files go to one folder, which is removed at the end. Whoever starts processes has to end them at
 * `exit`, with a listener that was there before this is called.
 * @param name what the folder's name begins with
 */
export function leaveNothing(name: string): void {
  const folder = mkdtempSync(path.join(tmpdir(), `${name}-`));
  // A server that the program starts may run as another user.
  chmodSync(folder, 0o755);
  process.env.TMPDIR = folder;
  // What was killed a moment ago may still be writing.
  process.on('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }));
  for (const signal of SIGNALS) process.on(signal, () => process.exit(128 + constants.signals[signal]));
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', ({ code }: NodeJS.ErrnoException) => {
      // Nobody reads any more: `npm run demo | head`, or a terminal that was closed.
      process.exit(code === 'EPIPE' || code === 'EIO' ? 128 + constants.signals.SIGPIPE : 1);
    });
}
