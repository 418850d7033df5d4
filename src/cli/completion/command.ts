/** `completion`: prints a shell's completion script for this command line. */
import { Argument, Command } from 'commander';
import { bashCompletion } from './bash.ts';
import { fishCompletion } from './fish.ts';
import { type CommandNode, treeOf } from './tree.ts';
import { zshCompletion } from './zsh.ts';

/** The script of each shell. */
export const COMPLETIONS: Readonly<Record<string, (root: CommandNode) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

export function completionCommand(): Command {
  return new Command('completion')
    .description('Print the completion script for a shell.')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(COMPLETIONS)))
    .action((shell: string, _, command: Command) => {
      const program = command.parent ?? command;
      process.stdout.write(COMPLETIONS[shell]?.(treeOf(program)) ?? '');
    });
}
