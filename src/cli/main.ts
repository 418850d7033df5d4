/** The command line: parses argv, runs a command, and returns the exit code. */
import { Command, CommanderError } from 'commander';
import { messageOf, PusherError } from '../errors.ts';
import { printableLines } from '../format.js';
import { version } from '../version.ts';
import { EXIT } from './exit-codes.ts';

/** Makes each command, in the order of the help. Loading all of them takes twice as long as most of them alone. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  init: async () => (await import('./init/command.ts')).initCommand(),
  run: async () => (await import('./run.ts')).runCommand(),
  check: async () => (await import('./check.ts')).checkCommand(),
  topics: async () => (await import('./topics.ts')).topicsCommand(),
  'iam-policy': async () => (await import('./iam-policy.ts')).iamPolicyCommand(),
  'dead-letters': async () => (await import('./dead-letters.ts')).deadLettersCommand(),
  sources: async () => (await import('./sources.ts')).sourcesCommand(),
  outbox: async () => (await import('./outbox.ts')).outboxCommand(),
  find: async () => (await import('./find.ts')).findCommand(),
  history: async () => (await import('./history.ts')).historyCommand(),
  status: async () => (await import('./status.ts')).statusCommand(),
  tail: async () => (await import('./tail.ts')).tailCommand(),
  plugin: async () => (await import('./plugin.ts')).pluginCommand(),
  adapter: async () => (await import('./adapter/command.ts')).adapterCommand(),
  capacity: async () => (await import('./capacity.ts')).capacityCommand(),
  completion: async () => (await import('./completion/command.ts')).completionCommand(),
};

/** Commands whose output depends on the others. */
const NEEDS_ALL = new Set(['completion']);

/**
 * @param argv as process.argv: the interpreter, the script, then the user's arguments
 * @returns 0; 1: it failed; 2: the command line is wrong; 78: the configuration is
 */
export async function main(argv: readonly string[]): Promise<number> {
  const [, , name = ''] = argv;
  const isAlone = Object.hasOwn(COMMANDS, name) && !NEEDS_ALL.has(name);
  const program = await createProgram(isAlone ? [name] : undefined);
  try {
    await program.parseAsync(argv);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT.usage;
    const text = error instanceof PusherError ? error.message : error instanceof Error ? error.stack : messageOf(error);
    process.stderr.write(`xmpp-event-pusher: ${printableLines(String(text))}\n`);
    return isConfiguration(error) ? EXIT.configuration : EXIT.failed;
  }
}

/**
 * The program with these commands, by default all; a wrong command line is an error to catch.
 * @param names of commands
 */
export async function createProgram(names: readonly string[] = Object.keys(COMMANDS)): Promise<Command> {
  const program = new Command('xmpp-event-pusher')
    .description('Publishes the events of an XMPP server to Amazon SNS.')
    .version(version)
    .showHelpAfterError('(add --help for the options)');
  for (const command of await Promise.all(names.map((name) => COMMANDS[name]?.())))
    if (command) program.addCommand(command);
  for (const command of descendants(program)) beStrict(command.exitOverride());
  program.hook('preAction', (_, command) => refuseEmptyArguments(command));
  return program;
}

/** Rejects options that are given twice or have an empty value, such as an unset variable. */
function beStrict(command: Command): void {
  for (const option of command.options) {
    if (!option.required) continue;
    let values = 0;
    command.on(`option:${option.name()}`, (value: string) => {
      values += 1;
      if (value === '') command.error(`error: option '${option.flags}' has an empty value`);
      if (values > 1 && !option.variadic) command.error(`error: option '${option.flags}' is given twice`);
    });
  }
}

/** An empty argument is an unset variable too: `sources acknowledge "$SOURCE"` must not mean every source. */
function refuseEmptyArguments(command: Command): void {
  const index = command.args.findIndex((text) => text.trim() === '');
  const named = command.registeredArguments[index] ?? command.registeredArguments.at(-1);
  if (index >= 0) command.error(`error: argument '${named?.name()}' is empty`);
}

const isConfiguration = (error: unknown): boolean =>
  error instanceof PusherError && (error.code === 'CONFIG_INVALID' || error.code === 'CONFIG_UNREADABLE');

const descendants = (command: Command): Command[] => [command, ...command.commands.flatMap(descendants)];
