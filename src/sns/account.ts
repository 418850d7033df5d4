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

/** One `sns` section, ready to publish. */
export interface Account {
  readonly options: SnsOptions;
  readonly topics: Route['topics'];
  readonly client: SnsClient;
  /** What a topic takes for one message and for a batch together, in bytes. */
  maxBytes(topicArn: string): number;
  /** Asks SNS what each topic takes. Where this key may not ask, or nothing answers in time, it is what SNS gives by default. */
  readLimits(): Promise<void>;
  /** How a virtual host with this section publishes. */
  route(plugin: SnsPlugin): Route;
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
    connections: options.pool_size,
    ca: options.ca_file === undefined ? undefined : readCa(path.resolve(folder, options.ca_file)),
  });
  const maxBytes = (arn: string) => limits.get(arn) ?? DEFAULT_MAX_BYTES;
  const { presence, attributes } = options;
  return {
    options,
    topics,
    client,
    maxBytes,
    route: (plugin) => ({ topics, plugin, presence, attributes, maxBytes }),
    async readLimits() {
      const ask = async (arn: string) => {
        const outcome = await client.call({ Action: 'GetTopicAttributes', TopicArn: arn });
        const limit = 'xml' in outcome && Number(readTopicAttributes(outcome.xml).get('MaximumMessageSize'));
        if (limit) limits.set(arn, limit);
      };
      const asked = Promise.all(Object.values(topics).map(ask));
      await Promise.race([asked, sleep(LIMITS_TIMEOUT_MS, undefined, { ref: false })]);
    },
  };
}

/** @throws PusherError CONFIG_INVALID */
export function readCa(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new PusherError('CONFIG_INVALID', `ca_file: can't read ${file}: ${messageOf(error)}`, error);
  }
}
