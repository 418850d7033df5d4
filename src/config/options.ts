/**
 * Every option of the configuration, once: type, default, expected form and description. Parsing, error messages, types
 * and `docs/configuration.md` all come from here.
 *
 * The `sns` section is MongooseIM's (https://esl.github.io/MongooseDocs/latest/modules/mod_event_pusher_sns/); the text
 * of other options says that MongooseIM lacks them.
 */
import { z } from 'zod';
import { type AttributeTemplate, additionProblems, BUILT_IN_ATTRIBUTES } from '../notification/additions.ts';
import { unusableCharacter } from './characters.ts';
import { bareRegionOf } from './regions.ts';
import { keyProblems, topicProblems } from './sns-rules.ts';

/** An option's description, for the reference page and the error messages. */
export interface OptionText {
  /** Completes "should be …". */
  readonly expects: string;
  /** Its description, in Markdown. */
  readonly text: string;
  readonly example?: string;
  /** Names the default where the schema can't show it. */
  readonly fallback?: string;
}

export const optionTexts = z.registry<OptionText>();

/** A rule that spans several options: returns the mistakes of a section as written, by option. */
type SectionRule = (section: Readonly<Record<string, unknown>>) => { option: string; problem: string }[];

/** Kept outside the schemas, so that these mistakes are listed together with all others. */
export const sectionRules = new Map<z.ZodType, SectionRule>();

function option<S extends z.ZodType>(schema: S, text: OptionText): S {
  optionTexts.add(schema, text);
  return schema;
}

/** Whether a host, in the form of a URL or `Host` header, is this machine itself. */
export const isLoopback = (host: string): boolean => /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/i.test(host);

/** A listening address: `host` as written (IPv6 without brackets) and a port. */
interface ListenAddress {
  readonly host: string;
  readonly port: number;
  readonly loopback: boolean;
}

const listen = z.string().transform((value, context): ListenAddress => {
  const match = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})$/.exec(value);
  const port = Number(match?.[2]);
  if (!match?.[1] || port > 65_535) {
    context.addIssue({ code: 'custom', input: value });
    return z.NEVER;
  }
  return { host: match[1].replace(/^\[|\]$/g, ''), port, loopback: isLoopback(match[1]) };
});

// SNS: "made up of only uppercase and lowercase ASCII letters, numbers, underscores, and hyphens, and must be between 1
// and 256 characters long"; a FIFO topic's name ends in .fifo (https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html).
const topicName = z
  .string()
  .regex(/^[A-Za-z0-9_-]+(\.fifo)?$/)
  .max(256);
/** A name, or a template that chooses among `topics`; section rules check the latter. */
const topicChoice = z.union([topicName, z.string().regex(/[{}]/)]);
const TOPIC_EXPECTS =
  'an SNS topic name: 1 to 256 ASCII letters, digits, hyphens and underscores, for a FIFO topic with `.fifo` at the end; or a template that makes one of `topics`, such as `chat-{host}`';

