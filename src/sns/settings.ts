/** A host program's settings: the options of an `sns` section with JavaScript names. */
import { unusableCharacter } from '../config/characters.ts';
import { shapeOf } from '../config/load.ts';
import { optionTexts } from '../config/option.ts';
import { snsHostOf } from '../config/regions.ts';
import { type SnsOptions, snsOptions } from '../config/sns-options.ts';
import { topicProblems } from '../config/sns-rules.ts';
import { PusherError } from '../errors.ts';
import { type Additions, additionProblems, compileAdditions } from '../notification/additions.ts';
import { DEFAULT_PLUGIN, type SnsPlugin } from '../notification/plugin.ts';
import type { CredentialSource } from './credentials.ts';
import type { AwsCredentials } from './signature.ts';

/** The additions to a notification: docs/notifications.md has the names for templates. */
export interface AdditionSettings {
  /** Built-in message attributes. Default: none. */
  readonly attributes?: SnsOptions['attributes'] | undefined;
  /** More attributes, for messages and presence, as templates. */
  readonly messageAttributes?: SnsOptions['message_attributes'];
  readonly presenceAttributes?: SnsOptions['presence_attributes'];
  /** Whether to add the attributes of CloudEvents. Default: false. */
  readonly cloudEvents?: boolean | undefined;
  /** Fields to add to the published JSON. Default: none. */
  readonly bodyFields?: readonly string[] | undefined;
  /** Templates for the other parameters of a request. */
  readonly subject?: string | undefined;
  readonly messageGroupId?: string | undefined;
  readonly messageDeduplicationId?: string | undefined;
}

/** Where and how to publish to Amazon SNS. Defaults, limits and meaning are those of docs/configuration.md. */
export interface SnsSettings extends AdditionSettings {
  /** AWS region, such as `eu-west-1`. */
  readonly region: string;
  /** The AWS account that owns the topics: 12 digits. */
  readonly accountId: string;
  /** Names of the topics; a kind without one is not published. */
  readonly topics: { readonly presence?: string; readonly pm?: string; readonly muc?: string };
  /** Fixed keys, a function that returns unexpired credentials, or `'aws'` (default): AWS's provider chain. */
  readonly credentials?: AwsCredentials | (() => Promise<AwsCredentials>) | 'aws' | undefined;
  /** Host name or http(s) URL of SNS. Default: the region's. */
  readonly endpoint?: string | URL | undefined;
  /** Path of a PEM file with certificate authorities to trust instead of the public ones. */
  readonly caFile?: string | undefined;
  /** URL of an HTTP proxy, or `'none'`. Default: HTTPS_PROXY, HTTP_PROXY and NO_PROXY. */
  readonly proxy?: string | URL | undefined;
  /** Maximum number of open requests. Default: 100. */
  readonly poolSize?: number | undefined;
  /** Upper limit of the rate, in messages per second. Default: none. */
  readonly maxMessagesPerSecond?: number | undefined;
  /** How often a publish is retried. Default: 2. */
  readonly retryCount?: number | undefined;
  /** Base of the delays between retries, in milliseconds. Default: 50. */
  readonly retryTimeMs?: number | undefined;
  /** What happens after the last retry. Default: `'wait'`. */
  readonly exhausted?: 'wait' | 'dead-letter' | undefined;
  /** Whether presence means the user's status or each session's. Default: `'user'`. */
  readonly presence?: 'user' | 'session' | undefined;
  /** The topic names among which a template in `topics` chooses. */
  readonly topicNames?: readonly string[] | undefined;
  /** A plugin, or the path or package of one. Default: bare JIDs, no attributes, nothing filtered. */
  readonly plugin?: SnsPlugin | string | undefined;
  /** The argument of the plugin's `start`. Default: none. */
  readonly pluginOptions?: Readonly<Record<string, unknown>> | undefined;
}

/** The `sns` section's option for each setting; `topics.…` and `credentials` stand for several. */
const OPTIONS = {
  region: 'region',
  accountId: 'account_id',
  'topics.presence': 'presence_updates_topic',
  'topics.pm': 'pm_messages_topic',
  'topics.muc': 'muc_messages_topic',
  endpoint: 'sns_host',
  caFile: 'ca_file',
  pluginOptions: 'plugin_options',
  proxy: 'proxy',
  poolSize: 'pool_size',
  maxMessagesPerSecond: 'max_messages_per_second',
  retryCount: 'publish_retry_count',
  retryTimeMs: 'publish_retry_time_ms',
  exhausted: 'publish_exhausted',
  presence: 'presence',
  attributes: 'attributes',
  messageAttributes: 'message_attributes',
  presenceAttributes: 'presence_attributes',
  cloudEvents: 'cloudevents',
  bodyFields: 'body_fields',
  subject: 'subject',
  messageGroupId: 'message_group_id',
  messageDeduplicationId: 'message_deduplication_id',
  topicNames: 'topics',
} as const;

/**
 * Converts settings to the options of a section.
 * @throws PusherError CONFIG_INVALID that names every invalid setting
 */
