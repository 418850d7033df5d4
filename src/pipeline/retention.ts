/** Deletes dead letters past their retention, for rules on personal data. */
import { setInterval } from 'node:timers';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { DeadLetterStore } from '../outbox/dead-letters.ts';

const HOUR_MS = 3_600_000;

interface RetentionSetup {
  readonly deadLetters: Pick<DeadLetterStore, 'browse' | 'purge'>;
  /** The retention, in milliseconds. */
  readonly keepMs: number;
  readonly log: Log;
  readonly now?: () => number;
}

/** Deletes expired ones; returns their number. Numbers ascend with time, so the last expired one determines all. */
export async function deleteExpired({ deadLetters, keepMs, now = Date.now }: RetentionSetup): Promise<number> {
  const expired = now() - keepMs;
  const at = async (offset: number) => {
    const query = { filter: {}, sort: 'id', descending: false, offset, limit: 1 } as const;
    const { letters, total } = await deadLetters.browse(query);
    const [letter] = letters;
    return { total, id: letter && letter.diedAt < expired ? letter.id : undefined };
  };
  const first = await at(0);
  if (first.id === undefined) return 0;
  let [lastId, from, to] = [first.id, 0, first.total];
  // Invariant: `from` is expired, `to` is not or does not exist.
  while (to - from > 1) {
    const middle = Math.floor((from + to) / 2);
    const { id } = await at(middle);
    if (id === undefined) to = middle;
    else [lastId, from] = [id, middle];
  }
  return deadLetters.purge({ upToId: lastId });
}

/** Deletes now and every hour; returns a function to stop. */
export function startRetention(setup: RetentionSetup): () => void {
  const { log } = setup;
  let stopped = false;
  const run = async () => {
    try {
      const count = await deleteExpired(setup);
      if (count > 0) log.info({ count, keepMs: setup.keepMs }, 'deleted dead letters older than outbox.retention');
    } catch (error) {
      // A stop closes the store meanwhile; the rest is deleted after the next start.
      if (!stopped) log.error({ problem: messageOf(error) }, "can't delete dead letters older than outbox.retention");
    }
  };
  void run();
  const timer = setInterval(run, HOUR_MS).unref();
  return () => {
    stopped = true;
    clearInterval(timer);
  };
}
