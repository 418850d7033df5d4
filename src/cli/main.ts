/** The command line: parses argv, runs a command, and returns the exit code. */
import { Command, CommanderError } from 'commander';
import { messageOf, PusherError } from '../errors.ts';
import { printableLines } from '../format.js';
import { version } from '../version.ts';
import { adapterCommand } from './adapter/command.ts';
import { capacityCommand } from './capacity.ts';
import { checkCommand } from './check.ts';
import { completionCommand } from './completion/command.ts';
import { deadLettersCommand } from './dead-letters.ts';
import { EXIT } from './exit-codes.ts';
import { findCommand } from './find.ts';
import { historyCommand } from './history.ts';
import { iamPolicyCommand } from './iam-policy.ts';
import { initCommand } from './init/command.ts';
import { outboxCommand } from './outbox.ts';
import { pluginCommand } from './plugin.ts';
import { runCommand } from './run.ts';
import { sourcesCommand } from './sources.ts';
import { statusCommand } from './status.ts';
import { tailCommand } from './tail.ts';
import { topicsCommand } from './topics.ts';

/**
 * @param argv as process.argv: the interpreter, the script, then the user's arguments
 * @returns 0; 1: it failed; 2: the command line is wrong; 78: the configuration is
 */
export async function main(argv: readonly string[]): Promise<number> {
  const program = createProgram();
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

/** All commands; a wrong command line is an error to catch. */
export function createProgram(): Command {
  const program = new Command('xmpp-event-pusher')
    .description('Publishes the events of an XMPP server to Amazon SNS.')
    .version(version)
    .addCommand(initCommand())
    .addCommand(runCommand())
    .addCommand(checkCommand())
    .addCommand(topicsCommand())
    .addCommand(iamPolicyCommand())
    .addCommand(deadLettersCommand())
    .addCommand(sourcesCommand())
    .addCommand(outboxCommand())
    .addCommand(findCommand())
    .addCommand(historyCommand())
    .addCommand(statusCommand())
    .addCommand(tailCommand())
    .addCommand(pluginCommand())
    .addCommand(adapterCommand())
    .addCommand(capacityCommand())
    .addCommand(completionCommand())
    .showHelpAfterError('(add --help for the options)');
  for (const command of descendants(program)) beStrict(command.exitOverride());
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

const isConfiguration = (error: unknown): boolean =>
  error instanceof PusherError && (error.code === 'CONFIG_INVALID' || error.code === 'CONFIG_UNREADABLE');

const descendants = (command: Command): Command[] => [command, ...command.commands.flatMap(descendants)];
