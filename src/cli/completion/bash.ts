/** The completion for bash: plain bash from 4.0 on, without the package bash-completion. */
import { all, type CommandNode, type OptionNode } from './tree.ts';

const quoted = (words: readonly string[]): string => `'${words.join(' ').replaceAll("'", "'\\''")}'`;

export function bashCompletion(root: CommandNode): string {
  const nodes = all(root);
  const known = nodes.slice(1).map(({ path }) => `"${path.join(' ')}"`);
  return `# bash completion for ${root.name}, made from its command line.
_xmpp_event_pusher() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} command= words= word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
    case "\${command:+$command }$word" in
      ${known.join(' | ')}) command="\${command:+$command }$word" ;;
    esac
  done
  COMPREPLY=()
  case "$command $previous" in
${nodes.flatMap(valuesOf).join('\n')}
  esac
  case "$command" in
${nodes.map((node) => `    "${node.path.join(' ')}") words=${quoted(wordsOf(node))} ;;`).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o bashdefault -o default -F _xmpp_event_pusher ${root.name}
`;
}

const wordsOf = ({ commands, options, arguments: [first] }: CommandNode): string[] => [
  ...commands.map(({ name }) => name),
  ...(first?.choices ?? []),
  ...options.flatMap(({ flags }) => flags.filter((flag) => flag.startsWith('--'))),
];

/** A branch for each option with a value: its possible values. */
function valuesOf({ path, options }: CommandNode): string[] {
  return options
    .filter(({ value }) => value !== undefined)
    .map((option) => {
      const pattern = option.flags.map((flag) => `"${path.join(' ')} ${flag}"`).join(' | ');
      return `    ${pattern}) ${answerOf(option)} ;;`;
    });
}

function answerOf({ value }: OptionNode): string {
  if (value?.choices.length) return `COMPREPLY=($(compgen -W ${quoted(value.choices)} -- "$current")); return`;
  if (value?.kind === 'file') return 'return';
  if (value?.kind === 'folder') return 'COMPREPLY=($(compgen -d -- "$current")); return';
  return 'compopt +o default +o bashdefault; return';
}
