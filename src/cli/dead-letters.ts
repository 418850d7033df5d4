/** `dead-letters`: what could not be published, and what to do with it. Works beside a running daemon and without one. */
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { PusherError } from '../errors.ts';
import { countDeadLetters, listDeadLetters, purgeDeadLetters, requestReplay } from '../outbox/dead-letters.ts';
import type { DeadLetter, DeadLetterFilter } from '../outbox/outbox.ts';
import { openDatabase } from '../outbox/schema.ts';
import { configOption, positiveNumber } from './options.ts';

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
    .addCommand(
      changeCommand(
        'replay',
        'Publish dead letters again. A running daemon does it within a second, otherwise the next start.',
        requestReplay,
        (n) => `${n} marked for replay`,
      ),
    )
    .addCommand(changeCommand('purge', 'Delete dead letters for good.', purgeDeadLetters, (n) => `${n} deleted`));
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

function changeCommand(
  name: string,
  description: string,
  change: (database: DatabaseSync, filter: DeadLetterFilter) => number,
  result: (count: number) => string,
): Command {
  return selective(new Command(name))
    .description(description)
    .argument('[ids...]', 'their numbers', (text: string, before: number[] = []) => [...before, positiveNumber(text)])
    .option('--all', 'all of them')
    .action((ids: number[] | undefined, options: Selection, command: Command) => {
      const numbers = ids ?? [];
      if (numbers.length === 0 && !options.all && options.reason === undefined && options.topic === undefined)
        command.error('error: say which: their numbers, --reason, --topic or --all');
      onOutbox(options.config, (database) => print(result(change(database, filterOf(options, numbers)))));
    });
}

const selective = (command: Command): Command =>
  command
    .addOption(configOption())
    .option('--reason <reason>', 'only those with this reason')
    .option('--topic <arn>', 'only those of this topic');

const filterOf = ({ reason, topic }: Selection, ids: readonly number[]): DeadLetterFilter => ({
  ...(ids.length > 0 && { ids }),
  reason,
  topicArn: topic,
});

function onOutbox(configFile: string, use: (database: DatabaseSync) => void): void {
  const config = loadConfig(configFile);
  const database = openDatabase(path.resolve(path.dirname(config.file), config.outbox.path), { create: false });
  try {
    use(database);
  } finally {
    database.close();
  }
}

function line({ id, diedAt, reason, attempts, eventId, topicArn, detail, replayRequested }: DeadLetter): string {
  const when = new Date(diedAt).toISOString();
  const state = replayRequested ? ' (replay requested)' : '';
  const topic = topicArn?.split(':').at(-1) ?? '—';
  return `${id}\t${when}\t${reason}\t${topic}\t${eventId}\tattempts ${attempts}${state}\t${detail}`;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
