/**
 * Unhandled errors must neither end the daemon needlessly nor be printed: a message or stack may quote what people
 * wrote.
 */
import type { Logger } from '../ops/log.ts';
import { EXIT } from './exit-codes.ts';
import type { Signals } from './signals.ts';

/** Catches unhandled errors, and ensures that the process exits with 0 only after a signal. */
export function catchFaults(log: Logger, signals: Pick<Signals, 'stopAsked'>): void {
  // A rejection only affects the operation that it belongs to.
  process.on('unhandledRejection', () => {
    log.error('unhandled promise rejection, probably in a plugin; the daemon keeps running');
  });
  process.on('uncaughtException', (error: unknown, origin) => {
    // With --unhandled-rejections=strict each rejection comes here first.
    if (origin === 'unhandledRejection') return;
    log.fatal(kindOf(error), 'uncaught exception, probably in a plugin; the daemon exits');
    // The process's state is undefined now, so restart.
    process.exit(EXIT.failed);
  });
  // Node.js prints warnings, and with --unhandled-rejections=warn the text of a rejection is one.
  process.removeAllListeners('warning');
  process.on('warning', (warning) => {
    log.warn({ ...kindOf(warning), ...(isNodes(warning) && { problem: warning.message }) }, 'warning from Node.js');
  });
  process.on('exit', (code) => {
    if (code !== 0 || signals.stopAsked()) return;
    log.fatal('the process exits unexpectedly, probably because a plugin called process.exit');
    process.exitCode = EXIT.failed;
  });
}

/** Warnings whose text is Node.js's own, and never what people wrote. */
const isNodes = ({ name }: Error): boolean => /^(Experimental|Deprecation|MaxListenersExceeded)Warning$/.test(name);

function kindOf(error: unknown): { name?: string | undefined; code?: string | undefined } {
  const { name, code } = (error ?? {}) as { name?: unknown; code?: unknown };
  return { name: word(name), code: word(code) };
}

/** A name or code as they are usual; anything else could be a text. */
const word = (value: unknown): string | undefined =>
  typeof value === 'string' && /^[A-Za-z_]\w{0,63}$/.test(value) ? value : undefined;
