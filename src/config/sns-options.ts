/**
 * The options of the `sns` section: MongooseIM's (https://esl.github.io/MongooseDocs/latest/modules/mod_event_pusher_sns/);
 * the text of other options says that MongooseIM lacks them.
 */
import { z } from 'zod';
import { type AttributeTemplate, additionProblems, BUILT_IN_ATTRIBUTES } from '../notification/additions.ts';
import { count, option, secret, sectionRules } from './option.ts';
import { bareRegionOf } from './regions.ts';
import { keyProblems, topicProblems } from './sns-rules.ts';

// SNS: "made up of only uppercase and lowercase ASCII letters, numbers, underscores, and hyphens, and must be between 1
// and 256 characters long"; a FIFO topic's name ends in .fifo (https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html).
const topicName = z
  .string()
  .regex(/^[A-Za-z0-9_-]+(\.fifo)?$/)
  .max(256);
/** A name, or a template that chooses among `topics`; section rules check the latter. */
const topicChoice = z.union([topicName, z.string().regex(/[{}]/)]);
const TOPIC_EXPECTS =
  'an SNS topic name: 1 to 256 ASCII letters, digits, hyphens and underscores, for a FIFO topic with `.fifo` at the end; or a template for one of `topics`, such as `chat-{host}`';

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

/** Templates of attributes by name; section rules check them, so that an error names the attribute. */
const attributeTemplates = z.record(z.string(), z.custom<AttributeTemplate>()).optional();

const MANDATORY_IF_STATIC = '**mandatory** unless `credentials = "aws"`';

