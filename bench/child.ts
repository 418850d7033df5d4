/** Processes that a benchmark forks and exchanges messages with. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** The child's next message; rejects if it ends first. */
export async function next(child: ChildProcess): Promise<unknown> {
  const gone = new AbortController();
  const abort = () => gone.abort();
  child.once('exit', abort);
  try {
    const [said] = await once(child, 'message', { signal: gone.signal });
    return said;
  } finally {
    child.off('exit', abort);
  }
}
