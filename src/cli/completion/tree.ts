/** The command line as data, from which completions and the manual page are generated. */
import type { Argument, Command, Help, Option } from 'commander';

export interface CommandNode {
  /** The words before its options, without the program's name. */
  readonly path: readonly string[];
  readonly name: string;
  readonly description: string;
  readonly arguments: readonly ArgumentNode[];
  readonly options: readonly OptionNode[];
  readonly commands: readonly CommandNode[];
}

interface ArgumentNode {
  readonly name: string;
  readonly description: string;
  /** Its description in the help, with choices and default. */
  readonly explained: string;
  /** Its form in a synopsis, such as `<server>` or `[ids...]`. */
  readonly form: string;
  readonly choices: readonly string[];
}

export interface OptionNode {
  /** Its form in the help, such as `-c, --config <file>`. */
  readonly form: string;
  /** The short one first. */
  readonly flags: readonly string[];
  readonly description: string;
  /** Its description in the help, with choices and default. */
  readonly explained: string;
  /** The kind of the option's value; undefined where it takes none. */
  readonly value?: { readonly kind: 'file' | 'folder' | 'other'; readonly choices: readonly string[] };
}

/** A command with its subcommands, without hidden ones. */
export function treeOf(command: Command, path: readonly string[] = []): CommandNode {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).filter((each) => each.name() !== 'help');
  return {
    path,
    name: command.name(),
    description: command.description(),
    arguments: command.registeredArguments.map((each) => argumentOf(each, help)),
    options: help.visibleOptions(command).map((each) => optionOf(each, help)),
    commands: commands.map((each) => treeOf(each, [...path, each.name()])),
  };
}

/** A command and all its subcommands, in the order of the help. */
export const all = (node: CommandNode): CommandNode[] => [node, ...node.commands.flatMap(all)];

function argumentOf(argument: Argument, help: Help): ArgumentNode {
  const name = argument.name();
  const dots = argument.variadic ? '...' : '';
  return {
    name,
    description: argument.description,
    explained: help.argumentDescription(argument),
    form: argument.required ? `<${name}${dots}>` : `[${name}${dots}]`,
    choices: argument.argChoices ?? [],
  };
}

function optionOf(option: Option, help: Help): OptionNode {
  const { flags: form, description, short, long, argChoices: choices = [] } = option;
  const flags = [short, long].filter((flag) => flag !== undefined);
  const explained = help.optionDescription(option);
  if (!option.required && !option.optional) return { form, flags, description, explained };
  const kind = /[<[](?:file|\S+\.toml)[>\]]/.test(form) ? 'file' : /[<[]folder[>\]]/.test(form) ? 'folder' : 'other';
  return { form, flags, description, explained, value: { kind, choices } };
}
