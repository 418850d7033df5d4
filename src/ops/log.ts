/** The log: JSON lines on standard output, readable lines when that is a terminal. */
import pino, { type Logger } from 'pino';
import pretty from 'pino-pretty';

export type { Logger };

/** Keys that never reach the log, at the top or one level down: what people wrote, and what opens doors. */
const REDACTED = ['body', 'message', 'stanza', 'secret', 'secret_access_key', 'authorization', 'token', 'sessionToken'];

/**
 * @param level the least severe level that is written
 * @param stream standard output, or standard error where standard output is for results
 */
export function createLogger(
  level: string,
  stream: typeof process.stdout | typeof process.stderr = process.stdout,
): Logger {
  const options = { level, redact: REDACTED.flatMap((key) => [key, `*.${key}`]), base: undefined };
  // Synchronous: what a dying daemon last said is what its operator needs most.
  const { fd } = stream;
  if (stream.isTTY) return pino(options, pretty({ sync: true, ignore: 'pid,hostname', destination: fd }));
  return pino(options, pino.destination({ fd, sync: true }));
}

/**
 * The same log for what is written whatever its level is: what people did, and what a reload leaves for a restart. Only
 * `silent` silences it.
 */
export function atAnyLevel(log: Logger): Logger {
  return log.isLevelEnabled('info') || log.level === 'silent' ? log : log.child({}, { level: 'info' });
}
