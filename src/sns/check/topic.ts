/** Findings of `check` about one topic, in addition to failures that the daemon sees. Pure. */
import { quotedCommand } from '../../config/commands.ts';
import type { CallOutcome } from '../client.ts';
import { nameOf } from '../explain/topic.ts';
import { type Explanation, explain } from '../explain.ts';
import type { Circumstances } from '../failure.ts';
import { isFifo, readTopicAttributes } from '../wire.ts';
import { type Diagnosis, diagnose, fail, warn } from './diagnosis.ts';

/** SNS's answers about one topic. */
export interface TopicObservations {
  readonly arn: string;
  /** To GetTopicAttributes, which a publisher may be denied. */
  readonly attributes: CallOutcome;
  /** To a publish; of an empty message, unless `published`. */
  readonly publish: CallOutcome;
  /** Whether a real message was published: only then KMS was involved. */
  readonly published: boolean;
  /** Whether the topic exists under the same name with, or without, `.fifo` at its end; undefined when unknown. */
  readonly sibling: boolean | undefined;
}

/** The ARN with `.fifo` added, or removed. */
export const siblingOf = (arn: string): string => (isFifo(arn) ? arn.replace(/\.fifo$/, '') : `${arn}.fifo`);

export const isMissing = (outcome: CallOutcome): boolean =>
  'failure' in outcome && outcome.failure.kind === 'request' && /^NotFound(Exception)?$/.test(outcome.failure.code);

/** All findings about a topic; empty when it can be published to. */
export function diagnoseTopic(observed: TopicObservations, circumstances: Circumstances): Diagnosis[] {
  const { arn, attributes, publish, published } = observed;
  const known = attributesOf(attributes);
  const about = { ...circumstances, topicArn: arn, kmsKey: known.get('KmsMasterKeyId') };
  const absent = [attributes, publish].find(isMissing);
  if (absent) return [missing(explained(absent, about), observed)];
  if (isFifoWithoutName(observed, known)) return [fifoWithoutName(arn)];
  const refusal = explained(publish, about);
  // SNS refused the empty message for being empty, so the key may publish.
  if (refusal && (published || refusal.kind !== 'dead')) return [diagnose(refusal, arn)];
  const unproven = unseenTopic(observed, about) ?? encryptedTopic(observed, about);
  return unproven ? [unproven] : [];
}

const attributesOf = (outcome: CallOutcome): Map<string, string> =>
  'xml' in outcome ? readTopicAttributes(outcome.xml) : new Map();

const explained = (outcome: CallOutcome, about: Circumstances): Explanation | undefined =>
  'failure' in outcome ? explain(outcome.failure, about) : undefined;

/** The topic does not exist. Suggests the one with its other name, if that exists. */
function missing(explanation: Explanation | undefined, { arn, sibling }: TopicObservations): Diagnosis {
  const found = explanation ? diagnose(explanation, arn) : fail(arn, '', '');
  if (!sibling) return found;
  const other = isFifo(arn)
    ? 'a standard topic: its name has no .fifo at the end'
    : 'a FIFO topic: the .fifo at the end of its name is part of it';
  return {
    ...found,
    means: `${found.means}, but there is ${siblingOf(arn)}, ${other}`,
    advice: `write "${nameOf(siblingOf(arn))}" in the configuration\nor ${found.advice}`,
  };
}

/** The name and the topic disagree on FIFO: AWS allows no such topic, other endpoints may. */
function isFifoWithoutName({ arn, publish }: TopicObservations, known: Map<string, string>): boolean {
  if (isFifo(arn)) return false;
  const wantsGroup =
    'failure' in publish &&
    publish.failure.kind === 'request' &&
    /MessageGroupId.*required/i.test(publish.failure.message);
  return wantsGroup || known.get('FifoTopic') === 'true';
}

const fifoWithoutName = (arn: string): Diagnosis =>
  fail(
    `${arn} is a FIFO topic`,
    'its name does not end in .fifo, so the daemon would publish to it without the group ids that it requires',
    `create a topic ${nameOf(arn)}.fifo, and set that in the configuration`,
  );

const tryIt = (configFile: string | undefined): string =>
  `run ${quotedCommand(['check', '--publish'], configFile)}, which sends a real message to each topic`;

/** The topic may be encrypted: this key may not ask. */
function unseenTopic(
  { arn, attributes, publish, published }: TopicObservations,
  { configFile }: Circumstances,
): Diagnosis | undefined {
  if (!('failure' in attributes) || (published && 'xml' in publish)) return undefined;
  return warn(
    `this key may publish to ${arn}, but not read its attributes: ${attributes.failure.code}`,
    'whether the topic is encrypted with a key that the publisher may not use, is a FIFO topic, or takes more than 256 KiB is unknown',
    `${tryIt(configFile)}; or allow sns:GetTopicAttributes: ${quotedCommand(['iam-policy', '--with-attributes'], configFile)} prints the policy`,
  );
}

/** The topic is encrypted, and no real message was published, so KMS was not tested. */
function encryptedTopic(
  { arn, publish, published }: TopicObservations,
  { kmsKey: key, configFile }: Circumstances,
): Diagnosis | undefined {
  if (!key || (published && 'xml' in publish)) return undefined;
  return warn(
    `${arn} is encrypted with the KMS key ${key}`,
    'the publisher needs kms:GenerateDataKey* and kms:Decrypt on that key, which only a real publish can verify',
    tryIt(configFile),
  );
}