export const snsOptions = z.strictObject({
  presence_updates_topic: option(topicChoice.optional(), {
    expects: TOPIC_EXPECTS,
    text: 'Topic for presence notifications. Without it presence is not published.',
    example: '"user_presence_updated"',
  }),
  pm_messages_topic: option(topicChoice.optional(), {
    expects: TOPIC_EXPECTS,
    text: 'Topic for private messages (`type="chat"`). Without it they are not published.',
    example: '"user_message_sent"',
  }),
  muc_messages_topic: option(topicChoice.optional(), {
    expects: TOPIC_EXPECTS,
    text: 'Topic for group messages (`type="groupchat"`). Without it they are not published.',
    example: '"user_messagegroup_sent"',
  }),
  topics: option(z.array(topicName).min(1).optional(), {
    expects: 'a list of SNS topic names',
    text: "The topics that templates in the three options above may select. A hyphen replaces each character of a template's result that SNS does not allow. An event whose topic is not listed is not published. Not in MongooseIM.",
    example: '["chat-example-org", "chat-example-net"]',
  }),
  plugin_module: option(z.string().min(1).default('mod_event_pusher_sns_defaults'), {
    expects: 'the path of an ES module or the name of a package, resolved from the configuration file',
    text: 'Creates user GUIDs and message attributes, and filters events: see [plugins](plugins.md). The default uses bare JIDs and no attributes.',
    example: '"./plugin.ts"',
  }),
  plugin_options: option(z.record(z.string(), z.unknown()).optional(), {
    expects: 'a section',
    text: 'Passed to the `start` function of the plugin. As a section: `[….sns.plugin_options]`. Not in MongooseIM.',
    example: '{ timeout_ms = 200 }',
    fallback: 'nothing',
  }),
  sns_host: option(snsHost, {
    expects: 'a host name, or an http(s) URL without query, such as `sns.eu-west-1.amazonaws.com`',
    text: 'The address of SNS. Scheme, port and path are used; `https` is the default. `REGION.amazonaws.com` means `sns.REGION.amazonaws.com`.',
    example: '"sns.eu-west-1.amazonaws.com"',
  }),
  region: option(z.string().regex(/^[a-z0-9-]+$/), {
    expects: 'an AWS region, such as `eu-west-1`',
    text: "The AWS region: part of the topic ARN and of every signature. AWS's own list determines its partition (`aws-cn`, `aws-us-gov`, `aws-eusc` …).",
    example: '"eu-west-1"',
  }),
  credentials: option(z.enum(['static', 'aws']).default('static'), {
    expects: '"static" or "aws"',
    text: "`static`: `access_key_id` and `secret_access_key`. `aws`: AWS's own provider chain (environment, shared profile with assumed roles, web identity, container, instance), refreshed before they expire. Not in MongooseIM.",
  }),
  access_key_id: option(secret().optional(), {
    expects: 'the id of an AWS access key, not empty',
    text: 'Access key with the permission `sns:Publish` on the topics.',
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
    text: 'Maximum number of open requests to SNS.',
  }),
  max_messages_per_second: option(count(1, 1_000_000).optional(), {
    expects: 'a whole number from 1 to 1,000,000',
    text: 'Limit of the rate, for all topics of the account together. Also without it the rate falls when SNS throttles, and recovers. Not in MongooseIM.',
    fallback: 'no limit',
  }),
  ca_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM file with certificates',
    text: 'Certificate authorities to trust for `sns_host` instead of the public ones, for a private endpoint. Relative to the configuration file. Not in MongooseIM.',
    fallback: 'the public ones',
  }),
  proxy: option(proxy.optional(), {
    expects: '`http://host:port` or `https://host:port` of an HTTP proxy, also with `user:password@`, or "none"',
    text: 'The proxy for SNS and the sources of credentials (STS, SSO), by `CONNECT`. By default `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment, in upper or lower case, apply, except to this machine itself; `"none"` ignores them. Percent-encode special characters of user and password. Not in MongooseIM.',
    example: '"http://${PROXY_LOGIN}@proxy.example.org:3128"',
    fallback: 'from the environment',
  }),
  publish_retry_count: option(count(0, 1_000).default(2), {
    expects: 'a whole number from 0 to 1,000',
    text: 'Maximum number of retries after an error that may pass, before `publish_exhausted` applies.',
  }),
  publish_retry_time_ms: option(count(0, 3_600_000).default(50), {
    expects: 'a whole number of milliseconds from 0 to 3,600,000',
    text: 'Base of the exponential backoff: the n-th retry waits `2^(n-1) · base − random(1..base)` ms. 0: no wait.',
  }),
  publish_exhausted: option(z.enum(['wait', 'dead-letter']).default('wait'), {
    expects: '"wait" or "dead-letter"',
    text: 'The action after the last retry. `wait`: the topic waits with growing pauses up to 30 s, and nothing is dropped. `dead-letter`: the notification becomes a dead letter if it may itself be the cause; for keys, clock, network, proxies and permissions the topic still waits. Not in MongooseIM, which drops the notification.',
  }),
  presence: option(z.enum(['user', 'session']).default('user'), {
    expects: '"user" or "session"',
    text: "`user`: online with a user's first session, offline after the last one. `session`: one notification for every session, as in MongooseIM, which lacks this option.",
  }),
  attributes: option(z.array(z.enum(BUILT_IN_ATTRIBUTES)).default([]), {
    expects: `a list of any of ${BUILT_IN_ATTRIBUTES.map((name) => `"${name}"`).join(', ')}`,
    text: "Built-in message attributes: the event's id (for deduplication), its time (Number, ms since 1970), its type, the stanza's id if it has one, the virtual host, the W3C trace context of the batch. See [notifications](notifications.md#message-attributes). Not in MongooseIM.",
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
    text: '[Fields](notifications.md#fields) to add to the published JSON, after its own keys, for subscribers that get no attributes. Not in MongooseIM.',
    example: '["type", "event_id", "timestamp"]',
  }),
  subject: option(z.string().min(1).optional(), {
    expects: 'a text, or a template',
    text: 'The subject for e-mail subscribers, a [template](notifications.md#templates). Characters that SNS does not allow become `?`; truncated to 99 characters. Not in MongooseIM.',
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

/** The options of one `sns` section, as parsed. Names are those of the file. */
export type SnsOptions = z.infer<typeof snsOptions>;
