/**
 * What SNS's answer, or its absence, means for a notification. Pure: one value that the publisher acts on and that the
 * log, the metrics and the console name.
 * Error codes: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors and
 * https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html
 */

/** How a request, or one entry of a batch, failed. */
export type Failure =
  /** There are no credentials to sign with. */
  | { readonly kind: 'credentials'; readonly code: string; readonly message: string }
  /** No usable answer: connection refused or reset, a timeout, an answer that is not SNS's. */
  | { readonly kind: 'network'; readonly code: string; readonly message: string }
  /** SNS refused the whole request. */
  | { readonly kind: 'request'; readonly status: number; readonly code: string; readonly message: string }
  /** SNS answered 200 and refused this entry. */
  | { readonly kind: 'entry'; readonly code: string; readonly message: string; readonly senderFault: boolean };

type Decision =
  /** Worth trying again soon. `throttled`: SNS asks for a lower rate. */
  | { readonly kind: 'retry'; readonly throttled: boolean }
  /** A person has to act; until then the topic waits. */
  | { readonly kind: 'pause'; readonly advice: string }
  /** SNS will never take it. */
  | { readonly kind: 'dead' };

/** What to do, and why. `detail` is all that SNS said, which may quote what it refused; `shown` is fit for logs. */
export type Verdict = Decision & { readonly reason: string; readonly detail: string; readonly shown: string };

const THROTTLING = new Set([
  'Throttling',
  'ThrottlingException',
  'Throttled',
  'ThrottledException',
  'TooManyRequestsException',
  'RequestThrottled',
  'KMSThrottling',
  'KMSThrottlingException',
]);

/** AWS does not know this key, or its secret is another: it may have been rotated. */
export const isUnknownKey = (code: string): boolean =>
  /^(InvalidClientTokenId|UnrecognizedClient(Exception)?|SignatureDoesNotMatch)$/.test(code);

/** AWS says that the credentials have expired: with new ones it is worth another try. */
export const isExpired = (code: string): boolean => code === 'ExpiredToken' || code === 'ExpiredTokenException';

/** Codes that a person has to act on, and how. Those of the batch API carry `Exception` at the end of some. */
const ADVICE: Readonly<Record<string, string>> = {
  AuthorizationError: 'grant sns:Publish on this topic to the access key, and check the topic policy',
  NotAuthorized: 'grant sns:Publish on this topic to the access key, and check the topic policy',
  AccessDenied: 'grant sns:Publish on this topic to the access key, and check the topic policy',
  NotFound: 'create the topic, or correct its name, region or account_id in the configuration',
  InvalidClientTokenId: 'check access_key_id: AWS does not know this key, or it was deactivated',
  UnrecognizedClient: 'check access_key_id: AWS does not know this key, or it was deactivated',
  MissingAuthenticationToken: 'check sns_host: something between here and SNS drops the Authorization header',
  OptInRequired: 'subscribe the AWS account to SNS, or enable the region for it',
  SignatureDoesNotMatch: 'check secret_access_key and region, and that nothing on the way to SNS changes requests',
  InvalidSignature: 'check secret_access_key and region, and the clock of this machine',
  IncompleteSignature: 'check that nothing on the way to SNS changes requests',
  InvalidSecurity: 'check access_key_id and secret_access_key',
  InvalidAction: 'check sns_host: what answers there does not know PublishBatch',
  EndpointDisabled: 'enable the endpoint again',
  KMSAccessDenied: 'grant kms:GenerateDataKey* and kms:Decrypt on the key of this topic to the access key',
  KMSDisabled: 'enable the KMS key of this topic',
  KMSInvalidState: 'bring the KMS key of this topic back into a usable state',
  KMSNotFound: 'the KMS key of this topic is gone: restore it or give the topic another',
  KMSOptInRequired: 'subscribe the AWS account to KMS',
};

/** SNS answers so to an ARN of another region or account, which is the configuration's fault and not the message's. */
const WRONG_ARN = 'check region, account_id and the topic name: SNS does not take this ARN here';

const NO_CREDENTIALS =
  'give this machine AWS credentials (environment, profile, role) or set access_key_id and secret_access_key';

const RETRYABLE = new Set([
  'InternalError',
  'InternalFailure',
  'ServiceUnavailable',
  'RequestExpired',
  'RequestTimeout',
]);

/**
 * What a failure means. For a whole request with several entries `dead` says that one of them is at fault, not which:
 * then they have to be tried in smaller batches.
 */
export function verdictOf(failure: Failure): Verdict {
  const { code } = failure;
  const detail = failure.kind === 'request' ? `HTTP ${failure.status}: ${failure.message}` : failure.message;
  const shown = failure.kind === 'entry' ? 'SNS refused an entry of a batch' : detail;
  return { reason: code, detail, shown, ...decisionOf(failure, detail) };
}

const RETRY: Decision = { kind: 'retry', throttled: false };

function decisionOf(failure: Failure, detail: string): Decision {
  const { code } = failure;
  const name = code.replace(/Exception$/, '');
  if (failure.kind === 'network' || isExpired(code)) return RETRY;
  if (failure.kind === 'credentials') return { kind: 'pause', advice: NO_CREDENTIALS };
  if (THROTTLING.has(code) || (failure.kind === 'request' && failure.status === 429))
    return { kind: 'retry', throttled: true };
  if (name === 'InvalidParameter' && /^(HTTP \d+: )?Invalid parameter: TopicArn/.test(detail))
    return { kind: 'pause', advice: WRONG_ARN };
  const advice = ADVICE[name];
  if (advice) return { kind: 'pause', advice };
  const serverFault = failure.kind === 'request' ? failure.status >= 500 : !failure.senderFault;
  if (serverFault || RETRYABLE.has(name)) return RETRY;
  return failure.kind === 'request' ? requestDecision(failure.status, code) : { kind: 'dead' };
}

function requestDecision(status: number, code: string): Decision {
  if (status === 403 || status === 401) return { kind: 'pause', advice: 'check the access key and what it may do' };
  // Only a 400 or 413 with SNS's own error document refuses a message; a 404, a redirect or a proxy's page does not.
  if ((status !== 400 && status !== 413) || code === `HTTP${status}`)
    return { kind: 'pause', advice: 'check sns_host and proxies on the way: this is not how SNS answers' };
  return { kind: 'dead' };
}

/**
 * How long to wait before the n-th retry, in milliseconds: MongooseIM's schedule,
 * `2^(n-1) · publish_retry_time_ms − random(1..publish_retry_time_ms)`; no wait when that option is 0, and none longer
 * than 30 s, or than the option if that is longer.
 * @param retry 1 for the first
 * @param random uniform in [0, 1)
 */
export function retryDelay(retry: number, baseMs: number, random: number): number {
  if (baseMs === 0) return 0;
  const longest = Math.max(LONGEST_PAUSE_MS, baseMs);
  return Math.min(2 ** Math.min(retry - 1, 30) * baseMs - (1 + Math.floor(random * baseMs)), longest);
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

/** How long a topic waits, in milliseconds: 1 s, then twice as long each time that it failed again, up to 30 s. */
export function pauseLength(consecutive: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** (consecutive - 1), LONGEST_PAUSE_MS);
}
