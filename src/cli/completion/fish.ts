/** The completion for fish, with descriptions. */
import { all, type CommandNode } from './tree.ts';

const quoted = (text: string): string =>
  `'${text.replaceAll(/\s+/g, ' ').replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

export function fishCompletion(root: CommandNode): string {
  const nodes = all(root);
  const known = nodes.slice(1).map(({ path }) => quoted(path.join(' ')));
  return `# fish completion for ${root.name}, made from its command line.
function __xmpp_event_pusher_at
    set -l tokens (commandline -opc)
    set -e tokens[1]
    set -l command
    for word in $tokens
        if contains -- (string join ' ' $command $word) ${known.join(' ')}
            set -a command $word
        end
    end
    test "$command" = "$argv"
end
complete -c ${root.name} -f
${nodes.flatMap((node) => linesOf(root.name, node)).join('\n')}
`;
}

function linesOf(program: string, node: CommandNode): string[] {
  const start = `complete -c ${program} -n ${quoted(['__xmpp_event_pusher_at', ...node.path].join(' '))}`;
  const [first] = node.arguments;
  return [
    ...node.commands.map(({ name, description }) => `${start} -a ${name} -d ${quoted(description)}`),
    ...(first?.choices.length ? [`${start} -a ${quoted(first.choices.join(' '))}`] : []),
    // An argument without choices may be a file.
    ...(first && first.choices.length === 0 ? [`${start} -F`] : []),
    ...node.options.map(({ flags, description, value }) => {
      const names = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
      return `${start} ${names.join(' ')}${value ? parameterOf(value) : ''} -d ${quoted(description)}`;
    }),
  ];
}

function parameterOf({ kind, choices }: { kind: string; choices: readonly string[] }): string {
  if (choices.length > 0) return ` -x -a ${quoted(choices.join(' '))}`;
  if (kind === 'file') return ' -r -F';
  return kind === 'folder' ? " -x -a '(__fish_complete_directories)'" : ' -x';
}
