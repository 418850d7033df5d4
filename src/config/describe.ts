/** Writes `docs/configuration.md` from the option table. */
import type { z } from 'zod';
import { shapeOf } from './load.ts';
import { type OptionText, optionTexts } from './option.ts';
import { sections } from './options.ts';

const HEAD = `# Configuration

<!-- Made from src/config/options.ts by \`npm run docs\`; a test fails when it is stale. -->

One TOML file: that of \`--config\`, else of the variable \`XMPP_EVENT_PUSHER_CONFIG\`, else \`./pusher.toml\`, else
\`/etc/xmpp-event-pusher/pusher.toml\`. Every section but the first has defaults, so the section that MongooseIM documents
is a working configuration by itself. A whole \`mongooseim.toml\` is accepted too: MongooseIM's other sections are named
once in the log and left alone.

- \`\${NAME}\` in any text is replaced by the environment variable of that name; \`$\${\` stands for a literal \`\${\`.
  A value that ends in a newline or a space, or holds a control character, is refused: files of secret stores often do.
- Variables may also stand in the file \`environment\` beside the configuration (\`--env-file\` names another), one
  \`NAME=value\` a line, as systemd's \`EnvironmentFile=\` has them, quotes included. What the process was started with
  counts first. Variables for Node.js itself (\`NODE_OPTIONS\`, \`NODE_EXTRA_CA_CERTS\`) have no effect there.
- The file is UTF-8.
- Relative paths are relative to the configuration file.
- An unknown option, a section whose name is almost one of these, a wrong type or an impossible value stops the start, with
  every mistake listed.

## Options of one virtual host

\`[[host_config]]\` with \`host = "…"\` and \`[host_config.modules.mod_event_pusher.sns]\` gives one XMPP domain its own
options. As in MongooseIM nothing is inherited: \`host_config.modules\` replaces the general \`modules\` completely, so a
domain with \`host_config.modules\` but without this section publishes nothing.
`;

const INTROS: Record<keyof typeof sections, string> = {
  'modules.mod_event_pusher.sns':
    "What is published and where: the section of MongooseIM's `mod_event_pusher`, option for option.",
  'tap.http': 'Where adapters post events: see [the tap protocol](tap-protocol.md).',
  'tap.rabbitmq':
    "Where [MongooseIM's rabbit backend](mongooseim.md#its-rabbit-backend) publishes. Without this section nothing is read from RabbitMQ. The three sections below are MongooseIM's, option for option: those of `[modules.mod_event_pusher.rabbit]` can be copied, and in a whole `mongooseim.toml` they count as they stand there.",
  'tap.rabbitmq.presence_exchange': 'Where MongooseIM publishes presence.',
  'tap.rabbitmq.chat_msg_exchange': 'Where it publishes private messages.',
  'tap.rabbitmq.groupchat_msg_exchange': 'Where it publishes group messages.',
  outbox: 'Where notifications are kept until SNS has them.',
  trace: 'The record of what happened to events, which `find` and the console search.',
  admin: 'For operators and their probes.',
  log: 'On standard output. No message body and no secret is ever logged.',
};

/** The reference page of the configuration, in Markdown. */
export function describeConfig(): string {
  const parts = Object.entries(sections).map(([name, schema]) => {
    const rows = Object.entries(shapeOf(schema)).map(([option, type]) => row(option, type));
    return `## \`[${name}]\`\n\n${INTROS[name as keyof typeof sections]}\n\n| option | should be | default | what it does |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  });
  return `${HEAD}\n${parts.join('\n')}`;
}

function row(name: string, type: z.ZodType): string {
  const text = optionTexts.get(type) as OptionText;
  const example = text.example ? ` Example: \`${text.example}\`.` : '';
  return `| \`${name}\` | ${text.expects} | ${defaultOf(type)} | ${text.text}${example} |`;
}

function defaultOf(type: z.ZodType): string {
  const fallback = optionTexts.get(type)?.fallback;
  if (fallback) return fallback;
  const parsed = type.safeParse(undefined);
  if (!parsed.success) return '**mandatory**';
  if (parsed.data === undefined) return '—';
  const { host, port } = (parsed.data ?? {}) as { host?: string; port?: number };
  return `\`${host === undefined ? JSON.stringify(parsed.data) : JSON.stringify(`${host}:${port}`)}\``;
}
