/** Why one topic can't be published to, though SNS answers. Pure functions from what was observed to what it means. */

import { verdictOf } from '../verdict.ts';
import { isFifo } from '../wire.ts';
import { type Circumstances, type Diagnosis, fail, warn } from './diagnosis.ts';
import type { Answer } from './probe.ts';

/** What SNS said of one topic. */
export interface TopicObservations {
  readonly arn: string;
  /** To GetTopicAttributes, which a publisher need not be allowed. */
  readonly attributes: Answer;
  /** To a publish; of an empty message, unless `published`. */
  readonly publish: Answer;
  /** Whether a real message was published: only then the KMS key was asked. */
  readonly published: boolean;
  /** Whether there is a topic of the same name with `.fifo` at its end, or without it; undefined: not asked or not told. */
  readonly sibling: boolean | undefined;
}

const nameOf = (arn: string): string => arn.split(':').at(-1) ?? '';

/** The same topic as a FIFO topic, or as none. */
export const siblingOf = (arn: string): string => (isFifo(arn) ? arn.replace(/\.fifo$/, '') : `${arn}.fifo`);

/** All that is to be said of a topic; empty when it can be published to. */
export function topicProblems(observed: TopicObservations, circumstances: Circumstances): Diagnosis[] {
  const { attributes, publish } = observed;
  if (isMissing(attributes) || isMissing(publish)) return [missing(observed, circumstances)];
  const fifo = fifoMismatch(observed);
  if (fifo) return [fifo];
  if (publish.error && !refusesOnlyTheMessage(publish)) return [notAllowed(publish.error, observed, circumstances)];
  const unproven = unseenTopic(observed) ?? encryptedTopic(observed);
  return unproven ? [unproven] : [];
}

export const isMissing = ({ error }: Answer): boolean => /^NotFound(Exception)?$/.test(error?.code ?? '');

/** The empty message was refused for being empty, which is as far as a key gets that may publish. */
function refusesOnlyTheMessage(answer: Answer): boolean {
  const { error, status } = answer;
  return error !== undefined && verdictOf({ kind: 'request', status, ...error }).kind === 'dead';
}

/** How to make a topic with AWS's command line. */
export function createTopicCommand(arn: string, region: string): string {
  const attributes = isFifo(arn) ? ' --attributes FifoTopic=true,FifoThroughputScope=MessageGroup' : '';
  return `aws sns create-topic --name ${nameOf(arn)} --region ${region}${attributes}`;
}

function missing({ arn, sibling }: TopicObservations, { region, configFile, accountId }: Circumstances): Diagnosis {
  const seen = `SNS knows no topic ${arn}`;
  if (sibling)
    return fail(
      `${seen}, but ${siblingOf(arn)}`,
      isFifo(arn)
        ? 'that is a standard topic: its name has no .fifo at the end'
        : 'that is a FIFO topic: the .fifo at the end of its name is part of it',
      `write "${nameOf(siblingOf(arn))}" in the configuration`,
    );
  return fail(
    seen,
    `there is none of that name in account ${accountId}, region ${region}`,
    `make it: xmpp-event-pusher topics create --config ${configFile}\n` +
      `or: ${createTopicCommand(arn, region)}\n` +
      'or correct its name, region or account_id in the configuration',
  );
}

/** Where the name and the topic disagree on FIFO: AWS allows no such topic, other endpoints may. */
function fifoMismatch({ arn, attributes, publish }: TopicObservations): Diagnosis | undefined {
  const isOne =
    attributes.attributes.get('FifoTopic') === 'true' || /MessageGroupId.*required/i.test(publish.error?.message ?? '');
  if (!isOne || isFifo(arn)) return undefined;
  return fail(
    `${arn} is a FIFO topic`,
    'its name does not end in .fifo, so the daemon would publish to it without the group ids that it wants',
    `make a topic ${nameOf(arn)}.fifo, and write that in the configuration`,
  );
}

function notAllowed(
  error: NonNullable<Answer['error']>,
  observed: TopicObservations,
  circumstances: Circumstances,
): Diagnosis {
  const code = error.code.replace(/Exception$/, '');
  const seen = `publishing to ${observed.arn}: SNS says ${error.code}: ${error.message}`;
  const { region, accountId } = circumstances;
  if (/^KMS/.test(code)) return kmsProblem(code, seen, observed);
  if (/^(AuthorizationError|AccessDenied|NotAuthorized)$/.test(code))
    return permissionProblem(seen, error.message, observed, circumstances);
  if (code === 'InvalidParameter' && /TopicArn/.test(error.message))
    return fail(
      seen,
      `who answers is not responsible for topics of region ${region} and account ${accountId}`,
      'correct region, account_id or sns_host: all three have to be those of the topic',
    );
  const verdict = verdictOf({ kind: 'request', status: observed.publish.status, ...error });
  if (verdict.kind === 'pause') return fail(seen, 'a person has to act before SNS takes anything', verdict.advice);
  const throttled = verdict.kind === 'retry' && verdict.throttled;
  return warn(
    seen,
    throttled ? 'the account publishes as much as its quota allows, with or without us' : 'SNS itself fails',
    throttled ? 'ask AWS for a higher quota if it lasts' : 'try again; the daemon does so by itself',
  );
}

