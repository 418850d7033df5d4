/**
 * Every option of the configuration, once: type, default, expected form and description. Parsing, error messages, types
 * and `docs/configuration.md` all come from here; the larger sections are in `sns-options.ts` and `rabbitmq-options.ts`.
 */
import { z } from 'zod';
import {
  brokerUrl,
  count,
  DURATION_EXPECTS,
  duration,
  listen,
  option,
  pairProblems,
  secret,
  secretProblems,
  sectionRules,
} from './option.ts';
import {
  chatExchangeOptions,
  groupchatExchangeOptions,
  presenceExchangeOptions,
  rabbitTapOptions,
} from './rabbitmq-options.ts';
import { snsOptions } from './sns-options.ts';

const httpTapOptions = z.strictObject({
  listen: option(listen.prefault('127.0.0.1:5290'), {
    expects: 'an address and a port, such as `127.0.0.1:5290` or `[::1]:5290`',
    text: 'The address for the adapters. Beyond loopback it requires a `secret` of 20 characters or more.',
  }),
  secret: option(secret({ spaces: true }).optional(), {
    expects: 'the secret that the adapters send, not empty',
    text: 'The adapters send it as `Authorization: Bearer …`. Without it every local process may post events, and a start logs a warning.',
    example: '"${TAP_SECRET}"',
  }),
  tls_cert: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM certificate chain',
    text: 'Certificate chain for HTTPS; requires `tls_key`. A reload reads renewed files.',
  }),
  tls_key: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM private key',
    text: 'Private key for HTTPS; requires `tls_cert`.',
  }),
});

sectionRules.set(httpTapOptions, (section) => {
  return [...secretProblems(section, 'secret'), ...pairProblems(section, 'tls_cert', 'tls_key')];
});

const RABBITMQ_ONLY = 'Only with `engine = "rabbitmq"`.';

const outboxOptions = z.strictObject({
  engine: option(z.enum(['sqlite', 'rabbitmq']).default('sqlite'), {
    expects: '"sqlite" or "rabbitmq"',
    text: '`sqlite`: a file, for one daemon. `rabbitmq`: queues of RabbitMQ, for any number of daemons that share the work: see [RabbitMQ](rabbitmq.md).',
  }),
  url: option(z.union([brokerUrl, z.array(brokerUrl).min(1)]).optional(), {
    expects: 'an `amqp://` or `amqps://` URL with user, password, host, port and vhost; or a list of them',
    text: `RabbitMQ's address: the nodes of one cluster, tried in turn. Percent-encode special characters of user, password and vhost. ${RABBITMQ_ONLY}`,
    example:
      '["amqps://pusher:${MQ_PASSWORD}@mq1.example.org/xmpp", "amqps://pusher:${MQ_PASSWORD}@mq2.example.org/xmpp"]',
    fallback: '**mandatory** with `engine = "rabbitmq"`',
  }),
  prefix: option(
    z
      .string()
      .regex(/^[A-Za-z0-9_-]+$/)
      .max(64)
      .default('xep'),
    {
      expects: '1 to 64 ASCII letters, digits, hyphens and underscores',
      text: `Prefix of its queues' names. Daemons with the same prefix share the work. ${RABBITMQ_ONLY}`,
    },
  ),
  partitions: option(count(1, 64).default(6), {
    expects: 'a whole number from 1 to 64',
    text: `Number of each topic's queues, and so of daemons that can share it. Must be the same for all daemons; to [change it](rabbitmq.md#changing-the-number-of-partitions), stop all of them. ${RABBITMQ_ONLY}`,
  }),
  path: option(z.string().min(1).default('./outbox.db'), {
    expects: 'the path of a file',
    text: 'The SQLite file with waiting notifications and dead letters; with RabbitMQ only the dead letters of this daemon. Relative to the configuration file.',
  }),
  max_bytes: option(count(1_048_576, Number.MAX_SAFE_INTEGER).default(1_073_741_824), {
    expects: 'a whole number of bytes, 1,048,576 or more',
    text: "Maximum size of its content; with RabbitMQ, of each topic's queues together. Beyond it the taps answer 503 and the adapters keep their events.",
  }),
  retention: option(duration.prefault('off'), {
    expects: DURATION_EXPECTS,
    text: 'How long dead letters are kept; older ones are deleted each hour. `off`: until someone replays or deletes them. Waiting notifications are always kept.',
    fallback: '`"off"`',
  }),
  ca_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM file with certificates',
    text: `Certificate authorities to trust for \`amqps\` instead of the public ones. Relative to the configuration file. ${RABBITMQ_ONLY}`,
    fallback: 'the public ones',
  }),
  cert_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM certificate',
    text: `A client certificate; requires \`key_file\`. A URL without a user then logs in with it (\`EXTERNAL\`). ${RABBITMQ_ONLY}`,
    fallback: 'none',
  }),
  key_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM private key',
    text: `The key of \`cert_file\`. ${RABBITMQ_ONLY}`,
    fallback: 'none',
  }),
});

