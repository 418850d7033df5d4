/** The command line: reads argv, runs a command, and answers the exit code. */
import { Command, CommanderError } from 'commander';
import { messageOf, PusherError } from '../errors.ts';
import { version } from '../version.ts';
import { adapterCommand } from './adapter/command.ts';
import { capacityCommand } from './capacity.ts';
import { checkCommand } from './check.ts';
import { deadLettersCommand } from './dead-letters.ts';
import { EXIT } from './exit-codes.ts';
import { iamPolicyCommand } from './iam-policy.ts';
import { pluginCommand } from './plugin.ts';
import { runCommand } from './run.ts';
import { sourcesCommand } from './sources.ts';
import { statusCommand } from './status.ts';
import { tailCommand } from './tail.ts';
import { topicsCommand } from './topics.ts';

/**
 * @param argv as process.argv: the interpreter, the script, then what the user wrote
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
    process.stderr.write(`xmpp-event-pusher: ${text}\n`);
    return isConfiguration(error) ? EXIT.configuration : EXIT.failed;
  }
}

/** All commands; a wrong command line is an error to catch. */
export function createProgram(): Command {
  const program = new Command('xmpp-event-pusher')
    .description('Tells Amazon SNS what happens on an XMPP server.')
    .version(version)
    .addCommand(runCommand())
    .addCommand(checkCommand())
    .addCommand(topicsCommand())
    .addCommand(iamPolicyCommand())
    .addCommand(deadLettersCommand())
    .addCommand(sourcesCommand())
    .addCommand(statusCommand())
    .addCommand(tailCommand())
    .addCommand(pluginCommand())
    .addCommand(adapterCommand())
    .addCommand(capacityCommand())
    .showHelpAfterError('(add --help for the options)');
  for (const command of descendants(program)) command.exitOverride();
  return program;
}

const isConfiguration = (error: unknown): boolean =>
  error instanceof PusherError && (error.code === 'CONFIG_INVALID' || error.code === 'CONFIG_UNREADABLE');

const descendants = (command: Command): Command[] => [command, ...command.commands.flatMap(descendants)];
