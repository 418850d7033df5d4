/** `dead-letters`: lists, replays and deletes unpublishable events. Works with a running daemon and without one. */

import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { PusherError } from '../errors.ts';
import { count, countOf, whatWasWrong } from '../format.js';
import type { DeadLetterCount, DeadLetterFilter, DeadLetterSummary } from '../outbox/dead-letters.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { type Letters, withDeadLetters } from './letters.ts';
import { configurable, positiveNumber } from './options.ts';
import { printFields, printJson, printLine } from './print.ts';
import { createProgressBar } from './progress.ts';

/** Interval for polling the daemon's progress, in milliseconds, and the polls without progress before giving up. */
const POLL_MS = 250;
const PATIENCE = 12;

interface Selection extends ConfigFlags {
  reason?: string;
  topic?: string;
  match?: string;
  all?: boolean;
}

export function deadLettersCommand(): Command {
  return new Command('dead-letters')
    .description('List, export, show, replay and delete dead letters: notifications that could not be published.')
    .addCommand(listCommand())
    .addCommand(exportCommand())
    .addCommand(showCommand())
    .addCommand(replayCommand())
    .addCommand(purgeCommand());
}

function listCommand(): Command {
  return selective(new Command('list'))
    .description('List dead letters, oldest first, one a line.')
    .option('--limit <count>', 'show at most this many', positiveNumber, 100)
    .option('--json', 'print JSON lines with all fields')
    .action((options: Selection & { limit: number; json?: boolean }) =>
      withDeadLetters(readConfig(options, { uses: 'outbox' }), { change: false }, async (letters) => {
        const { limit, json = false } = options;
        const filter = filterOf(options, []);
        let listed = 0;
        for await (const letter of letters.find(filter, limit, json)) {
          if (json) printJson(letter);
          else printFields(...fieldsOf(letter));
          listed += 1;
        }
        const total = await totalOf(letters, filter);
        if (!json) printLine(`${listed < total ? `${count(listed)} of ` : ''}${lettersOf(total)}`);
      }),
    );
}

function exportCommand(): Command {
  return selective(new Command('export'))
    .description('Print all dead letters as JSON lines with all fields, message texts included, oldest first.')
    .action((options: Selection) =>
      withDeadLetters(readConfig(options, { uses: 'outbox' }), { change: false }, (letters) =>
        // It waits for a slow reader, and holds one page at a time.
        pipeline(letters.export(filterOf(options, [])), process.stdout, { end: false }),
      ),
    );
}

function showCommand(): Command {
  return configurable(new Command('show'))
    .description('Show all fields of one dead letter, the message text included.')
    .argument('<id>', 'its number', positiveNumber)
    .action((id: number, flags: ConfigFlags) =>
      withDeadLetters(readConfig(flags, { uses: 'outbox' }), { change: false }, async (letters) => {
        const letter = await letters.read(id);
        if (!letter) throw notFound([id]);
        printJson(letter, 2);
      }),
    );
}

function replayCommand(): Command {
  return choosing(new Command('replay'))
    .description('Publish dead letters again: at once if the daemon is running, otherwise at its next start.')
    .action((ids: number[] | undefined, options: Selection, command: Command) =>
      onChosen(ids, options, command, async (letters, filter) => {
        await change('marked for replay', letters, filter, letters.requestReplay);
        await follow(letters);
      }),
    );
}

