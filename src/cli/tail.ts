/** `tail`: prints notifications as SNS accepts them, from the running daemon. */

import { setTimeout } from 'node:timers/promises';
import { Command } from 'commander';
import type { PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';
import { countOf, duration, json, printable } from '../format.js';
import type { TailLine, TailLines } from '../ops/live.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { connectToDaemon, type DaemonClient } from './daemon.ts';
import { eventsIn } from './events.ts';
import { configurable } from './options.ts';

export function tailCommand(): Command {
  return configurable(new Command('tail'))
    .description('Print notifications as SNS accepts them, one a line, starting with the last few.')
    .option('--match <text>', 'only those whose user, recipient, room, topic or id contains this')
    .option('--topic <name>', "only those of this topic: an ARN, or the name at an ARN's end")
    .option('--json', 'print JSON lines')
    .option('--bodies', 'also print what is published; the daemon logs that you read it')
    .action((options: ConfigFlags & TailOptions) => printUntilEnd(readConfig(options, { uses: 'outbox' }), options));
}

interface TailOptions {
  readonly match?: string;
  readonly topic?: string;
  readonly json?: boolean;
  readonly bodies?: boolean;
}

/** Interval for reconnecting to the daemon, in milliseconds. */
const RETRY_MS = 1_000;
/** Most recent lines remembered: as many as a new connection repeats. */
const REMEMBERED = 50;

/** Prints until interrupted, and waits for a daemon that stopped. @throws PusherError if none runs at the start */
async function printUntilEnd(config: PusherConfig, options: TailOptions): Promise<never> {
  const print = printer(options);
  let daemon = await connectToDaemon(config);
  while (true) {
    try {
      const stream = await daemon.stream(`/api/live?${queryOf(options)}`);
      for await (const { name, data } of eventsIn(stream)) if (name === 'notifications') print(data as TailLines);
    } catch (error) {
      if (!isGone(error)) throw error;
      process.stderr.write(`${printable(messageOf(error))}; waiting for it to come back\n`);
    }
    await daemon.close();
    daemon = await untilBack(config);
    process.stderr.write('the daemon is back\n');
  }
}

async function untilBack(config: PusherConfig): Promise<DaemonClient> {
  while (true) {
    await setTimeout(RETRY_MS);
    try {
      return await connectToDaemon(config);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
}

const isGone = (error: unknown): boolean => error instanceof PusherError && error.code === 'DAEMON_UNREACHABLE';

function queryOf({ match, topic, bodies = false }: TailOptions): URLSearchParams {
  const query = new URLSearchParams({ tail: bodies ? 'bodies' : 'lines' });
  if (match !== undefined) query.set('match', match);
  if (topic !== undefined) query.set('topic', topic);
  return query;
}

/** Prints each line once, because a new connection repeats the last few. */
function printer({ json: asJson = false }: TailOptions): (lines: TailLines) => void {
  const text = asJson ? (line: TailLine) => json(line) : readable;
  let last: string[] = [];
  return ({ list, missed }) => {
    const known = new Set(last);
    const keyOf = ({ eventId, at }: TailLine) => `${at} ${eventId}`;
    const fresh = list.filter((line) => !known.has(keyOf(line)));
    process.stdout.write(fresh.map((line) => `${text(line)}\n`).join(''));
    last = [...last, ...fresh.map(keyOf)].slice(-REMEMBERED);
    if (missed > 0) process.stderr.write(`${countOf(missed, 'notification')} came too fast to be shown\n`);
  };
}

function readable({ at, eventAt, topic, about, eventId, message }: TailLine): string {
  const fields = [
    new Date(at).toISOString(),
    topic.split(':').at(-1),
    about,
    duration(at - eventAt),
    eventId,
    ...(message === undefined ? [] : [message]),
  ];
  // Names chosen by people must not control the terminal, nor reverse the line's direction.
  return fields.map((field) => printable(String(field))).join('\t');
}
