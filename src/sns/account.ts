/** One `sns` section at run time: its endpoint, credentials and topics, and how virtual hosts publish through it. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readAuthorities } from '../authorities.ts';
import { partitionOf } from '../config/regions.ts';
import type { SnsOptions } from '../config/sns-options.ts';
import { type Log, SILENT } from '../log.ts';
import { compileAdditions } from '../notification/additions.ts';
import { DEFAULT_MAX_BYTES } from '../notification/lint.ts';
import type { Route, TopicOf } from '../notification/notification.ts';
import type { SnsPlugin } from '../notification/plugin.ts';
import { compileTemplate, isTemplate } from '../notification/template.ts';
import type { Destination } from '../pipeline/delivery.ts';
import { cleanText } from './clean.ts';
import { createSnsClient, type SnsClient } from './client.ts';
import { type CredentialSource, credentialsOf } from './credentials.ts';
import { CLOCK_ADVICE, skewText } from './explain/identity.ts';
import type { Circumstances } from './failure.ts';
import { proxyFor } from './proxy.ts';
import { snsSink } from './sink.ts';
import { isFifo, readTopicAttributes } from './wire.ts';

/** `arn:aws:sns:{region}:{account_id}:{topic}`, as MongooseIM builds it, with the region's partition. */
export const topicArn = ({ region, account_id }: SnsOptions, topic: string): string =>
  `arn:${partitionOf(region).name}:sns:${region}:${account_id}:${topic}`;

const KINDS = { presence: 'presence_updates_topic', pm: 'pm_messages_topic', muc: 'muc_messages_topic' } as const;

/**
 * ARNs of the section's topics: by kind, and by name those that a template may choose. A kind without a topic is
 * omitted.
 */
export function topicsOf(options: SnsOptions): Readonly<Record<string, string>> {
  const fixed = Object.entries(KINDS).flatMap(([kind, option]) => {
    const topic = options[option];
    return topic === undefined || isTemplate(topic) ? [] : [[kind, topicArn(options, topic)] as const];
  });
  const listed = (options.topics ?? []).map((topic) => [topic, topicArn(options, topic)] as const);
  return Object.fromEntries([...fixed, ...listed]);
}

/** The topic of each kind: a fixed one, or a template's choice among the listed ones. */
export function topicRoutes(options: SnsOptions): Route['topics'] {
  const listed = new Map((options.topics ?? []).map((topic) => [topic, topicArn(options, topic)]));
  const routes = Object.entries(KINDS).flatMap(([kind, option]): [string, TopicOf][] => {
    const topic = options[option];
    if (topic === undefined) return [];
    return [[kind, isTemplate(topic) ? chosen(topic, listed) : topicArn(options, topic)]];
  });
  return Object.fromEntries(routes);
}

/** Replaces characters that a topic's name can't have with hyphens: `chat.example.org` becomes `chat-example-org`. */
function chosen(topic: string, listed: ReadonlyMap<string, string>): TopicOf {
  const suffix = isFifo(topic) ? '.fifo' : '';
  const template = compileTemplate(topic.slice(0, topic.length - suffix.length));
  return (event) => {
    const name = template(event);
    return name === undefined ? undefined : listed.get(name.replace(/[^A-Za-z0-9_-]/g, '-') + suffix);
  };
}

/** How long the start waits for the topics' size limits, in milliseconds; then it starts without them. */
const LIMITS_TIMEOUT_MS = 3_000;
/** Delay before asking SNS again, in milliseconds. */
const LIMITS_AGAIN_MS = 30_000;
/** Highest MaximumMessageSize of any topic, in bytes. */
const MOST_BYTES = 1_048_576;

/** One `sns` section, ready to publish. */
export interface Account extends Destination {
  readonly options: SnsOptions;
  readonly client: SnsClient;
  /** Circumstances that help to explain a failure of the account, or of one of its topics. */
  circumstances(topicArn?: string): Circumstances;
  /** Asks SNS for each topic's size limit until it answers. SNS's default applies if this key may not ask. */
  readLimits(): Promise<void>;
  /** How a virtual host with this section publishes. */
  route(plugin: SnsPlugin): Route;
}

/** Whether this section's account and region own a topic. */
export const owns = ({ region, account_id }: SnsOptions, arn: string): boolean =>
  arn.includes(`:sns:${region}:${account_id}:`);

interface AccountSetup {
  /** The folder for resolving relative paths. */
  readonly folder: string;
  /** The configuration file, for the commands in advice. */
  readonly configFile?: string | undefined;
  /** Replaces the section's source of credentials. */
  readonly credentials?: CredentialSource | undefined;
  /** Default: no log. */
  readonly log?: Log | undefined;
}

