/**
 * Replays dead letters marked for it: at once on request, and at a start those left from the last run.
 *
 * Maintained invariants:
 * - One batch at a time; a call meanwhile makes it check again.
 * - A mark stays in the outbox until its dead letter is replaced, so a failure or a kill only delays the replay.
 */
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { DeadLetter, DeadLetterStore } from '../outbox/dead-letters.ts';

export interface Replays {
  /** Starts to replay all marked dead letters; returns at once. */
  wake(): void;
  /** Starts no further batch; resolves when the running one has ended. */
  stop(): Promise<void>;
}

interface ReplaySetup {
  readonly deadLetters: Pick<DeadLetterStore, 'toReplay'>;
  /** Puts dead letters through the pipeline again. */
  readonly replay: (letters: readonly DeadLetter[]) => Promise<void>;
  readonly log: Log;
  readonly batch?: number;
  /** How long to wait after a failure, in milliseconds. */
  readonly retryMs?: number;
}

const BATCH = 100;
const RETRY_MS = 1_000;

export function createReplays({ deadLetters, replay, log, batch = BATCH, retryMs = RETRY_MS }: ReplaySetup): Replays {
  let running: Promise<void> | undefined;
  let again = false;
  let stopped = false;
  let retry: NodeJS.Timeout | undefined;

  const run = async () => {
    try {
      for (let more = true; more && !stopped; ) {
        again = false;
        const letters = await deadLetters.toReplay(batch);
        if (letters.length > 0) await replay(letters);
        more = letters.length > 0 || again;
      }
    } catch (error) {
      log.warn({ problem: messageOf(error) }, 'replay postponed');
      // The outbox is full or its disk fails. The marks are on disk, so nothing is lost.
      if (!stopped) retry = setTimeout(wake, retryMs).unref();
    } finally {
      running = undefined;
    }
  };
  const wake = () => {
    again = true;
    clearTimeout(retry);
    if (!stopped) running ??= run();
  };

  return {
    wake,
    async stop() {
      stopped = true;
      clearTimeout(retry);
      await running;
    },
  };
}