const snsHost = z.string().transform((value, context): URL => {
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(value) ? value : `https://${value}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  const usable =
    url && /^https?:$/.test(url.protocol) && url.hostname !== '' && !url.search && !url.hash && !url.username;
  if (!usable) {
    context.addIssue({ code: 'custom', input: value });
    return z.NEVER;
  }
  // MongooseIM's documentation also shows `eu-west-1.amazonaws.com`, a host that doesn't exist; SNS's is sns.REGION.
  if (bareRegionOf(url.hostname)) url.hostname = `sns.${url.hostname}`;
  return url;
});

const proxy = z.string().transform((value, context): URL | 'none' => {
  if (value === 'none') return value;
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.pathname === '/' && !url.search && !url.hash) return url;
  context.addIssue({ code: 'custom', input: value });
  return z.NEVER;
});

/** A secret that a header can contain unchanged; errors name the wrong character, never the secret. */
const secret = (options?: { spaces?: boolean; least?: number }) =>
  z
    .string()
    .min(options?.least ?? 1)
    .superRefine((value, context) => {
      const problem = unusableCharacter(value, options);
      if (problem) context.addIssue({ code: 'custom', input: value, message: problem, params: { problem } });
    });

const count = (minimum: number, maximum: number) => z.int().min(minimum).max(maximum);

/** Templates of attributes by name; section rules check them, so that an error names the attribute. */
const attributeTemplates = z.record(z.string(), z.custom<AttributeTemplate>()).optional();

const MANDATORY_IF_STATIC = '**mandatory** unless `credentials = "aws"`';

export const snsOptions = z.strictObject({
  presence_updates_topic: option(topicChoice.optional(), {
    expects: TOPIC_EXPECTS,
    text: 'Topic for presence notifications. Left out, presence is not published.',
    example: '"user_presence_updated"',
  }),
  pm_messages_topic: option(topicChoice.optional(), {
    expects: TOPIC_EXPECTS,
    text: 'Topic for private messages (`type="chat"`). Left out, they are not published.',
    example: '"user_message_sent"',
  }),
  muc_messages_topic: option(topicChoice.optional(), {
    expects: TOPIC_EXPECTS,
    text: 'Topic for group messages (`type="groupchat"`). Left out, they are not published.',
    example: '"user_messagegroup_sent"',
  }),
  topics: option(z.array(topicName).min(1).optional(), {
    expects: 'a list of SNS topic names',
    text: 'The topics that a template in one of the three options above may choose. In the name that a template makes, a hyphen replaces each character that SNS does not allow. An event whose topic is not listed is not published. Not in MongooseIM.',
    example: '["chat-example-org", "chat-example-net"]',
  }),
  plugin_module: option(z.string().min(1).default('mod_event_pusher_sns_defaults'), {
    expects: 'the path of an ES module or the name of a package, resolved from the configuration file',
    text: 'Makes user GUIDs and message attributes, and filters events: see [plugins](plugins.md). The default gives bare JIDs and no attributes.',
    example: '"./plugin.ts"',
  }),
  plugin_options: option(z.record(z.string(), z.unknown()).optional(), {
    expects: 'a section with whatever the plugin wants',
    text: 'Handed to the `start` function of the plugin, as a section of its own: `[….sns.plugin_options]`. Not in MongooseIM.',
    example: '{ timeout_ms = 200 }',
    fallback: 'nothing',
  }),
  sns_host: option(snsHost, {
    expects: 'a host name, or an http(s) URL without query, such as `sns.eu-west-1.amazonaws.com`',
    text: 'Where SNS is. Scheme, port and path are used; `https` unless the URL says otherwise. `REGION.amazonaws.com` is read as `sns.REGION.amazonaws.com`.',
    example: '"sns.eu-west-1.amazonaws.com"',
  }),
  region: option(z.string().regex(/^[a-z0-9-]+$/), {
    expects: 'an AWS region, such as `eu-west-1`',
    text: "The AWS region: part of the topic ARN and of every signature. Its partition (`aws-cn`, `aws-us-gov`, `aws-eusc` …) follows from AWS's own list.",
    example: '"eu-west-1"',
  }),
  credentials: option(z.enum(['static', 'aws']).default('static'), {
    expects: '"static" or "aws"',
    text: "`static`: `access_key_id` and `secret_access_key`. `aws`: AWS's own provider chain (environment, shared profile with assumed roles, web identity, container, instance), refreshed before they expire. Not in MongooseIM.",
  }),
  access_key_id: option(secret().optional(), {
    expects: 'the id of an AWS access key, not empty',
    text: 'Access key that may `sns:Publish` to the topics.',
    example: '"AKIAIOSFODNN7EXAMPLE"',
    fallback: MANDATORY_IF_STATIC,
  }),
  secret_access_key: option(secret().optional(), {
    expects: 'the secret of that access key, not empty',
    text: "The key's secret. Keep it out of the file, as in the example.",
    example: '"${AWS_SECRET_ACCESS_KEY}"',
    fallback: MANDATORY_IF_STATIC,
  }),
  account_id: option(z.string().regex(/^\d{12}$/), {
    expects: 'an AWS account number: 12 digits, in quotes',
    text: 'The AWS account that owns the topics: part of the topic ARN.',
    example: '"123456789012"',
  }),
  pool_size: option(count(1, 10_000).default(100), {
    expects: 'a whole number from 1 to 10,000',
    text: 'How many requests to SNS may be under way at once.',
  }),
  max_messages_per_second: option(count(1, 1_000_000).optional(), {
    expects: 'a whole number from 1 to 1,000,000',
    text: 'A cap on the rate, for all topics of the account together. Without it the rate follows SNS: it falls when SNS throttles, and recovers. Not in MongooseIM.',
    fallback: 'no cap',
  }),
  ca_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM file with certificates',
    text: 'Certificate authorities to trust for `sns_host` instead of the public ones, for a private endpoint. Relative to the configuration file. Not in MongooseIM.',
    fallback: 'the public ones',
  }),
  proxy: option(proxy.optional(), {
    expects: '`http://host:port` or `https://host:port` of an HTTP proxy, also with `user:password@`, or "none"',
    text: 'The proxy to SNS and to where credentials come from (STS, SSO), by `CONNECT`. Without it `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment count, in capitals or not, except for this machine itself; `"none"`: no proxy, whatever they say. A user or password with special characters is percent-encoded. Not in MongooseIM.',
    example: '"http://${PROXY_LOGIN}@proxy.example.org:3128"',
    fallback: 'as the environment says',
  }),
  publish_retry_count: option(count(0, 1_000).default(2), {
    expects: 'a whole number from 0 to 1,000',
    text: 'How many more times a publish is tried after an error worth retrying, before `publish_exhausted` applies.',
  }),
  publish_retry_time_ms: option(count(0, 3_600_000).default(50), {
    expects: 'a whole number of milliseconds from 0 to 3,600,000',
    text: 'Base of the exponential backoff: the n-th retry waits `2^(n-1) · base − random(1..base)` ms. 0: no wait.',
  }),
  publish_exhausted: option(z.enum(['wait', 'dead-letter']).default('wait'), {
    expects: '"wait" or "dead-letter"',
    text: 'What happens when the retries are used up. `wait`: the topic waits with growing pauses up to 30 s, and nothing is dropped. `dead-letter`: the notification becomes a dead letter if it may itself be the cause; for keys, clock, network, proxies and permissions the topic still waits. Not in MongooseIM, which drops it.',
  }),
  presence: option(z.enum(['user', 'session']).default('user'), {
    expects: '"user" or "session"',
    text: "`user`: online when a user's first session comes, offline when the last one goes. `session`: one notification for every session, as MongooseIM sends them. Not in MongooseIM.",
  }),
  attributes: option(z.array(z.enum(BUILT_IN_ATTRIBUTES)).default([]), {
    expects: `a list of any of ${BUILT_IN_ATTRIBUTES.map((name) => `"${name}"`).join(', ')}`,
    text: "Built-in message attributes: the event's id (for deduplication), when it happened (Number, ms since 1970), presence, private or group message, the stanza's id where it had one, the virtual host, the W3C trace context that the batch came with. See [notifications](notifications.md#message-attributes). Not in MongooseIM.",
    example: '["event_id", "timestamp", "type"]',
  }),
  message_attributes: option(attributeTemplates, {
    expects: 'a section of names with templates',
    text: 'More attributes of private and group messages, each a [template](notifications.md#templates), such as `room = "{room}"` and `size = { number = "{body.length}" }`. Not in MongooseIM.',
    fallback: 'none',
  }),
  presence_attributes: option(attributeTemplates, {
    expects: 'a section of names with templates',
    text: 'The same for presence. Not in MongooseIM.',
    fallback: 'none',
  }),
  cloudevents: option(z.boolean().default(false), {
    expects: 'true or false',
    text: 'Adds the attributes of CloudEvents 1.0: `ce_specversion`, `ce_id`, `ce_source`, `ce_type`, `ce_time`, `ce_datacontenttype`. Not in MongooseIM.',
  }),
  body_fields: option(z.array(z.string()).default([]), {
    expects: 'a list of names of fields',
    text: '[Fields](notifications.md#fields) to add to the published JSON, behind its own keys, for subscribers that get no attributes. Not in MongooseIM.',
    example: '["type", "event_id", "timestamp"]',
  }),
  subject: option(z.string().min(1).optional(), {
    expects: 'a text, or a template',
    text: 'The subject, a [template](notifications.md#templates), which e-mail subscribers see. Characters that SNS does not allow in a subject become `?`; cut after 99 characters. Not in MongooseIM.',
    fallback: 'none',
  }),
  message_group_id: option(z.string().min(1).optional(), {
    expects: 'a text, or a template',
    text: 'The message group in FIFO topics, a [template](notifications.md#templates). Not in MongooseIM.',
    fallback: 'the user of a presence, the sender of a private message, the room of a group message',
  }),
  message_deduplication_id: option(z.string().min(1).optional(), {
    expects: 'a text, or a template',
    text: 'The deduplication id in FIFO topics, a [template](notifications.md#templates). Not in MongooseIM.',
    fallback: 'the id of the event',
  }),
});

