/**
 * Watches the outbox's files for changes by others: removed, moved, replaced, truncated, or a WAL that another process
 * keeps from being checkpointed. SQLite itself doesn't notice the former, and continues with files that no start will
 * find.
 */
import { type BigIntStats, fstatSync, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { bytes } from '../../format.js';

/** Interval between checks of the files, in milliseconds. Events acknowledged in between may be lost. */
const WATCH_MS = 1_000;
/** Shortest time between checks of the WAL's size, in milliseconds. */
const EXCESS_MS = 20;
/**
 * Up to how many times its usual size the WAL may grow while it can't be emptied. On a small disk the usual size is a tenth
 * of the free space, and emptying it needs its size again: with four times, what was written between two checks could
 * leave too little.
 */
const LOG_LIMIT = 3;

interface Watched {
  readonly file: string;
  /** A handle on SQLite's log. */
  readonly log: number;
  /** The WAL's size if nothing blocks it, in bytes. */
  readonly usualLogBytes: number;
  /** The file's expected size once it has the whole WAL, in bytes. */
  readonly wholeBytes: () => number;
  /** Tries to empty the WAL. */
  readonly checkpoint: () => void;
  /** Called once when the WAL can't be emptied. */
  readonly stuck: (logBytes: number) => void;
  /** Called when the problem changes; undefined: no problem any more. */
  readonly changed: (problem: string | undefined) => void;
}

export interface Surroundings {
  /** Why nothing new may be kept; undefined if it may. */
  readonly problem: string | undefined;
  /** By how much the WAL exceeds its usual size, in bytes. */
  excessLogBytes(): number;
  close(): void;
}

type Identity = Pick<BigIntStats, 'dev' | 'ino'>;

export function watchSurroundings(watched: Watched): Surroundings {
  const { file, log, usualLogBytes, wholeBytes, checkpoint, stuck, changed } = watched;
  const parts = [file, `${file}-wal`].map((name) => ({ name, identity: identityOf(statSync(name, { bigint: true })) }));
  let problem: string | undefined;
  let closed = false;
  let lastSize = statSync(file).size;
  let said = false;
  // The WAL is closed with the outbox, perhaps during a check.
  const excess = () => (closed ? 0 : Math.max(fstatSync(log).size - usualLogBytes, 0));

  const look = async (): Promise<string | undefined> => {
    for (const { name, identity } of parts) {
      const found = await stat(name, { bigint: true }).catch((error: NodeJS.ErrnoException) => error.code ?? 'gone');
      if (closed) return undefined;
      if (typeof found === 'string')
        return found === 'ENOENT' ? lost(name, 'was removed or moved') : lost(name, `can't be looked at (${found})`);
      const { dev, ino } = identityOf(found);
      if (dev !== identity.dev || ino !== identity.ino) return lost(name, 'was replaced by another file');
      if (name !== file) continue;
      const size = Number(found.size);
      // A VACUUM makes it smaller too, but then it is complete.
      if (size < lastSize && size < wholeBytes()) return lost(name, 'was cut short');
      lastSize = size;
    }
    if (excess() > 0) checkpoint();
    if (excess() > 0 && !said) stuck(fstatSync(log).size);
    said = excess() > 0;
    return undefined;
  };
  let excessAt = Number.NEGATIVE_INFINITY;
  let lastExcess = 0;
  /** Called at each commit, because a WAL can grow by hundreds of megabytes per second. */
  const logProblem = () => {
    const now = performance.now();
    if (now - excessAt > EXCESS_MS) {
      excessAt = now;
      lastExcess = excess();
    }
    if (lastExcess < (LOG_LIMIT - 1) * usualLogBytes) return undefined;
    return `its write-ahead log ${file}-wal has grown to ${bytes(fstatSync(log).size)}, because another process keeps a read transaction open: end that process`;
  };
  const timer = setInterval(async () => {
    const found = (await look()) ?? logProblem();
    if (closed || found === problem) return;
    problem = found;
    changed(found);
  }, WATCH_MS).unref();

  return {
    get problem() {
      return problem ?? logProblem();
    },
    excessLogBytes: excess,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}

const identityOf = ({ dev, ino }: BigIntStats): Identity => ({ dev, ino });

const lost = (name: string, what: string): string =>
  `${name} ${what} while the daemon had it open: put it back, or restart the daemon, which creates an empty one; events acknowledged in the last second may be lost`;
