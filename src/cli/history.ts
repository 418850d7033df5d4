/** `history`: notable moments of the daemon and people's actions, also across restarts. */
import { existsSync, realpathSync } from 'node:fs';
import { Command } from 'commander';
import type { PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';
import { outboxFileOf } from '../open-outbox.ts';
import { TraceFile } from '../trace/file.ts';
import { type History, readHistory } from '../trace/history-file.ts';
import { traceBeside } from '../trace/messages.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { configurable, positiveNumber } from './options.ts';
import { printFields, printJson, printLine } from './print.ts';
import { withOutbox } from './with-outbox.ts';

interface Options extends ConfigFlags {
  readonly json?: boolean;
  readonly limit: number;
}

export function historyCommand(): Command {
  return configurable(new Command('history'))
    .description("List what happened: starts, stops, kills, reloads, pauses, throttling, holes, operators' actions.")
    .option('--limit <number>', 'show at most this many, newest last', positiveNumber, 100)
    .option(
      '--json',
      'print everything as one line of JSON, with rates for each minute of a day and each ten minutes of 30 days',
    )
    .action(async ({ json = false, limit, ...flags }: Options) => {
      const config = readConfig(flags, { uses: 'outbox' });
      const history = await withOutbox(
        config,
        { change: false },
        { running: (daemon) => daemon.get<History>('/api/history'), file: async () => historyIn(config) },
      );
      if (json) return printJson(history);
      for (const { at, kind, text } of history.moments.slice(-limit))
        printFields(new Date(at).toISOString(), kind, text);
      if (history.moments.length === 0) printLine('the history is empty');
    });
}

/** While no daemon runs. */
function historyIn(config: PusherConfig): History {
  const file = traceBeside(realpathSync(outboxFileOf(config)));
  if (!existsSync(file)) return { minutes: [], tens: [], moments: [] };
  try {
    const { keep: keepMs, max_bytes: maxBytes } = config.trace;
    const trace = new TraceFile(file, { keepMs, maxBytes }, 'reading');
    try {
      return readHistory(trace.database);
    } finally {
      trace.close();
    }
  } catch (error) {
    throw new PusherError('OUTBOX_UNUSABLE', `${file} can't be read: ${messageOf(error)}`, error);
  }
}
