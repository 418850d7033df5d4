/** Explains why AWS doesn't accept our identity: key, secret, session token, or the clock that dates signatures. */

import { snsHostOf } from '../../config/regions.ts';
import { seconds } from '../../format.js';
import type { Circumstances, Failure, Meaning } from '../failure.ts';
import { NOT_SNS_ADVICE } from './foreign.ts';

/** AWS does not know this key, or it has another secret: it may have been rotated. */
export const isUnknownKey = (code: string): boolean =>
  /^(InvalidClientTokenId|UnrecognizedClient(Exception)?|SignatureDoesNotMatch)$/.test(code);

/** AWS says that the credentials have expired; retry with fresh ones. */
export const isExpired = (code: string): boolean => code === 'ExpiredToken' || code === 'ExpiredTokenException';

type Refusal = Pick<Extract<Failure, { kind: 'request' }>, 'code' | 'message' | 'skewMs' | 'clockOffset'>;

export function explainIdentity(failure: Extract<Failure, { kind: 'credentials' }>, about: Circumstances): Meaning;
export function explainIdentity(
  failure: Extract<Failure, { kind: 'request' | 'entry' }>,
  about: Circumstances,
): Meaning | undefined;
export function explainIdentity(failure: Failure, about: Circumstances): Meaning | undefined {
  if (failure.kind === 'credentials') return failure.code === 'UnusableCredentials' ? UNUSABLE : NONE;
  if (failure.kind !== 'request' && failure.kind !== 'entry') return undefined;
  return clock(failure) ?? key(failure, about);
}

const NONE: Meaning = {
  means: 'this process has no AWS credentials, or their provider fails',
  advice:
    'set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this process, give the machine a role, or configure access_key_id and secret_access_key',
};

const UNUSABLE: Meaning = {
  means: 'AWS never issues such keys: a file or variable has extra characters around the key',
  advice: 'correct the access key at its origin',
};

/**
 * AWS refuses a signature that is older or newer than this
 * (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv4-troubleshooting.html).
 */
const REFUSED_SKEW_MS = 5 * 60_000;

/** AWS refused the time of the signature. */
export function blamesClock({ code, message, skewMs = 0, clockOffset = 0 }: Refusal): boolean {
  if (/^(RequestExpired|RequestTimeTooSkewed|RequestInTheFuture)/.test(code)) return true;
  if (!/Signature/.test(code)) return false;
  return /Signature (expired|not yet current)/.test(message) || Math.abs(skewMs + clockOffset) >= REFUSED_SKEW_MS;
}

function clock(refusal: Refusal): Meaning | undefined {
  if (!blamesClock(refusal)) return undefined;
  return {
    means: `this machine's clock is ${skewText(refusal.skewMs)}, and AWS refuses signatures more than 5 minutes away from its own time`,
    advice: CLOCK_ADVICE,
  };
}

export const CLOCK_ADVICE = 'set the clock, and keep it right with NTP (timedatectl set-ntp true)';

/** `7 min behind`; `skewMs` is how far this clock is ahead. */
export function skewText(skewMs: number | undefined): string {
  if (skewMs === undefined) return 'wrong';
  return `${seconds(Math.abs(skewMs))} ${skewMs > 0 ? 'ahead' : 'behind'}`;
}

/** AWS refused the key or the signature. */
function key({ code: whole, message }: Refusal, about: Circumstances): Meaning | undefined {
  const code = whole.replace(/Exception$/, '');
  const { region, credentials, accessKeyId } = about;
  const named = accessKeyId === undefined ? 'the access key' : `the access key ${accessKeyId}`;
  if (code === 'InvalidClientTokenId' || code === 'UnrecognizedClient')
    return {
      means: `AWS does not know ${named}: mistyped, deleted, deactivated, or from another partition (China and GovCloud have separate keys)`,
      advice: 'compare it with the keys in IAM; where keys come and go (roles, SSO) use credentials = "aws"',
    };
  if (code === 'ExpiredToken')
    return {
      means: 'the temporary credentials have expired, and no provider has fresh ones',
      advice: 'sign in again (aws sso login), or renew what gives them',
    };
  if (code === 'OptInRequired')
    return {
      means: `the account has not enabled ${region}`,
      advice: `subscribe the account to SNS, or enable the region ${region} for it`,
    };
  if (code === 'MissingAuthenticationToken' || code === 'IncompleteSignature')
    return { means: 'something between here and SNS drops or changes headers', advice: NOT_SNS_ADVICE };
  if (code === 'InvalidAction')
    return { means: 'the server there does not know the action: it is not SNS', advice: NOT_SNS_ADVICE };
  if (/^(SignatureDoesNotMatch|InvalidSignature|InvalidSecurity)$/.test(code))
    return wrongSignature(message, credentials, about);
  return undefined;
}

function wrongSignature(
  message: string,
  credentials: Circumstances['credentials'],
  { region, secretLength }: Circumstances,
): Meaning {
  if (/scoped to a valid region/.test(message))
    return {
      means: `the server there is in another region than ${region}`,
      advice: 'set region to that of sns_host; the topics have to be there too',
    };
  if (/scoped to correct service/.test(message))
    return {
      means: 'another service of AWS answers there',
      advice: `set sns_host = "${snsHostOf(region)}"`,
    };
  // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html: 40 characters.
  const odd = secretLength !== undefined && secretLength !== 40;
  return {
    means: odd
      ? `the secret has ${secretLength} characters and AWS's have 40: cut short, or with extra characters`
      : 'the secret does not belong to the key, or something on the way changes requests',
    advice: credentials === 'static' ? 'correct secret_access_key' : 'correct the secret at its origin',
  };
}
