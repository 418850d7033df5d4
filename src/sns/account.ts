/** What one `sns` section stands for: an endpoint, credentials, topics, and how virtual hosts publish through it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SnsOptions } from '../config/options.ts';
import { messageOf, PusherError } from '../errors.ts';
import { DEFAULT_MAX_BYTES } from '../notification/lint.ts';
import type { Route } from '../notification/notification.ts';
import type { SnsPlugin } from '../notification/plugin.ts';
import { createSnsClient, type SnsClient } from './client.ts';
import { credentialsOf } from './credentials.ts';
import { readTopicAttributes } from './wire.ts';

/** ARN partitions by region: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html */
export function partitionOf(region: string): string {
  if (region.startsWith('cn-')) return 'aws-cn';
  return region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
}

/** `arn:aws:sns:{region}:{account_id}:{topic}`, as MongooseIM builds it, with the region's partition. */
export const topicArn = ({ region, account_id }: SnsOptions, topic: string): string =>
  `arn:${partitionOf(region)}:sns:${region}:${account_id}:${topic}`;

/** ARNs of the section's topics by kind; a kind without a topic is left out. */
export function topicsOf(options: SnsOptions): Route['topics'] {
  const { presence_updates_topic: presence, pm_messages_topic: pm, muc_messages_topic: muc } = options;
  return {
    ...(presence !== undefined && { presence: topicArn(options, presence) }),
    ...(pm !== undefined && { pm: topicArn(options, pm) }),
    ...(muc !== undefined && { muc: topicArn(options, muc) }),
  };
}

/** How long a start waits for SNS to say what the topics take, in milliseconds; it starts without an answer too. */
const LIMITS_TIMEOUT_MS = 3_000;
/** How long until it is asked again, in milliseconds. */
const LIMITS_AGAIN_MS = 30_000;
/** The most that any topic can be given, in bytes. */
const MOST_BYTES = 1_048_576;

/** One `sns` section, ready to publish. */
export interface Account {
  readonly options: SnsOptions;
  readonly topics: Route['topics'];
  readonly client: SnsClient;
  /** What a topic takes for a batch together, in bytes. */
  maxBytes(topicArn: string): number;
  /**
   * Asks SNS what each topic takes, again and again until it answers. Where this key may not ask, it is what SNS gives
   * by default.
   */
  readLimits(): Promise<void>;
  /** How a virtual host with this section publishes. */
  route(plugin: SnsPlugin): Route;
  close(): void;
}

/**
 * @param folder what relative paths are relative to
 * @throws PusherError CONFIG_INVALID when `ca_file` can't be read
 */
export function openAccount(options: SnsOptions, folder: string): Account {
  const topics = topicsOf(options);
  const limits = new Map<string, number>();
  const client = createSnsClient({
    endpoint: options.sns_host,
    region: options.region,
    credentials: credentialsOf(options),
    ca: options.ca_file === undefined ? undefined : readCa(path.resolve(folder, options.ca_file)),
  });
  const maxBytes = (arn: string) => limits.get(arn) ?? DEFAULT_MAX_BYTES;
  // As long as it is not known, SNS decides of a message: better than a dead letter that need not be one.
  const maxMessageBytes = (arn: string) => limits.get(arn) ?? MOST_BYTES;
  const { presence, attributes } = options;
  let again: NodeJS.Timeout | undefined;
  let closed = false;
  const account: Account = {
    options,
    topics,
    client,
    maxBytes,
    route: (plugin) => ({ topics, plugin, presence, attributes, maxBytes: maxMessageBytes }),
    async readLimits() {
      const asked = Promise.all(Object.values(topics).map((arn) => limitOf(client, arn, limits)));
      const given = await Promise.race([asked, sleep(LIMITS_TIMEOUT_MS, undefined, { ref: false })]);
      if (closed || given?.every(Boolean)) return;
      // SNS can't be reached now: asked again until it can, or until nobody needs to know.
      again = setTimeout(() => void account.readLimits(), LIMITS_AGAIN_MS).unref();
    },
    close() {
      closed = true;
      clearTimeout(again);
      client.destroy();
    },
  };
  return account;
}

/** Asks SNS what a topic takes; false when the answer still has to come. */
async function limitOf(client: SnsClient, arn: string, limits: Map<string, number>): Promise<boolean> {
  if (limits.has(arn)) return true;
  const outcome = await client.call({ Action: 'GetTopicAttributes', TopicArn: arn });
  if ('xml' in outcome) {
    limits.set(arn, Number(readTopicAttributes(outcome.xml).get('MaximumMessageSize')) || DEFAULT_MAX_BYTES);
    return true;
  }
  if (!/^(AuthorizationError|AccessDenied|NotAuthorized|NotFound)/.test(outcome.failure.code)) return false;
  // This key may not ask, or there is no such topic: what SNS gives by default.
  limits.set(arn, DEFAULT_MAX_BYTES);
  return true;
}

/** @throws PusherError CONFIG_INVALID */
export function readCa(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new PusherError('CONFIG_INVALID', `ca_file: can't read ${file}: ${messageOf(error)}`, error);
  }
}