export function snsOptionsOf(settings: SnsSettings): SnsOptions {
  const { topics, credentials, plugin: _, endpoint = snsHostOf(settings.region), ...rest } = settings;
  const flat: Record<string, unknown> = { ...rest, endpoint: String(endpoint) };
  for (const [kind, topic] of Object.entries(topics ?? {})) flat[`topics.${kind}`] = topic;
  const names = new Map<string, string>(Object.entries(OPTIONS));
  const section: Record<string, unknown> =
    typeof credentials === 'object' && credentials !== null
      ? { access_key_id: credentials.accessKeyId, secret_access_key: credentials.secretAccessKey }
      : { credentials: 'aws' };
  const problems = credentialProblems(credentials);
  for (const [setting, value] of Object.entries(flat)) {
    const option = names.get(setting);
    if (!option) problems.push(`sns.${setting} is not a setting; there are ${[...names.keys()].join(', ')}`);
    else if (value !== undefined) section[option] = value instanceof URL ? String(value) : value;
  }
  const parsed = snsOptions.safeParse(section);
  const settingOf = new Map([...names].map(([setting, option]) => [option, setting]));
  const wrong = new Set(parsed.success ? [] : parsed.error.issues.map(({ path }) => String(path[0])));
  for (const option of wrong) {
    const expects = optionTexts.get(shapeOf(snsOptions)[option] as (typeof snsOptions.shape)['region'])?.expects;
    problems.push(`sns.${settingOf.get(option) ?? option} should be ${expects}`);
  }
  for (const { option, problem } of [...topicProblems(section), ...additionProblems(section)]) {
    problems.push(`sns.${inSettings(option, settingOf)} ${problem}`);
  }
  if (problems.length > 0 || !parsed.success) throw new PusherError('CONFIG_INVALID', problems.join('; '));
  return parsed.data;
}

/** Mistakes in the credentials that the section's options don't cover. */
function credentialProblems(given: unknown): string[] {
  if (given === undefined || given === 'aws' || typeof given === 'function') return [];
  if (typeof given !== 'object' || given === null) return ['sns.credentials should be keys, a function or "aws"'];
  const { accessKeyId, secretAccessKey, sessionToken = '' } = given as Partial<AwsCredentials>;
  if (accessKeyId === undefined || secretAccessKey === undefined)
    return ['sns.credentials should have accessKeyId and secretAccessKey'];
  const odd = unusableCharacter(String(sessionToken));
  return odd ? [`sns.credentials.sessionToken ${odd}`] : [];
}

/**
 * Converts additions, for a sink other than SNS.
 * @throws PusherError CONFIG_INVALID that names every invalid setting
 */
export function additionsOf(settings: AdditionSettings): Additions {
  const options = {
    attributes: settings.attributes ?? [],
    message_attributes: settings.messageAttributes,
    presence_attributes: settings.presenceAttributes,
    cloudevents: settings.cloudEvents,
    body_fields: settings.bodyFields,
    subject: settings.subject,
    message_group_id: settings.messageGroupId,
    message_deduplication_id: settings.messageDeduplicationId,
  };
  const settingOf = new Map(Object.entries(OPTIONS).map(([setting, option]) => [option as string, setting]));
  const problems = additionProblems(options).map(
    ({ option, problem }) => `${inSettings(option, settingOf)} ${problem}`,
  );
  if (problems.length > 0) throw new PusherError('CONFIG_INVALID', problems.join('; '));
  return compileAdditions(options);
}

/** The host program's name for an option, or for an attribute in it. */
function inSettings(option: string, settingOf: ReadonlyMap<string, string>): string {
  const [name = '', attribute] = option.split(/\.(.*)/s);
  return `${settingOf.get(name) ?? name}${attribute === undefined ? '' : `.${attribute}`}`;
}

/** Converts a section of a configuration file to settings. */
export function snsSettingsOf(section: SnsOptions): SnsSettings {
  const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, plugin_module: plugin } = section;
  const keys = accessKeyId !== undefined && secretAccessKey !== undefined && { accessKeyId, secretAccessKey };
  return {
    region: section.region,
    accountId: section.account_id,
    topics: {
      ...(section.presence_updates_topic !== undefined && { presence: section.presence_updates_topic }),
      ...(section.pm_messages_topic !== undefined && { pm: section.pm_messages_topic }),
      ...(section.muc_messages_topic !== undefined && { muc: section.muc_messages_topic }),
    },
    credentials: keys || 'aws',
    endpoint: section.sns_host,
    caFile: section.ca_file,
    ...(section.plugin_options !== undefined && { pluginOptions: section.plugin_options }),
    ...(section.proxy !== undefined && { proxy: section.proxy }),
    poolSize: section.pool_size,
    maxMessagesPerSecond: section.max_messages_per_second,
    retryCount: section.publish_retry_count,
    retryTimeMs: section.publish_retry_time_ms,
    exhausted: section.publish_exhausted,
    presence: section.presence,
    attributes: section.attributes,
    messageAttributes: section.message_attributes,
    presenceAttributes: section.presence_attributes,
    cloudEvents: section.cloudevents,
    bodyFields: section.body_fields,
    subject: section.subject,
    messageGroupId: section.message_group_id,
    messageDeduplicationId: section.message_deduplication_id,
    topicNames: section.topics,
    plugin: plugin === DEFAULT_PLUGIN ? undefined : plugin,
  };
}

/** The source of these settings' credentials; undefined: AWS's own provider chain. */
export function credentialSourceOf({ credentials }: SnsSettings): CredentialSource | undefined {
  if (credentials === undefined || credentials === 'aws') return undefined;
  const get = typeof credentials === 'function' ? credentials : () => credentials;
  // A function returns fresh credentials itself; fixed keys never change.
  return { get, expired: () => {} };
}