sectionRules.set(snsOptions, (section) => [
  ...keyProblems(section),
  ...topicProblems(section),
  ...additionProblems(section),
]);

const httpTapOptions = z.strictObject({
  listen: option(listen.prefault('127.0.0.1:5290'), {
    expects: 'an address and a port, such as `127.0.0.1:5290` or `[::1]:5290`',
    text: 'Where adapters post events. Beyond loopback it needs a `secret` of 20 characters or more.',
  }),
  secret: option(secret({ spaces: true }).optional(), {
    expects: 'the secret that the adapters send, not empty',
    text: 'What adapters must send as `Authorization: Bearer …`. Without it every local process may post events, and a start logs a warning.',
    example: '"${TAP_SECRET}"',
  }),
  tls_cert: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM certificate chain',
    text: 'Certificate chain for HTTPS; goes with `tls_key`. Renewed files are read at a reload.',
  }),
  tls_key: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM private key',
    text: 'Private key for HTTPS; goes with `tls_cert`.',
  }),
});

/** Minimum length of a secret when other machines can try to guess it. */
export const LEAST_BEYOND_LOOPBACK = 20;

/** The mistake in the secret of a server that listens there; undefined if there is none. */
function secretProblems(section: Readonly<Record<string, unknown>>, option: string) {
  const address = listen.safeParse(section.listen);
  if (!address.success || address.data.loopback) return [];
  const value = section[option];
  const where = 'when `listen` is not a loopback address';
  if (value === undefined) return [{ option, problem: `is required ${where}` }];
  if (typeof value !== 'string' || value.length >= LEAST_BEYOND_LOOPBACK) return [];
  return [{ option, problem: `is too short, should have ${LEAST_BEYOND_LOOPBACK} characters or more ${where}` }];
}