/** @throws PusherError CONFIG_INVALID if `ca_file` can't be read, or the environment names an invalid proxy */
export function openAccount(
  options: SnsOptions,
  { folder, configFile, credentials = credentialsOf(options), log = SILENT }: AccountSetup,
): Account {
  const topics = topicsOf(options);
  const proxy = proxyFor(options.sns_host, options.proxy, process.env);
  const facts = new Map<string, TopicFacts>();
  const inGeneral: Circumstances = {
    endpoint: options.sns_host,
    region: options.region,
    accountId: options.account_id,
    credentials: options.credentials,
    accessKeyId: options.access_key_id,
    secretLength: options.secret_access_key?.length,
    proxy,
    configFile,
    tlsChecksOff: process.env.NODE_TLS_REJECT_UNAUTHORIZED === '0',
  };
  const circumstances = (topicArn?: string): Circumstances =>
    topicArn === undefined ? inGeneral : { ...inGeneral, topicArn, kmsKey: facts.get(topicArn)?.kmsKey };
  const client = createSnsClient({
    endpoint: options.sns_host,
    region: options.region,
    credentials,
    ca: options.ca_file === undefined ? undefined : readAuthorities(path.resolve(folder, options.ca_file), 'ca_file'),
    proxy,
    onClockCorrected: (skewMs) =>
      log.warn(
        { endpoint: options.sns_host.host, skewMs, advice: CLOCK_ADVICE },
        `this machine's clock is ${skewText(skewMs)}: requests are signed with SNS's time`,
      ),
  });
  const maxBytes = (arn: string) => facts.get(arn)?.maxBytes ?? DEFAULT_MAX_BYTES;
  // Until the limit is known, let SNS decide: better than an unnecessary dead letter.
  const maxMessageBytes = (arn: string) => facts.get(arn)?.maxBytes ?? MOST_BYTES;
  const { presence } = options;
  const additions = compileAdditions(options);
  let again: NodeJS.Timeout | undefined;
  let closed = false;
  const account: Account = {
    options,
    topics,
    client,
    circumstances,
    sink: snsSink({ client, maxBytes, circumstances }),
    pace: {
      poolSize: options.pool_size,
      retryCount: options.publish_retry_count,
      retryBaseMs: options.publish_retry_time_ms,
      exhausted: options.publish_exhausted,
      maxMessagesPerSecond: options.max_messages_per_second,
    },
    // SNS's quota is per account and region, shared by all sections and topics in it.
    quota: `${options.region}/${options.account_id}`,
    owns: (arn) => owns(options, arn),
    route: (plugin) => ({
      topics: topicRoutes(options),
      plugin,
      presence,
      additions,
      maxBytes: maxMessageBytes,
    }),
    async readLimits() {
      const asked = Promise.all(Object.values(topics).map((arn) => factsOf(client, arn, facts)));
      const given = await Promise.race([asked, sleep(LIMITS_TIMEOUT_MS, undefined, { ref: false })]);
      if (closed || given?.every(Boolean)) return;
      // SNS is unreachable now: ask again until it answers or the account is closed.
      again = setTimeout(() => void account.readLimits(), LIMITS_AGAIN_MS).unref();
    },
    close() {
      closed = true;
      clearTimeout(again);
      client.destroy();
      credentials.close?.();
    },
  };
  return account;
}

/** Facts about a topic. */
interface TopicFacts {
  /** Its size limits for a message and for a whole batch. */
  readonly maxBytes: number;
  /** The KMS key that it is encrypted with. */
  readonly kmsKey?: string | undefined;
}

/** Asks SNS for a topic's facts; false if it has not answered. */
async function factsOf(client: SnsClient, arn: string, facts: Map<string, TopicFacts>): Promise<boolean> {
  if (facts.has(arn)) return true;
  const outcome = await client.call({ Action: 'GetTopicAttributes', TopicArn: arn });
  if ('xml' in outcome) {
    const attributes = readTopicAttributes(outcome.xml);
    facts.set(arn, {
      maxBytes: sizeOf(attributes.get('MaximumMessageSize')),
      kmsKey: cleaned(attributes.get('KmsMasterKeyId')),
    });
    return true;
  }
  if (!/^(AuthorizationError|AccessDenied|NotAuthorized|NotFound)/.test(outcome.failure.code)) return false;
  // This key may not ask, or the topic doesn't exist: SNS's defaults apply.
  facts.set(arn, { maxBytes: DEFAULT_MAX_BYTES });
  return true;
}

const cleaned = (value: string | undefined) => (value === undefined ? undefined : cleanText(value));

/** SNS's range for MaximumMessageSize, in bytes; any other answer is ignored. */
const LEAST_BYTES = 1_024;

function sizeOf(value: string | undefined): number {
  const size = Number(value ?? DEFAULT_MAX_BYTES);
  return Number.isInteger(size) && size >= LEAST_BYTES && size <= MOST_BYTES ? size : DEFAULT_MAX_BYTES;
}
