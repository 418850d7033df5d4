/** Explains why one topic can't be published to, although SNS answers and accepts our credentials. */
import { quotedCommand } from '../../config/commands.ts';
import type { Circumstances, Meaning } from '../failure.ts';
import { isFifo } from '../wire.ts';

/** Explains the refusal of a request about one topic; undefined if the cause is not the topic. */
export function explainTopic(
  { code: whole, message }: { readonly code: string; readonly message: string },
  circumstances: Circumstances,
): Meaning | undefined {
  const code = whole.replace(/Exception$/, '');
  const { region, accountId } = circumstances;
  if (code === 'NotFound') return missing(circumstances);
  if (/^KMS/.test(code)) return encrypted(code, circumstances);
  if (/^(AuthorizationError|AccessDenied|NotAuthorized)$/.test(code)) return forbidden(message, circumstances);
  // SNS gives this answer for an ARN of another region or account; the message is fine.
  if (code === 'InvalidParameter' && /^Invalid parameter: TopicArn/.test(message))
    return {
      means: `the server there is not responsible for topics of region ${region} and account ${accountId}`,
      advice: 'correct region, account_id or sns_host: all three must match the topic',
    };
  if (code === 'EndpointDisabled') return { means: 'the endpoint was disabled', advice: 'enable the endpoint again' };
  return undefined;
}

export const nameOf = (arn: string): string => arn.split(':').at(-1) ?? '';

/** The AWS CLI's command that creates a topic. */
export function createTopicCommand(arn: string, region: string): string {
  const attributes = isFifo(arn) ? ' --attributes FifoTopic=true,FifoThroughputScope=MessageGroup' : '';
  return `aws sns create-topic --name ${nameOf(arn)} --region ${region}${attributes}`;
}

function missing({ topicArn = '', region, accountId, configFile }: Circumstances): Meaning {
  const byAws = `\`${createTopicCommand(topicArn, region)}\``;
  return {
    means: `there is no topic ${nameOf(topicArn)} in account ${accountId}, region ${region}`,
    advice:
      // A program that uses the library has no configuration file.
      `make it: ${configFile === undefined ? byAws : `${quotedCommand(['topics', 'create'], configFile)}\nor: ${byAws}`}\n` +
      'or correct its name, region or account_id in the configuration',
  };
}

function encrypted(code: string, { kmsKey, configFile }: Circumstances): Meaning {
  const key = kmsKey ?? 'of the topic (its attribute KmsMasterKeyId)';
  if (code === 'KMSAccessDenied')
    return {
      means: 'the topic is encrypted, and the publisher may not use its key',
      advice: `allow kms:GenerateDataKey* and kms:Decrypt on the key ${key}, in the publisher's policy and in the key's own${policyFor(kmsKey, configFile)}`,
    };
  const advice: Record<string, string> = {
    KMSDisabled: `enable the key ${key}`,
    KMSInvalidState: `bring the key ${key} back into a usable state: cancel its deletion, import its material`,
    KMSNotFound: `the key ${key} is gone: give the topic another`,
    KMSOptInRequired: 'subscribe the account to KMS',
  };
  return {
    means: "the topic is encrypted, and its key can't be used",
    advice: advice[code] ?? `look at the key ${key} in KMS`,
  };
}

/** How to get the policy for an encrypted topic. A policy names a key by its ARN only. */
function policyFor(kmsKey: string | undefined, configFile: string | undefined): string {
  if (configFile === undefined) return '';
  const words = kmsKey?.startsWith('arn:') ? ['iam-policy', '--kms-key', kmsKey] : ['iam-policy'];
  const what = words.length > 1 ? 'the first' : 'the first, and how to name the key';
  return `; ${quotedCommand(words, configFile)} prints ${what}`;
}

/** AWS's wording when a policy denies: "with an explicit deny in a service control policy". */
const DENIED_BY = /with an explicit deny in (?:an? )?([a-z -]*policy|permissions boundary|[a-z -]*boundary)/;
/** AWS's wording when no policy allows: "because no permissions boundary allows". */
const ALLOWED_BY_NO = /because no ([a-z -]+?) allows/i;

function forbidden(message: string, circumstances: Circumstances): Meaning {
  const { accountId, topicArn = 'the topic', configFile } = circumstances;
  const principal = /arn:aws[a-z-]*:(?:iam|sts)::(\d{12}):[^\s,]+/.exec(message);
  const who = principal?.[0] ?? 'the access key';
  const account = principal?.[1];
  if (account !== undefined && account !== accountId)
    return {
      means: `the credentials are of account ${account}, the topic of account ${accountId}`,
      advice: `set account_id = "${account}" if the topic is there; otherwise use a key of ${accountId}, or allow ${who} sns:Publish in the policy of the topic as well as in its own`,
    };
  const denied = DENIED_BY.exec(message)?.[1];
  if (denied !== undefined)
    return {
      means: `${who} would be allowed, but ${article(denied)} denies it`,
      advice: `remove sns:Publish on ${topicArn} from that denial; no other permission overrides it`,
    };
  const lacking = ALLOWED_BY_NO.exec(message)?.[1];
  return {
    means: `${who} lacks sns:Publish on this topic${lacking === undefined ? '' : `: no ${lacking} allows it`}`,
    advice:
      lacking === undefined || /identity-based/.test(lacking)
        ? `allow sns:Publish on ${topicArn}${configFile === undefined ? '' : `: attach the policy that this command prints: ${quotedCommand(['iam-policy'], configFile)}`}`
        : `allow sns:Publish on ${topicArn} in the ${lacking} too`,
  };
}

const article = (noun: string): string => `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`;