/** The mistake if only one of two options that belong together is set. */
function pairProblems(section: Readonly<Record<string, unknown>>, one: string, two: string) {
  const pairs = [
    [one, two],
    [two, one],
  ] as const;
  return pairs.flatMap(([option, other]) =>
    section[option] === undefined && section[other] !== undefined
      ? [{ option, problem: `is missing: \`${one}\` and \`${two}\` go together` }]
      : [],
  );
}

sectionRules.set(httpTapOptions, (section) => {
  return [...secretProblems(section, 'secret'), ...pairProblems(section, 'tls_cert', 'tls_key')];
});

const brokerUrl = z.string().superRefine((value, context) => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (!url || !/^amqps?:$/.test(url.protocol) || url.hostname === '' || url.hash)
    context.addIssue({ code: 'custom', input: value });
});

/** RabbitMQ's limits: at most 255 bytes; names that begin with `amq.` are reserved. */
const brokerName = (more = 0) =>
  z.string().refine((name) => name !== '' && Buffer.byteLength(name) <= 255 - more && !name.startsWith('amq.'));
const LONGEST_SUFFIX = 55;

const rabbitTapOptions = z.strictObject({
  url: option(z.union([brokerUrl.transform((url) => [url]), z.array(brokerUrl).min(1)]), {
    expects: 'an `amqp://` or `amqps://` URL with user, password, host, port and vhost; or a list of them',
    text: "Where RabbitMQ is; the last part is the vhost, `/` where there is none. Nodes of a list are tried in turn. Left out in a whole `mongooseim.toml`, it is that of MongooseIM's pool `outgoing_pools.rabbit.event_pusher`.",
    example: '"amqps://pusher:${RABBITMQ_PASSWORD}@mq1.example.org/xmpp"',
  }),
  queue: option(brokerName(LONGEST_SUFFIX).default('xmpp-event-pusher'), {
    expects: 'a name of at most 200 bytes that does not begin with `amq.`',
    text: "The daemon's queue, which it declares and binds, with a second queue named `….sessions` for the count of sessions. All daemons with the same name share it: one reads at a time.",
  }),
  ca_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM file with certificates',
    text: 'Certificate authorities to trust for `amqps` instead of the public ones. Relative to the configuration file.',
    fallback: 'the public ones',
  }),
  cert_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM certificate',
    text: 'A client certificate; goes with `key_file`. A URL without a user then logs in with it (`EXTERNAL`).',
    fallback: 'none',
  }),
  key_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM private key',
    text: 'The key of `cert_file`.',
    fallback: 'none',
  }),
});

