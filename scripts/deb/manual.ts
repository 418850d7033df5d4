/** The manual page, generated from the parsed command line. */
import { all, type CommandNode } from '../../src/cli/completion/tree.ts';

/** Escapes for roff: backslashes, literal dashes, and dots or quotes at the start of a line. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll(/\s+/g, ' ')
    .replaceAll('…', '...')
    .replaceAll(/^[.']/g, '\\&$&');

const EXIT_CODES: readonly (readonly [code: string, what: string])[] = [
  ['0', 'Done; for run: it was asked to stop.'],
  ['1', 'Failed.'],
  ['2', 'The command line is wrong.'],
  ['78', 'The configuration can not be read or has a mistake.'],
  ['130', 'Ended at once by Ctrl-C; 143: by a SIGTERM.'],
  ['141', 'The reader of the output has stopped.'],
];

const FILES: readonly (readonly [file: string, what: string])[] = [
  ['/etc/xmpp-event-pusher/pusher.toml', 'The configuration.'],
  ['/etc/xmpp-event-pusher/environment', 'The secrets that it refers to, as NAME=value.'],
  ['/var/lib/xmpp-event-pusher/', 'The outbox: what SNS does not have yet, dead letters, positions.'],
  ['/usr/share/doc/xmpp-event-pusher/', 'The documents, docs/configuration.md with every option among them.'],
];

/** @param day when the release was made, as YYYY-MM-DD */
export function manualPage(root: CommandNode, version: string, day: string): string {
  const [, ...commands] = all(root);
  const general = root.options.map(({ form, explained }) => [form, explained] as const);
  const leaves = commands.filter((node) => node.commands.length === 0);
  return [
    `.TH ${root.name.toUpperCase().replaceAll('-', '\\-')} 1 ${day} "${root.name} ${version}"`,
    `.SH NAME\n${roff(root.name)} \\- publish the events of XMPP servers to Amazon SNS`,
    `.SH SYNOPSIS\n.B ${roff(root.name)}\n.I command\n[\\fIoptions\\fR]`,
    `.SH DESCRIPTION\n${roff(root.description)}`,
    `.SH OPTIONS\n${general.map(tagged).join('\n')}`,
    `.SH COMMANDS\n${leaves.map(commandText).join('\n')}`,
    `.SH EXIT STATUS\n${EXIT_CODES.map(tagged).join('\n')}`,
    `.SH FILES\n${FILES.map(tagged).join('\n')}`,
    '.SH SEE ALSO\n.BR systemctl (1),\n.BR prosodyctl (8),\n.BR ejabberdctl (8)\n',
  ].join('\n');
}

const tagged = ([term, text]: readonly [string, string]): string => `.TP\n.B ${roff(term)}\n${roff(text)}`;

function commandText(node: CommandNode): string {
  const words = [node.path.join(' '), ...node.arguments.map(({ form }) => form)].join(' ');
  const options = node.options.filter(({ flags }) => !flags.includes('--help'));
  const terms = [
    ...node.arguments.map(({ form, explained }) => [form, explained] as const),
    ...options.map(({ form, explained }) => [form, explained] as const),
  ];
  return [`.SS ${roff(words)}`, roff(node.description), ...terms.map(tagged)].join('\n');
}