function kmsProblem(code: string, seen: string, { attributes }: TopicObservations): Diagnosis {
  const key = attributes.attributes.get('KmsMasterKeyId') ?? 'of the topic (its attribute KmsMasterKeyId)';
  if (code === 'KMSAccessDenied')
    return fail(
      seen,
      'the topic is encrypted, and the publisher may not use its key',
      `allow kms:GenerateDataKey* and kms:Decrypt on the key ${key}: xmpp-event-pusher iam-policy --kms-key <arn of the key> prints the policy; the key policy has to allow it too`,
    );
  const advice: Record<string, string> = {
    KMSDisabled: `enable the key ${key}`,
    KMSInvalidState: `bring the key ${key} back into a usable state: cancel its deletion, import its material`,
    KMSNotFound: `the key ${key} is gone: give the topic another`,
    KMSOptInRequired: 'subscribe the account to KMS',
  };
  return fail(
    seen,
    'the topic is encrypted, and its key can not be used',
    advice[code] ?? `look at the key ${key} in KMS`,
  );
}

/** Where AWS says that a right was taken away: "with an explicit deny in a service control policy". */
const DENIED_BY = /with an explicit deny in (?:an? )?([a-z -]*policy|permissions boundary|[a-z -]*boundary)/;
/** Where AWS says that a right is missing: "because no permissions boundary allows". */
const ALLOWED_BY_NO = /because no ([a-z -]+?) allows/i;

function permissionProblem(
  seen: string,
  message: string,
  { arn }: TopicObservations,
  { accountId, configFile }: Circumstances,
): Diagnosis {
  const principal = /arn:aws[a-z-]*:(?:iam|sts)::(\d{12}):[^\s,]+/.exec(message);
  const who = principal?.[0] ?? 'the access key';
  const account = principal?.[1];
  if (account !== undefined && account !== accountId)
    return fail(
      seen,
      `the credentials are of account ${account}, the topic of account ${accountId}`,
      `set account_id = "${account}" if the topic is there; otherwise use a key of ${accountId}, or allow ${who} sns:Publish in the policy of the topic as well as in its own`,
    );
  const denied = DENIED_BY.exec(message)?.[1];
  if (denied !== undefined)
    return fail(
      seen,
      `${who} would be allowed, but ${article(denied)} denies it`,
      `take sns:Publish on ${arn} out of that denial; no further permission helps against it`,
    );
  const lacking = ALLOWED_BY_NO.exec(message)?.[1];
  return fail(
    seen,
    `${who} lacks sns:Publish on this topic${lacking === undefined ? '' : `: no ${lacking} allows it`}`,
    lacking === undefined || /identity-based/.test(lacking)
      ? `attach the policy that this prints: xmpp-event-pusher iam-policy --config ${configFile}`
      : `allow sns:Publish on ${arn} in the ${lacking} too`,
  );
}

const article = (noun: string): string => `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`;

/** A topic that may be encrypted, for all that this key is told of it. */
function unseenTopic({ arn, attributes, publish, published }: TopicObservations): Diagnosis | undefined {
  if (!attributes.error || (published && publish.error === undefined)) return undefined;
  return warn(
    `this key may publish to ${arn}, and is not told its attributes: ${attributes.error.code}`,
    'whether the topic is encrypted with a key that the publisher may not use, is a FIFO topic, or takes more than 256 KiB can not be seen',
    'run check --publish, which sends a real message to each topic; or allow sns:GetTopicAttributes: xmpp-event-pusher iam-policy --with-attributes',
  );
}

/** An encrypted topic that was asked no more than whether it would take a message. */
function encryptedTopic({ attributes, publish, published, arn }: TopicObservations): Diagnosis | undefined {
  const key = attributes.attributes.get('KmsMasterKeyId');
  if (!key || (published && publish.error === undefined)) return undefined;
  return warn(
    `${arn} is encrypted with the KMS key ${key}`,
    'the publisher needs kms:GenerateDataKey* and kms:Decrypt on that key, which only a real publish shows',
    'run check --publish, which sends a real message to each topic',
  );
}
