/** The completion for zsh, with descriptions. */
import { all, type CommandNode, type OptionNode } from './tree.ts';

/** In single quotes, for a specification of `_arguments`: colons and brackets are special there. */
const spec = (text: string): string => text.replaceAll(/[[\]:\\]/g, '\\$&').replaceAll("'", "'\\''");
const line = (text: string): string => text.replaceAll(/\s+/g, ' ');
const functionOf = ({ path }: CommandNode): string => ['_xmpp_event_pusher', ...path].join('_').replaceAll('-', '_');

export function zshCompletion(root: CommandNode): string {
  return `#compdef ${root.name}
# zsh completion for ${root.name}, made from its command line.
${all(root).map(functionText).join('\n')}
if [ "$funcstack[1]" = "_${root.name}" ]; then _xmpp_event_pusher "$@"; else compdef _xmpp_event_pusher ${root.name}; fi
`;
}

function functionText(node: CommandNode): string {
  const options = node.options.map(optionSpec);
  const [first] = node.arguments;
  if (node.commands.length === 0) {
    const choices = first?.choices.length ? [`'1:${spec(first.name)}:(${first.choices.join(' ')})'`] : [];
    const rest = first === undefined || choices.length > 0 ? [] : [`'*:${spec(first.name)}:_files'`];
    return `${functionOf(node)}() {
  _arguments -s -S ${[...options, ...choices, ...rest].join(' \\\n    ')}
}
`;
  }
  const described = node.commands.map(({ name, description }) => `'${name}:${spec(line(description))}'`);
  const branches = node.commands.map((each) => `      (${each.name}) ${functionOf(each)} ;;`);
  return `${functionOf(node)}() {
  local context state state_descr line
  local -A opt_args
  _arguments -C -S ${[...options, "'1:command:->command'", "'*::argument:->argument'"].join(' \\\n    ')}
  case $state in
  (command)
    local -a commands=(${described.join(' ')})
    _describe command commands ;;
  (argument)
    case $line[1] in
${branches.join('\n')}
    esac ;;
  esac
}
`;
}

function optionSpec({ flags, description, value }: OptionNode): string {
  const help = `[${spec(line(description))}]`;
  const after = value === undefined ? '' : `:value:${actionOf(value)}`;
  if (flags.length === 1) return `'${flags[0]}${help}${after}'`;
  return `'(${flags.join(' ')})'{${flags.join(',')}}'${help}${after}'`;
}

function actionOf({ kind, choices }: NonNullable<OptionNode['value']>): string {
  if (choices.length > 0) return `(${choices.join(' ')})`;
  return { file: '_files', folder: '_files -/', other: ' ' }[kind];
}
