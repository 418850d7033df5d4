/**
 * Why SNS can't be reached or doesn't know us: everything that is the same for all topics of an account. Pure functions
 * from what was observed to what it means.
 */
import { unreachable } from './connection.ts';
import { type Circumstances, type Diagnosis, fail, warn } from './diagnosis.ts';
import type { Answer, Observation } from './probe.ts';

/** AWS refuses a signature that is older or newer than this (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv4-troubleshooting.html). */
const REFUSED_SKEW_MS = 5 * 60_000;
/** Below that the Date header's whole seconds and a slow answer explain the difference. */
const NOTABLE_SKEW_MS = 30_000;

/**
 * The region in the name of one of AWS's own SNS endpoints (standard, FIPS, dual-stack, VPC); undefined for other hosts.
 * https://docs.aws.amazon.com/general/latest/gr/sns.html
 */
export function regionOfHost(host: string): string | undefined {
  return /(?:^|\.)sns(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-\d+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)$/.exec(
    host,
  )?.[1];
}

/** What the configuration alone shows to be wrong with the endpoint. */
export function endpointProblem({ endpoint, region }: Circumstances): Diagnosis | undefined {
  const { hostname, protocol } = endpoint;
  const ofHost = regionOfHost(hostname);
  if (ofHost !== undefined && ofHost !== region)
    return fail(
      `sns_host is ${hostname}, region is ${region}`,
      `the host is that of ${ofHost}: it refuses signatures for ${region} and knows no topic there`,
      `set region = "${ofHost}", or sns_host = "${hostname.replace(ofHost, region)}", whichever the topics are in`,
    );
  const isAws = /\.(amazonaws\.com(\.cn)?|api\.aws)$/.test(hostname);
  if (isAws && ofHost === undefined)
    return fail(
      `sns_host is ${hostname}`,
      "that is a host of AWS, but not one of SNS's",
      `set sns_host = "sns.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}"`,
    );
  if (isAws && protocol === 'http:')
    return warn(
      `sns_host is ${endpoint.origin}`,
      'messages travel unencrypted, for everybody on the way to read',
      `set sns_host = "${hostname}", which is https`,
    );
  return undefined;
}

/** Why no topic of the account can be published to; undefined when SNS answers and knows us. */
export function accessProblem(observation: Observation, circumstances: Circumstances): Diagnosis | undefined {
  if (observation.kind === 'no-credentials') return noCredentials(observation.message);
  if (observation.kind === 'unreachable') return unreachable(observation, circumstances);
  if (!observation.fromSns) return notSns(observation, circumstances);
  const clock = clockProblem(observation);
  return clock?.level === 'fail' ? clock : refused(observation, circumstances);
}

const noCredentials = (message: string): Diagnosis =>
  fail(
    `no AWS credentials: ${message}`,
    "AWS's provider chain found none: environment, shared profile, web identity, container and instance were asked",
    'set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this process, give the machine a role, or configure access_key_id and secret_access_key',
  );

function notSns({ status, server, contentType }: Answer, { endpoint, proxy }: Circumstances): Diagnosis {
  const who = server === '' ? '' : ` from ${server}`;
  const seen = `${endpoint.origin} answered HTTP ${status}${who} with ${contentType || 'no content type'}`;
  const between = proxy === undefined ? '' : ` (the environment names the proxy ${proxy})`;
  if (status === 407)
    return fail(
      seen,
      `a proxy wants a login${between}`,
      'let this machine reach SNS without it, or through a VPC endpoint',
    );
  if (status >= 300 && status < 400)
    return fail(seen, `a redirect, which SNS never sends: a portal or load balancer${between}`, NOT_SNS_ADVICE);
  return fail(seen, `that is not how SNS answers: a proxy, a portal or another server does${between}`, NOT_SNS_ADVICE);
}

const NOT_SNS_ADVICE = 'check sns_host with its port and path, and what stands between here and SNS';