sectionRules.set(rabbitTapOptions, (section) => pairProblems(section, 'cert_file', 'key_file'));

/** One of MongooseIM's exchanges, with the same options. */
const exchangeOptions = (what: string, name: string) => ({
  name: option(brokerName().default(name), {
    expects: 'a name of at most 255 bytes that does not begin with `amq.`',
    text: `The exchange that MongooseIM publishes ${what} to.`,
  }),
  type: option(z.enum(['topic', 'fanout', 'headers', 'direct']).default('topic'), {
    expects: '"topic", "fanout", "headers" or "direct"',
    text: "Its type. To a `direct` one the daemon can't bind: see [MongooseIM](mongooseim.md#direct-exchanges).",
  }),
  durable: option(z.boolean().default(false), {
    expects: 'true or false',
    text: 'Whether it survives a restart of the broker. Must be as in MongooseIM, which does not start if they differ.',
  }),
});

const messageExchangeOptions = (what: string, name: string) =>
  z.strictObject({
    ...exchangeOptions(what, name),
    sent_topic: option(z.string().min(1).default(`${name}_sent`), {
      expects: 'a text that is not empty',
      text: 'The end of the routing keys of messages that users sent, which are published.',
    }),
    recv_topic: option(z.string().min(1).default(`${name}_recv`), {
      expects: 'a text that is not empty',
      text: "The end of the routing keys of recipients' copies, which are not published.",
    }),
  });

const presenceExchangeOptions = z.strictObject(exchangeOptions('presence', 'presence'));
const chatExchangeOptions = messageExchangeOptions('private messages', 'chat_msg');
const groupchatExchangeOptions = messageExchangeOptions('group messages', 'groupchat_msg');

const RABBITMQ_ONLY = 'Only with `engine = "rabbitmq"`.';

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration such as `90s`, `15m`, `1h` or `7d`, in milliseconds; `off` is 0. */
const duration = z.string().transform((value, context): number => {
  if (value === 'off') return 0;
  const [, digits, unit] = /^([1-9]\d{0,6})([smhd])$/.exec(value) ?? [];
  if (unit) return Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
  context.addIssue({ code: 'custom', input: value });
  return z.NEVER;
});
const DURATION_EXPECTS = 'a length of time such as "90s", "15m", "1h" or "7d", or "off"';

