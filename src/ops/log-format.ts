/** Formats of a log line: for machines, for a person at a terminal, for the journal. */
import { fstatSync } from 'node:fs';
import { prettyFactory } from 'pino-pretty';
import type { LogOptions } from '../config/options.ts';
import { json, printable, printableLines } from '../format.js';

export type LogFormat = NonNullable<LogOptions['format']>;

/** The destination of a log. */
export interface LogStream {
  readonly fd: number;
  readonly isTTY: boolean;
}

/** Converts a line of JSON to the line that is written; both include the line break. */
type Formatter = (line: string) => string;

/** The formatter of a format; undefined for JSON, which needs none. */
export function formatterOf(format: LogFormat): Formatter | undefined {
  if (format === 'json') return undefined;
  if (format === 'journald') return journalLine;
  const pretty = prettyFactory({ ignore: 'pid,hostname', translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l' });
  // Before colouring, which adds our own escape sequences.
  const harmless = (_: string, value: unknown) => (typeof value === 'string' ? printableLines(value) : value);
  return (line) => String(pretty(JSON.parse(line, harmless)));
}

/** The default format: the journal's if the journal reads the log, readable on a terminal, otherwise JSON. */
export function defaultFormat(stream: LogStream, environment: NodeJS.ProcessEnv = process.env): LogFormat {
  if (stream.isTTY) return 'pretty';
  return isJournal(stream.fd, environment.JOURNAL_STREAM) ? 'journald' : 'json';
}

/**
 * Whether a descriptor is the one that systemd has connected with the journal. The variable alone says nothing:
 * children inherit it, wherever their own output goes (systemd.exec(5)).
 */
function isJournal(fd: number, variable: string | undefined): boolean {
  if (!variable) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return variable === `${dev}:${ino}`;
  } catch {
    return false; // A closed descriptor.
  }
}

/** The priorities of sd-daemon(3), for `journalctl -p`. */
const PRIORITIES: Readonly<Record<string, number>> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7, trace: 7 };

/** `<4>topic paused topic=arn:… waiting=12`: one line, without the time, which the journal has. */
function journalLine(line: string): string {
  const { level, time: _, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const words = Object.entries(fields).map(([name, value]) => `${name}=${shown(value)}`);
  return `<${PRIORITIES[String(level)] ?? 6}>${[printable(String(msg ?? '')), ...words].join(' ')}\n`;
}

/** A plain word unchanged, anything else as JSON, without line breaks and control characters. */
const shown = (value: unknown): string =>
  typeof value === 'string' && /^[!#-<>-~]+$/.test(value) ? value : json(value);