/** A clock that is so wrong that SNS refuses us for it, or might. */
export function clockProblem({ date, receivedAt, error }: Answer): Diagnosis | undefined {
  const named = /\((\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z [+-] /.exec(error?.message ?? '');
  const theirs =
    date ?? (named ? Date.parse(`${named.slice(1, 4).join('-')}T${named.slice(4).join(':')}Z`) : undefined);
  const skew = theirs === undefined ? undefined : receivedAt - theirs;
  const amount = skew === undefined ? 'wrong' : `${length(Math.abs(skew))} ${skew > 0 ? 'ahead' : 'behind'}`;
  const advice = 'set the clock and keep it so with NTP (timedatectl set-ntp true)';
  const refusedForIt =
    /^(RequestExpired|RequestTimeTooSkewed)/.test(error?.code ?? '') ||
    /Signature (expired|not yet current)/.test(error?.message ?? '');
  const enoughFor = error !== undefined && /Signature/.test(error.code) && Math.abs(skew ?? 0) >= REFUSED_SKEW_MS;
  if (refusedForIt || enoughFor)
    return fail(
      `this machine's clock is ${amount}; SNS says ${error?.code}: ${error?.message}`,
      'AWS refuses what is signed more than 5 minutes from its own time',
      advice,
    );
  if (skew !== undefined && Math.abs(skew) >= NOTABLE_SKEW_MS)
    return warn(
      `this machine's clock is ${amount}`,
      'AWS refuses everything from 5 minutes on, and the latency metrics are off by it',
      advice,
    );
  return undefined;
}

function length(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** SNS answered, and refuses the key or its signature. */
function refused({ error }: Answer, circumstances: Circumstances): Diagnosis | undefined {
  if (!error) return undefined;
  const code = error.code.replace(/Exception$/, '');
  const seen = `SNS says ${error.code}: ${error.message}`;
  const { region, credentials, accessKeyId } = circumstances;
  const key = accessKeyId === undefined ? 'the access key' : `the access key ${accessKeyId}`;
  if (code === 'InvalidClientTokenId' || code === 'UnrecognizedClient')
    return fail(
      seen,
      `AWS does not know ${key}: a typing error, deleted, deactivated, or of another partition (China and GovCloud have keys of their own)`,
      'compare it with the keys in IAM; where keys come and go (roles, SSO) use credentials = "aws"',
    );
  if (code === 'ExpiredToken')
    return fail(seen, 'the temporary credentials are over', 'sign in again (aws sso login), or renew what gives them');
  if (code === 'OptInRequired')
    return fail(seen, `the account has not enabled ${region}`, `enable the region ${region} for the account`);
  if (code === 'MissingAuthenticationToken' || code === 'IncompleteSignature')
    return fail(seen, 'something between here and SNS drops or changes headers', NOT_SNS_ADVICE);
  if (/^(SignatureDoesNotMatch|InvalidSignature|InvalidSecurity)$/.test(code))
    return wrongSignature(seen, error.message, credentials, circumstances);
  return undefined;
}

function wrongSignature(
  seen: string,
  message: string,
  credentials: Circumstances['credentials'],
  { region, secretLength }: Circumstances,
): Diagnosis {
  if (/scoped to a valid region/.test(message))
    return fail(
      seen,
      `who answers is in another region than ${region}`,
      'set region to that of sns_host; the topics have to be there too',
    );
  if (/scoped to correct service/.test(message))
    return fail(seen, 'another service of AWS answers there', `set sns_host = "sns.${region}.amazonaws.com"`);
  // https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html: 40 characters.
  const odd = secretLength !== undefined && secretLength !== 40;
  return fail(
    seen,
    odd
      ? `the secret has ${secretLength} characters and AWS's have 40: cut short, or with something around it`
      : 'the secret does not belong to the key, or something on the way changes requests',
    credentials === 'static' ? 'correct secret_access_key' : 'correct the secret where the credentials come from',
  );
}