const outboxOptions = z.strictObject({
  engine: option(z.enum(['sqlite', 'rabbitmq']).default('sqlite'), {
    expects: '"sqlite" or "rabbitmq"',
    text: '`sqlite`: a file, for one daemon. `rabbitmq`: queues of RabbitMQ, for any number of daemons that share the work: see [RabbitMQ](rabbitmq.md).',
  }),
  url: option(z.union([brokerUrl, z.array(brokerUrl).min(1)]).optional(), {
    expects: 'an `amqp://` or `amqps://` URL with user, password, host, port and vhost; or a list of them',
    text: `Where RabbitMQ is: the nodes of one cluster, tried in turn. Special characters of user, password and vhost are percent-encoded. ${RABBITMQ_ONLY}`,
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
      text: `What the names of its queues begin with. Daemons with the same prefix share the work. ${RABBITMQ_ONLY}`,
    },
  ),
  partitions: option(count(1, 64).default(6), {
    expects: 'a whole number from 1 to 64',
    text: `How many queues each topic has, which is how many daemons can share it. Must be the same for all daemons; [changing it](rabbitmq.md#changing-the-number-of-partitions) needs all of them stopped. ${RABBITMQ_ONLY}`,
  }),
  path: option(z.string().min(1).default('./outbox.db'), {
    expects: 'the path of a file',
    text: 'The SQLite file that keeps notifications until SNS has them, and dead letters; with RabbitMQ only the dead letters of this daemon. Relative to the configuration file.',
  }),
  max_bytes: option(count(1_048_576, Number.MAX_SAFE_INTEGER).default(1_073_741_824), {
    expects: 'a whole number of bytes, 1,048,576 or more',
    text: "How large its content may grow; with RabbitMQ, the total size of each topic's queues. Past it the taps answer 503 and the adapters keep their events.",
  }),
  retention: option(duration.prefault('off'), {
    expects: DURATION_EXPECTS,
    text: 'How long dead letters are kept; older ones are deleted each hour. `off`: until somebody replays or deletes them. Notifications that wait for SNS are always kept.',
    fallback: '`"off"`',
  }),
  ca_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM file with certificates',
    text: `Certificate authorities to trust for \`amqps\` instead of the public ones. Relative to the configuration file. ${RABBITMQ_ONLY}`,
    fallback: 'the public ones',
  }),
  cert_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM certificate',
    text: `A client certificate; goes with \`key_file\`. A URL without a user then logs in with it (\`EXTERNAL\`). ${RABBITMQ_ONLY}`,
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
    text: "How long the record is kept: which events were delivered, with SNS's ids, and which were skipped, and why; without their bodies, in a file beside the outbox. [`find`](operations.md#what-happened-to-an-event) searches it. `off`: nothing is recorded, and the next start deletes the record.",
    fallback: '`"1h"`',
  }),
  max_bytes: option(count(1_048_576, Number.MAX_SAFE_INTEGER).default(268_435_456), {
    expects: 'a whole number of bytes, 1,048,576 or more',
    text: 'How large that file may grow. Past it the oldest records are deleted, whatever `keep` says. A million events take some 30 MB.',
  }),
});

const adminOptions = z.strictObject({
  listen: option(listen.prefault('127.0.0.1:5291'), {
    expects: 'an address and a port, such as `127.0.0.1:5291`',
    text: 'Where the [console](console.md), `/metrics`, `/healthz` and `/readyz` answer. Beyond loopback it needs a `token` of 20 characters or more.',
  }),
  token: option(secret({ spaces: true, least: 16 }).optional(), {
    expects: 'a secret of 16 characters or more',
    text: 'The password of the console, which programs send as `Authorization: Bearer …`; `/metrics`, `/healthz` and `/readyz` need none. Without it the console is open to every local process.',
    example: '"${ADMIN_TOKEN}"',
  }),
  source_silent_after: option(duration.prefault('1h'), {
    expects: DURATION_EXPECTS,
    text: 'How long a source may send nothing until it is shown as silent. A server without active users is silent too.',
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
    text: '`json`: one JSON object a line, with `level` as a word and `time` in ISO 8601. `pretty`: for people. `journald`: for the journal of systemd, with its priorities, so that `journalctl -p warning` works.',
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

/** The options of one `sns` section, as parsed. Names are those of the file. */
export type SnsOptions = z.infer<typeof snsOptions>;
export type HttpTapOptions = z.infer<typeof httpTapOptions>;
export interface RabbitTapOptions extends z.infer<typeof rabbitTapOptions> {
  readonly presence_exchange: z.infer<typeof presenceExchangeOptions>;
  readonly chat_msg_exchange: z.infer<typeof chatExchangeOptions>;
  readonly groupchat_msg_exchange: z.infer<typeof groupchatExchangeOptions>;
}
export type OutboxOptions = z.infer<typeof outboxOptions>;
export type TraceOptions = z.infer<typeof traceOptions>;
export type AdminOptions = z.infer<typeof adminOptions>;
export type LogOptions = z.infer<typeof logOptions>;