function purgeCommand(): Command {
  return choosing(new Command('purge'))
    .description('Delete dead letters permanently.')
    .action((ids: number[] | undefined, options: Selection, command: Command) =>
      onChosen(ids, options, command, async (letters, filter) => {
        await change('deleted', letters, filter, letters.purge);
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
  act: (letters: Letters, filter: DeadLetterFilter) => Promise<void>,
): Promise<void> {
  const { reason, topic, match } = options;
  const chosen = [reason, topic, match].some((text) => text !== undefined);
  const ways = [ids.length > 0, chosen, options.all === true];
  const WAYS = 'their numbers, --reason, --topic and --match, or --all';
  if (!ways.includes(true)) command.error(`error: say which: ${WAYS}`);
  if (ways.filter(Boolean).length > 1) command.error(`error: say which in one way: ${WAYS}`);
  const each = [...new Set(ids)];
  await withDeadLetters(readConfig(options, { uses: 'outbox' }), { change: true }, (letters) =>
    act(letters, filterOf(options, each)),
  );
}

/**
 * Runs a change, with a progress bar on a terminal, and prints how many letters it changed.
 * @throws PusherError NOT_FOUND where a number has no dead letter; the others are changed
 */
async function change(
  done: string,
  letters: Letters,
  filter: DeadLetterFilter,
  changeAll: Letters['purge'],
): Promise<void> {
  const asked = filter.ids;
  const missing = await letters.missing(asked ?? []);
  if (asked && missing.length === asked.length) throw notFound(missing);
  const ids = asked?.filter((id) => !missing.includes(id));
  const progress = createProgressBar(done, ids?.length ?? (await totalOf(letters, filter)));
  let count = 0;
  try {
    count = await changeAll({ ...filter, ids }, progress.show);
  } finally {
    progress.end();
  }
  printLine(`${lettersOf(count)} ${done}`);
  if (missing.length > 0) throw notFound(missing);
}

const notFound = (ids: readonly number[]) =>
  new PusherError(
    'NOT_FOUND',
    `there ${ids.length === 1 ? 'is no dead letter' : 'are no dead letters'} ${ids.slice(0, MOST_NAMED).join(', ')}${ids.length > MOST_NAMED ? ' …' : ''}`,
  );

/** Most numbers that an error lists. */
const MOST_NAMED = 20;

const lettersOf = (number: number): string => countOf(number, 'dead letter');

/** Counts the matches. */
async function totalOf(letters: Letters, { reason, topic, match }: DeadLetterFilter): Promise<number> {
  if (match !== undefined) return letters.total({ reason, topic, match });
  const counts = await letters.counts();
  const meant = counts.filter(
    (each) => (reason === undefined || each.reason === reason) && (topic === undefined || each.topic === topic),
  );
  return sum(meant, 'count');
}

const sum = (counts: readonly DeadLetterCount[], field: 'count' | 'replaying'): number =>
  counts.reduce((total, each) => total + each[field], 0);

/** On a terminal, shows the replay's progress; stops soon if there is none. */
async function follow(letters: Letters): Promise<void> {
  const total = sum(await letters.counts(), 'replaying');
  const progress = createProgressBar('replayed', total);
  if (!progress.visible) return;
  let left = total;
  for (let still = 0; letters.served && left > 0 && still < PATIENCE; still++) {
    const now = sum(await letters.counts(), 'replaying');
    if (now < left) still = 0;
    left = now;
    progress.show(total - left);
    if (left > 0) await sleep(POLL_MS);
  }
  progress.end();
  if (left === 0) return;
  const why = letters.served ? 'which does not accept them: its outbox may be full' : 'which is not running';
  printLine(`${countOf(left, 'waits', 'wait')} for the daemon, ${why}`);
}

const selective = (command: Command): Command =>
  configurable(command)
    .option('--reason <reason>', 'only those with this reason')
    .option('--topic <arn>', 'only those of this topic')
    .option('--match <text>', "only those whose event's id, user, room, host, topic, reason or detail contains this");

const filterOf = ({ reason, topic, match }: Selection, ids: readonly number[]): DeadLetterFilter => ({
  ...(ids.length > 0 && { ids }),
  reason,
  topic,
  match,
});

function fieldsOf({
  id,
  diedAt,
  reason,
  attempts,
  eventId,
  topic,
  detail,
  replayRequested,
}: DeadLetterSummary): string[] {
  const when = new Date(diedAt).toISOString();
  const state = replayRequested ? ' (replay requested)' : '';
  const what = whatWasWrong({ reason, detail });
  return [`${id}`, when, reason, topic?.split(':').at(-1) ?? '—', eventId, `attempts ${attempts}${state}`, what];
}
