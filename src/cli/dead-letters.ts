/** `dead-letters`: what could not be published, and what to do with it. Works beside a running daemon and without one. */
import { userInfo } from 'node:os';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { PusherError } from '../errors.ts';
import type { AuditLine, DeadLetter, DeadLetterFilter } from '../outbox/outbox.ts';
import {
  countDeadLetters,
  countReplaying,
  listDeadLetters,
  purgeDeadLetters,
  requestReplay,
  writeAudit,
} from '../outbox/sqlite/dead-letters.ts';
import { openDatabase } from '../outbox/sqlite/schema.ts';
import { configOption, positiveNumber } from './options.ts';
import { createProgress } from './progress.ts';

/** How often the daemon's progress is looked at, in milliseconds, and after how many looks without any it is given up. */
const POLL_MS = 250;
const PATIENCE = 12;

interface Selection {
  config: string;
  reason?: string;
  topic?: string;
  all?: boolean;
}

export function deadLettersCommand(): Command {
  return new Command('dead-letters')
    .description('List, show, replay and delete what could not be published.')
    .addCommand(listCommand())
    .addCommand(showCommand())
    .addCommand(replayCommand())
    .addCommand(purgeCommand());
}

function listCommand(): Command {
  return selective(new Command('list'))
    .description('One line for each dead letter, oldest first.')
    .option('--limit <count>', 'how many at most', positiveNumber, 100)
    .option('--json', 'JSON lines, with everything')
    .action((options: Selection & { limit: number; json?: boolean }) =>
      onOutbox(options.config, (database) => {
        const filter = filterOf(options, []);
        const letters = listDeadLetters(database, filter, options.limit);
        for (const letter of letters) print(options.json ? JSON.stringify(letter) : line(letter));
        const total = countDeadLetters(database, filter);
        if (!options.json)
          print(letters.length < total ? `${letters.length} of ${total} dead letters` : `${total} dead letters`);
      }),
    );
}

function showCommand(): Command {
  return new Command('show')
    .description('Everything about one dead letter, the message included.')
    .argument('<id>', 'its number', positiveNumber)
    .addOption(configOption())
    .action((id: number, { config }: { config: string }) =>
      onOutbox(config, (database) => {
        const [letter] = listDeadLetters(database, { ids: [id] }, 1);
        if (!letter) throw new PusherError('NOT_FOUND', `there is no dead letter ${id}`);
        print(JSON.stringify(letter, null, 2));
      }),
    );
}

function replayCommand(): Command {
  return choosing(new Command('replay'))
    .description('Publish dead letters again. A running daemon does it at once, otherwise the next start does.')
    .action((ids: number[] | undefined, options: Selection, command: Command) =>
      onChosen(ids, options, command, async (database, filter) => {
        const marked = await counted('replay', 'marked for replay', database, filter, requestReplay);
        print(`${marked} marked for replay`);
        await follow(database);
      }),
    );
}

function purgeCommand(): Command {
  return choosing(new Command('purge'))
    .description('Delete dead letters for good.')
    .action((ids: number[] | undefined, options: Selection, command: Command) =>
      onChosen(ids, options, command, async (database, filter) => {
        print(`${await counted('purge', 'deleted', database, filter, purgeDeadLetters)} deleted`);
      }),
    );
}

const choosing = (command: Command): Command =>
  selective(command)
    .argument('[ids...]', 'their numbers', (text: string, before: number[] = []) => [...before, positiveNumber(text)])
    .option('--all', 'all of them');

async function onChosen(
  ids: readonly number[] = [],
  options: Selection,
  command: Command,
  act: (database: DatabaseSync, filter: DeadLetterFilter) => Promise<void>,
): Promise<void> {
  if (ids.length === 0 && !options.all && options.reason === undefined && options.topic === undefined)
    command.error('error: say which: their numbers, --reason, --topic or --all');
  await onOutbox(options.config, (database) => act(database, filterOf(options, ids)));
}

/** Changes, with a bar on a terminal, and leaves lines for the daemon's log: that it begins, and how many it reached. */
async function counted(
  action: AuditLine['action'],
  label: string,
  database: DatabaseSync,
  filter: DeadLetterFilter,
  change: typeof requestReplay,
): Promise<number> {
  const progress = createProgress(label, countDeadLetters(database, filter));
  const audit = (count?: number) =>
    writeAudit(database, { at: Date.now(), who: user(), action, selection: filter, count });
  let reached = 0;
  audit();
  try {
    return await change(database, filter, (count) => {
      reached = count;
      progress.show(count);
    });
  } finally {
    audit(reached);
    progress.end();
  }
}

/** Who is at the terminal, also behind sudo. A number without a name is one too. */
function user(): string {
  const { SUDO_USER } = process.env;
  if (SUDO_USER) return SUDO_USER;
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.());
  }
}

/** On a terminal, shows how a running daemon gets on with the replay; without one it soon gives up. */
async function follow(database: DatabaseSync): Promise<void> {
  const total = countReplaying(database);
  const progress = createProgress('replayed', total);
  if (!progress.visible) return;
  let left = total;
  for (let still = 0; left > 0 && still < PATIENCE; still++) {
    await sleep(POLL_MS);
    const now = countReplaying(database);
    if (now < left) still = 0;
    left = now;
    progress.show(total - left);
  }
  progress.end();
  if (left > 0)
    print(`${left} wait for the daemon, which does not take them: it is not running, or its outbox is full`);
}

const selective = (command: Command): Command =>
  command
    .addOption(configOption())
    .option('--reason <reason>', 'only those with this reason')
    .option('--topic <arn>', 'only those of this topic');

const filterOf = ({ reason, topic }: Selection, ids: readonly number[]): DeadLetterFilter => ({
  ...(ids.length > 0 && { ids }),
  reason,
  topic,
});

async function onOutbox(configFile: string, use: (database: DatabaseSync) => void | Promise<void>): Promise<void> {
  const config = loadConfig(configFile);
  const database = openDatabase(path.resolve(path.dirname(config.file), config.outbox.path), { create: false });
  try {
    await use(database);
  } finally {
    database.close();
  }
}

/** A plugin's error may quote what people wrote: of that only the function's name is for lists. */
const PLUGIN_FUNCTION = /^(?:filter|userGuid|presenceAttributes|messageAttributes)\b/;

function line({ id, diedAt, reason, attempts, eventId, topic, detail, replayRequested }: DeadLetter): string {
  const when = new Date(diedAt).toISOString();
  const state = replayRequested ? ' (replay requested)' : '';
  const what = reason === 'plugin' ? (PLUGIN_FUNCTION.exec(detail)?.[0] ?? '—') : detail;
  const fields = [id, when, reason, topic?.split(':').at(-1) ?? '—', eventId, `attempts ${attempts}${state}`, what];
  // What others chose must neither break the line nor steer the terminal.
  return fields.map((field) => String(field).replace(/\p{Cc}/gu, '·')).join('\t');
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
