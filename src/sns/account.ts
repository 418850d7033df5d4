/** What one `sns` section stands for: an endpoint, credentials, topics, and how virtual hosts publish through it. */
import type { SnsOptions } from '../config/options.ts';
import { DEFAULT_MAX_BYTES } from '../notification/lint.ts';
import type { Route } from '../notification/notification.ts';
import type { SnsPlugin } from '../notification/plugin.ts';
import { createSnsClient, type SnsClient } from './client.ts';

/** What a topic takes for one message and for a batch together, in bytes. */
export const maxBytesOf = (_topicArn: string): number => DEFAULT_MAX_BYTES;

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

export const routeOf = (options: SnsOptions, plugin: SnsPlugin): Route => ({
  topics: topicsOf(options),
  plugin,
  presence: options.presence,
  attributes: options.attributes,
  maxBytes: maxBytesOf,
});

export function clientOf(options: SnsOptions): SnsClient {
  const credentials = { accessKeyId: options.access_key_id, secretAccessKey: options.secret_access_key };
  return createSnsClient({
    endpoint: options.sns_host,
    region: options.region,
    credentials: () => credentials,
    connections: options.pool_size,
  });
}
