/**
 * The signals of the daemon. They are listened to before the program itself is loaded: until somebody listens, a SIGHUP
 * ends the process, and as process 1 of a container it never sees a SIGTERM or SIGINT.
 *
 * Maintained invariants:
 * - The first signal to stop counts, whenever it comes.
 * - A later one ends the process at once. One that comes with the first, from a wrapper that passes it on, does not count.
 */
import { constants } from 'node:os';

export interface Signals {
  /** Resolves at the first signal to stop. */
  readonly stop: Promise<NodeJS.Signals>;
  /** Whether it has come. */
  stopAsked(): boolean;
  /** Calls `reload` at each SIGHUP from now on, and at once when one came before. */
  onReload(reload: () => void): void;
}

/** Within how many milliseconds a second signal is taken for the first one's twin. */
const TOGETHER_MS = 500;

const STOPPING = ['SIGTERM', 'SIGINT'] as const;

let signals: Signals | undefined;

/** Listens to SIGTERM, SIGINT and SIGHUP from the first call on; answers the same to all who call it. */
export function listenToSignals(): Signals {
  signals ??= createSignals();
  return signals;
}

function createSignals(): Signals {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let askedAt: number | undefined;
  for (const signal of STOPPING)
    process.on(signal, () => {
      if (askedAt !== undefined && performance.now() - askedAt > TOGETHER_MS) process.exit(exitCodeOf(signal));
      askedAt ??= performance.now();
      resolve(signal);
    });
  let reload: (() => void) | undefined;
  let missed = false;
  process.on('SIGHUP', () => {
    if (reload) reload();
    else missed = true;
  });
  return {
    stop: promise,
    stopAsked: () => askedAt !== undefined,
    onReload(listener) {
      reload = listener;
      if (missed) reload();
    },
  };
}

/**
 * Ends the process at SIGTERM and SIGINT also as process 1, for which the system's default is to ignore them.
 * @public bin/xmpp-event-pusher.js calls it
 */
export function endAtSignals(): void {
  if (process.pid !== 1) return;
  for (const signal of STOPPING) process.on(signal, () => process.exit(exitCodeOf(signal)));
}

/** As shells name it: 128 and the signal's number. */
const exitCodeOf = (signal: NodeJS.Signals): number => 128 + constants.signals[signal];
