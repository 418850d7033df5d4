/** Processes that a benchmark forks and talks to. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** The next thing that a child says; rejects when it ends instead. */
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
