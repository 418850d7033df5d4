/** `iam-policy`: the least permissions that the access key needs, as a policy to paste into IAM. */
import { Command, InvalidArgumentError } from 'commander';
import { type PusherConfig, sectionsOf } from '../config/load.ts';
import { PusherError } from '../errors.ts';
import { topicsOf } from '../sns/account.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { configurable } from './options.ts';

interface PolicyOptions extends ConfigFlags {
  host?: string;
  kmsKey?: string[];
  withAttributes?: boolean;
  withCreate?: boolean;
}

/** The contents of a policy. */
export interface PolicyContents {
  /** ARNs of the topics that are published to. */
  readonly topics: readonly string[];
  /** ARNs of the keys that encrypt them. */
  readonly kmsKeys?: readonly string[];
  /** sns:GetTopicAttributes too: the daemon reads the topics' size limits, and `check` whether they are encrypted. */
  readonly attributes?: boolean;
  /** sns:CreateTopic too, for `topics create`. */
  readonly create?: boolean;
}

export function iamPolicyCommand(): Command {
  return configurable(new Command('iam-policy'))
    .description('Print the smallest IAM policy that lets the daemon publish to the configured topics.')
    .option('--host <domain>', 'only the topics of this virtual host')
    .option('--kms-key <arn...>', 'KMS keys that encrypt topics', (arn: string, before?: string[]) => [
      ...(before ?? []),
      keyArn(arn),
    ])
    .option(
      '--with-attributes',
      'also allow reading topic attributes: for limits above 256 KiB, and for encryption in `check`',
    )
    .option('--with-create', 'also allow what `topics create` needs')
    .action((options: PolicyOptions) => {
      const topics = topicsIn(readConfig(options, { uses: 'routing' }), options.host);
      const contents = {
        topics,
        kmsKeys: options.kmsKey ?? [],
        attributes: options.withAttributes ?? false,
        create: options.withCreate ?? false,
      };
      process.stdout.write(`${JSON.stringify(leastPolicy(contents), null, 2)}\n`);
      // A policy takes no comments, and stdout goes into a file or a pipe.
      process.stderr.write(notes(options));
    });
}

/** A policy names a key by nothing but its ARN: with an id or an alias it would allow nothing. */
function keyArn(text: string): string {
  if (/^arn:[\w-]+:kms:[\w-]+:\d{12}:key\/\S+$/.test(text)) return text;
  throw new InvalidArgumentError('It should be the ARN of a key, arn:aws:kms:REGION:ACCOUNT:key/ID.');
}

/** @throws PusherError CONFIG_INVALID when there is no such virtual host or no topic */
function topicsIn(config: PusherConfig, host: string | undefined): string[] {
  const sections = sectionsOf(config);
  const name = host?.toLowerCase();
  const chosen = name === undefined ? [...sections.values()] : [sections.has(name) ? sections.get(name) : config.sns];
  const topics = chosen.flatMap((options) => (options ? Object.values(topicsOf(options)) : []));
  if (topics.length === 0) throw new PusherError('CONFIG_INVALID', `${config.file}: no topic is configured there`);
  return [...new Set(topics)];
}

/**
 * https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsns.html; PublishBatch is sns:Publish
 * too.
 */
export function leastPolicy({ topics, kmsKeys = [], attributes = false, create = false }: PolicyContents) {
  const actions = [
    'sns:Publish',
    ...(attributes ? ['sns:GetTopicAttributes'] : []),
    ...(create ? ['sns:CreateTopic'] : []),
  ];
  const statement = (Sid: string, Action: readonly string[], Resource: readonly string[]) => ({
    Sid,
    Effect: 'Allow',
    Action,
    Resource,
  });
  return {
    Version: '2012-10-17',
    Statement: [
      statement('PublishXmppEvents', actions, topics),
      // https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
      ...(kmsKeys.length > 0 ? [statement('EncryptXmppEvents', ['kms:GenerateDataKey*', 'kms:Decrypt'], kmsKeys)] : []),
    ],
  };
}

function notes({ kmsKey, withAttributes }: PolicyOptions): string {
  const lines = [];
  if (!withAttributes)
    lines.push('for topics that take more than 256 KiB a message, and a fuller `check`: --with-attributes');
  if (!kmsKey) lines.push("for encrypted topics: --kms-key ARN; the key's own policy has to allow it too");
  return lines.map((line) => `note: ${line}\n`).join('');
}
