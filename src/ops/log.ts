/** The log, on standard output; `log-format.ts` has the format of its lines. */
import pino, { type Logger, type LoggerOptions } from 'pino';
import type { LogOptions } from '../config/options.ts';
import { defaultFormat, formatterOf, type LogStream } from './log-format.ts';
import { createLogSink, type LogHealth } from './log-sink.ts';

export type { Logger };

/** Keys that are never logged, at the top or one level down: content that people wrote, and secrets. */
const REDACTED = ['body', 'message', 'stanza', 'secret', 'secret_access_key', 'authorization', 'token', 'sessionToken'];

const healths = new WeakMap<object, () => LogHealth>();

/**
 * @param options the section `log`; a level alone stands for that and the default format
 * @param stream standard output, or standard error where standard output is for results
 */
export function createLogger(options: LogOptions | LogOptions['level'], stream: LogStream = process.stdout): Logger {
  const { level, format = defaultFormat(stream) } = typeof options === 'string' ? { level: options } : options;
  const settings: LoggerOptions = {
    level,
    base: undefined,
    redact: REDACTED.flatMap((key) => [key, `*.${key}`]),
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  };
  const sink = createLogSink({
    fd: stream.fd,
    announce: (problem, lost) =>
      log
        .child({}, { level: 'error' })
        .error({ problem, lost }, 'lines are missing here: the log could not be written'),
  });
  const formatter = formatterOf(format);
  const log = pino(settings, formatter ? { write: (line) => sink.write(formatter(line)) } : sink);
  healths.set(log, sink.health);
  return log;
}

/** The state of a log from `createLogger`; any other counts as healthy. */
export const logHealth = (log: object): LogHealth => healths.get(log)?.() ?? { fault: undefined, lost: 0 };

/**
 * The same log for lines that are written at any level: people's actions, and changes that a reload leaves for a
 * restart. Only `silent` silences it.
 */
export function atAnyLevel(log: Logger): Logger {
  return log.isLevelEnabled('info') || log.level === 'silent' ? log : log.child({}, { level: 'info' });
}
