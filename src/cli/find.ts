/** `find`: finds an event's outcome by user, room or id. */
import { existsSync, realpathSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { Command, InvalidArgumentError } from 'commander';
import type { PusherConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import { count } from '../format.js';
import { outboxFileOf } from '../open-outbox.ts';
import { TraceFile } from '../trace/file.ts';
import { type Found, findAll, MOST_FINDINGS } from '../trace/find.ts';
import { searchOf, searchOutbox } from '../trace/keeper.ts';
import { type Asked, type InRecord, type TraceState, traceBeside } from '../trace/messages.ts';
import { searchRecords } from '../trace/search.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { EXIT } from './exit-codes.ts';
import { describeFound } from './find-text.ts';
import { configurable, positiveNumber } from './options.ts';
import { printJson } from './print.ts';
import { withOutbox } from './with-outbox.ts';

interface Options extends ConfigFlags {
  json?: boolean;
  since?: number;
  until?: number;
  limit: number;
}

export function findCommand(): Command {
  return configurable(new Command('find'))
    .description(
      'Show what happened to events: delivered, waiting, skipped, dead, or never seen. Exit code 1: never seen.',
    )
    .argument('<what>', "a user or a room (with or without resource), an event's id, a stanza's, or SNS's MessageId")
    .option('--since <time>', 'only what happened since then: 2026-11-29T14:00Z, or 90s, 15m, 2h, 3d ago', moment)
    .option('--until <time>', 'only what happened until then', moment)
    .option('--limit <number>', 'show at most this many, newest first; 1,000 or fewer', limitNumber, 50)
    .option('--json', 'print JSON lines: one for each finding, and one for what was searched')
    .action(find);
}

async function find(text: string, { json = false, since, until, limit, ...flags }: Options): Promise<void> {
  const config = readConfig(flags, { uses: 'outbox' });
  const asked: Asked = {
    text: text.trim(),
    from: since ?? 0,
    until: until ?? Number.MAX_SAFE_INTEGER,
    limit,
  };
  const found = await withOutbox(
    config,
    { change: false },
    {
      running: (daemon) => daemon.get<Found>(`/api/find?${queryOf(asked)}`),
      file: (database) => findInFiles(config, database, asked),
    },
  );
  const { findings, asked: _, ...rest } = found;
  if (json) for (const line of [...findings, rest]) printJson(line);
  else process.stdout.write(describeFound(found, Date.now(), config.file));
  if (findings.length === 0) process.exitCode = EXIT.failed;
}

const queryOf = ({ text, from, until, limit }: Asked): URLSearchParams =>
  new URLSearchParams({ what: text, from: `${from}`, until: `${until}`, limit: `${limit}` });

/** While no daemon runs. */
async function findInFiles(config: PusherConfig, database: DatabaseSync, asked: Asked): Promise<Found> {
  const outbox = await searchOutbox(database, asked);
  const { keep: keepMs, max_bytes: maxBytes } = config.trace;
  const state: TraceState = {
    on: keepMs > 0,
    keepMs,
    maxBytes,
    since: undefined,
    bytes: 0,
    problem: undefined,
    lost: 0,
    elsewhere: config.outbox.engine !== 'sqlite',
  };
  const file = traceBeside(realpathSync(outboxFileOf(config)));
  const nothing: InRecord = { records: [], unreadable: 0, since: undefined, bytes: 0 };
  if (!existsSync(file)) return findAll(asked, outbox, nothing, state);
  try {
    const trace = new TraceFile(file, { keepMs, maxBytes }, 'reading');
    try {
      const records = await searchRecords(trace, searchOf(asked));
      return findAll(asked, outbox, { ...records, ...trace.coverage(Date.now()) }, state);
    } finally {
      trace.close();
    }
  } catch (error) {
    return findAll(asked, outbox, nothing, { ...state, problem: messageOf(error) });
  }
}

/** Reads a number of findings. */
function limitNumber(text: string): number {
  const number = positiveNumber(text);
  if (number > MOST_FINDINGS) throw new InvalidArgumentError(`It should be at most ${count(MOST_FINDINGS)}.`);
  return number;
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Parses a time or an age; returns milliseconds since the Unix epoch. */
function moment(text: string): number {
  const [, digits, unit = ''] = /^(\d{1,7})([smhd])$/.exec(text) ?? [];
  // Nothing happened before 1970.
  if (digits) return Math.max(Date.now() - Number(digits) * (UNIT_MS[unit] ?? 0), 0);
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw new InvalidArgumentError('It should be a time such as 2026-11-29T14:00Z, or 15m.');
  return Math.max(at, 0);
}
