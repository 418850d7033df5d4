/** Writes `docs/configuration.md` from the option table. */
import type { z } from 'zod';
import { shapeOf } from './load.ts';
import { type OptionText, optionTexts } from './option.ts';
import { sections } from './options.ts';

const HEAD = `# Configuration

<!-- Made from src/config/options.ts by \`npm run docs\`; a test fails when it is stale. -->

The configuration is one TOML file: that of \`--config\`, otherwise of the variable \`XMPP_EVENT_PUSHER_CONFIG\`, otherwise
\`./pusher.toml\`, otherwise \`/etc/xmpp-event-pusher/pusher.toml\`. A \`./pusher.toml\` of another user is
refused; \`--config\` accepts any. Every section but the first has defaults, so the section that MongooseIM documents is a
complete configuration. A whole \`mongooseim.toml\` works too: the daemon names MongooseIM's other sections once in the log,
and ignores them.

- The environment variable \`NAME\` replaces \`\${NAME}\` in any text; \`$\${\` is a literal \`\${\`. A value that ends in a newline
  or a space, or contains a control character, is refused: files of secret stores often have one.
- The file \`environment\` beside the configuration (or that of \`--env-file\`) may have variables too, in the format of
  systemd's \`EnvironmentFile=\`: \`NAME=value\` lines, also with quotes. Variables of the process have priority. Variables for
  Node.js itself (\`NODE_OPTIONS\`, \`NODE_EXTRA_CA_CERTS\`) have no effect there.
- The file is UTF-8.
- Relative paths are relative to the configuration file.
- With an unknown option, a section whose name resembles one of these, a wrong type or an impossible value the daemon
  does not start, and lists all mistakes.

## Options of one virtual host

\`[[host_config]]\` with \`host = "…"\` and \`[host_config.modules.mod_event_pusher.sns]\` gives one XMPP domain its own
options. As in MongooseIM nothing is inherited: \`host_config.modules\` replaces the general \`modules\` completely, so a
domain with \`host_config.modules\` but without this section publishes nothing.
`;

const INTROS: Record<keyof typeof sections, string> = {
  'modules.mod_event_pusher.sns':
    "Topics, SNS and the published notifications: the section of MongooseIM's `mod_event_pusher`, with the same options and some more.",
  'tap.http': 'The server to which adapters post events: see [the tap protocol](tap-protocol.md).',
  'tap.rabbitmq':
    "The broker of [MongooseIM's rabbit backend](mongooseim.md#its-rabbit-backend). Without this section nothing is read from RabbitMQ. The three sections below have MongooseIM's options: copy those of `[modules.mod_event_pusher.rabbit]`; in a whole `mongooseim.toml` these apply directly.",
  'tap.rabbitmq.presence_exchange': "MongooseIM's exchange for presence.",
  'tap.rabbitmq.chat_msg_exchange': "MongooseIM's exchange for private messages.",
  'tap.rabbitmq.groupchat_msg_exchange': "MongooseIM's exchange for group messages.",
  outbox: 'The store of notifications until SNS accepts them.',
  trace: 'The record of delivered and skipped events, which `find` and the console search.',
  admin: 'The address for operators, probes and Prometheus.',
  log: 'The log on standard output. It never contains a message body or a secret.',
};

/** The reference page of the configuration, in Markdown. */
export function describeConfig(): string {
  const parts = Object.entries(sections).map(([name, schema]) => {
    const rows = Object.entries(shapeOf(schema)).map(([option, type]) => row(option, type));
    return `## \`[${name}]\`\n\n${INTROS[name as keyof typeof sections]}\n\n| option | should be | default | meaning |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
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
