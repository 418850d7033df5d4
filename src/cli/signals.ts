/**
 * The signals of the daemon. The command records those that arrive before this module is loaded.
 *
 * Maintained invariants:
 * - The first signal to stop counts, whenever it comes.
 * - A later one ends the process at once; not one that arrives with the first, forwarded by a wrapper.
 */
import { constants } from 'node:os';

export interface Signals {
  /** Resolves at the first signal to stop. */
  readonly stop: Promise<NodeJS.Signals>;
  /** Whether it has come. */
  stopAsked(): boolean;
  /** Calls `reload` at each SIGHUP from now on, and at once if one came earlier. */
  onReload(reload: () => void): void;
}

/** Time within which a second signal counts as a duplicate of the first, in milliseconds. */
const TOGETHER_MS = 500;

const STOPPING = ['SIGTERM', 'SIGINT'] as const;

let signals: Signals | undefined;

/**
 * Listens to SIGTERM, SIGINT and SIGHUP from the first call on; returns the same object to all callers.
 * @param earlier signals that arrived before
 */
export function listenToSignals(earlier: readonly NodeJS.Signals[] = []): Signals {
  signals ??= createSignals(earlier);
  return signals;
}

function createSignals(earlier: readonly NodeJS.Signals[]): Signals {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let askedAt: number | undefined;
  let reload: (() => void) | undefined;
  let missed = false;
  const stop = (signal: NodeJS.Signals) => {
    if (askedAt !== undefined && performance.now() - askedAt > TOGETHER_MS) process.exit(exitCodeOf(signal));
    askedAt ??= performance.now();
    resolve(signal);
  };
  const hangUp = () => {
    if (reload) reload();
    else missed = true;
  };
  for (const signal of STOPPING) process.on(signal, stop);
  process.on('SIGHUP', hangUp);
  for (const signal of earlier) signal === 'SIGHUP' ? hangUp() : stop(signal);
  return {
    stop: promise,
    stopAsked: () => askedAt !== undefined,
    onReload(listener) {
      reload = listener;
      if (missed) reload();
    },
  };
}

/** The exit code by the shells' convention: 128 plus the signal's number. */
const exitCodeOf = (signal: NodeJS.Signals): number => 128 + constants.signals[signal];