sectionRules.set(outboxOptions, (section) => {
  const found = [];
  if (section.engine === 'rabbitmq') {
    if (section.url === undefined) found.push({ option: 'url', problem: 'is required with `engine = "rabbitmq"`' });
  } else
    for (const option of ['url', 'prefix', 'partitions', 'ca_file', 'cert_file', 'key_file'])
      if (section[option] !== undefined)
        found.push({ option, problem: 'has an effect only with `engine = "rabbitmq"`' });
  return [...found, ...pairProblems(section, 'cert_file', 'key_file')];
});

const traceOptions = z.strictObject({
  keep: option(duration.prefault('1h'), {
    expects: DURATION_EXPECTS,
    text: "How long the record is kept: delivered events with SNS's ids, and skipped events with the reason, all without bodies, in a file beside the outbox. [`find`](operations.md#what-happened-to-an-event) searches it. `off`: nothing is recorded, and the next start deletes the record.",
    fallback: '`"1h"`',
  }),
  max_bytes: option(count(1_048_576, Number.MAX_SAFE_INTEGER).default(268_435_456), {
    expects: 'a whole number of bytes, 1,048,576 or more',
    text: 'Maximum size of that file. Beyond it the oldest records are deleted, even within `keep`. A million events use about 30 MB.',
  }),
});

const adminOptions = z.strictObject({
  listen: option(listen.prefault('127.0.0.1:5291'), {
    expects: 'an address and a port, such as `127.0.0.1:5291`',
    text: 'The address of the [console](console.md), `/metrics`, `/healthz` and `/readyz`. Beyond loopback it requires a `token` of 20 characters or more.',
  }),
  token: option(secret({ spaces: true, least: 16 }).optional(), {
    expects: 'a secret of 16 characters or more',
    text: 'The password of the console, which programs send as `Authorization: Bearer …`; `/metrics`, `/healthz` and `/readyz` require none. Without it the console is open to every local process.',
    example: '"${ADMIN_TOKEN}"',
  }),
  source_silent_after: option(duration.prefault('1h'), {
    expects: DURATION_EXPECTS,
    text: 'A source that sends nothing for this long is shown as silent. A server without active users is silent too.',
    fallback: '`"1h"`',
  }),
});

sectionRules.set(adminOptions, (section) => secretProblems(section, 'token'));

const logOptions = z.strictObject({
  level: option(z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'), {
    expects: '"trace", "debug", "info", "warn", "error", "fatal" or "silent"',
    text: "The least severe level that is logged. Operators' actions in the console or on the command line, and changes that need a restart, are logged at all levels but `silent`.",
  }),
  format: option(z.enum(['json', 'pretty', 'journald']).optional(), {
    expects: '"json", "pretty" or "journald"',
    text: '`json`: JSON lines, with `level` as a word and `time` in ISO 8601. `pretty`: for people. `journald`: for the journal of systemd, with its priorities, so that `journalctl -p warning` works.',
    fallback: '`journald` under systemd, `pretty` on a terminal, else `json`',
  }),
});

/** Our sections of the file, by dotted path, in the order of the reference page. */
export const sections = {
  'modules.mod_event_pusher.sns': snsOptions,
  'tap.http': httpTapOptions.prefault({}),
  'tap.rabbitmq': rabbitTapOptions,
  'tap.rabbitmq.presence_exchange': presenceExchangeOptions.prefault({}),
  'tap.rabbitmq.chat_msg_exchange': chatExchangeOptions.prefault({}),
  'tap.rabbitmq.groupchat_msg_exchange': groupchatExchangeOptions.prefault({}),
  outbox: outboxOptions.prefault({}),
  trace: traceOptions.prefault({}),
  admin: adminOptions.prefault({}),
  log: logOptions.prefault({}),
} as const;

export type HttpTapOptions = z.infer<typeof httpTapOptions>;
export type OutboxOptions = z.infer<typeof outboxOptions>;
export type TraceOptions = z.infer<typeof traceOptions>;
export type AdminOptions = z.infer<typeof adminOptions>;
export type LogOptions = z.infer<typeof logOptions>;
