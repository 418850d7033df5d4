/** The log: JSON lines on standard output, readable lines when that is a terminal. */
import pino, { type Logger } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { createLogSink, type LogHealth } from './log-sink.ts';

export type { Logger };

/** Keys that never reach the log, at the top or one level down: what people wrote, and what opens doors. */
const REDACTED = ['body', 'message', 'stanza', 'secret', 'secret_access_key', 'authorization', 'token', 'sessionToken'];

const healths = new WeakMap<object, () => LogHealth>();

/**
 * @param level the least severe level that is written
 * @param stream standard output, or standard error where standard output is for results
 */
export function createLogger(
  level: string,
  stream: { readonly fd: number; readonly isTTY: boolean } = process.stdout,
): Logger {
  const options = { level, redact: REDACTED.flatMap((key) => [key, `*.${key}`]), base: undefined };
  const sink = createLogSink({
    fd: stream.fd,
    announce: (problem, lost) =>
      log
        .child({}, { level: 'error' })
        .error({ problem, lost }, 'the log could not be written: lines are missing here'),
  });
  const format = stream.isTTY ? prettyFactory({ ignore: 'pid,hostname' }) : undefined;
  const log = pino(options, format ? { write: (line) => sink.write(String(format(line))) } : sink);
  healths.set(log, sink.health);
  return log;
}

/** How a log is that `createLogger` made; one that somebody else made is taken for well. */
export const logHealth = (log: object): LogHealth => healths.get(log)?.() ?? { fault: undefined, lost: 0 };

/**
 * The same log for what is written whatever its level is: what people did, and what a reload leaves for a restart. Only
 * `silent` silences it.
 */
export function atAnyLevel(log: Logger): Logger {
  return log.isLevelEnabled('info') || log.level === 'silent' ? log : log.child({}, { level: 'info' });
}
