/**
 * Explains what a failure means and what to do about it. The publisher, `check`, `/readyz`, the log, the console and
 * the metrics all use this, so they can't disagree. Pure.
 *
 * Error codes: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors and
 * https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html
 */
import { quotedCommand as quoted } from '../config/commands.ts';
import { explainConnection } from './explain/connection.ts';
import { explainForeign } from './explain/foreign.ts';
import { explainIdentity } from './explain/identity.ts';
import { explainTopic } from './explain/topic.ts';
import type { Circumstances, Failure, Meaning } from './failure.ts';
import { proxyText } from './proxy.ts';

export interface Explanation extends Meaning {
  /**
   * `retry`: worth a retry soon. `pause`: an operator has to act, and the topic waits until then. `dead`: SNS will
   * never accept it; for a request with several entries, one of them is at fault.
   */
  readonly kind: 'retry' | 'pause' | 'dead';
  /** SNS throttles: lower the rate. */
  readonly throttled: boolean;
  /**
   * The cause is the key, the clock, the network or the configuration: no notification is at fault, so none becomes a
   * dead letter for it, however long it lasts.
   */
  readonly surroundings: boolean;
  /** Whether it affects everything published with these credentials, or one topic. */
  readonly scope: 'account' | 'topic';
  /** A stable name of the cause: an error code of SNS, Node.js or undici, or one of ours. */
  readonly reason: string;
  /** The observation; may be logged. */
  readonly seen: string;
  /** SNS's whole message, which may quote the notification: for the dead letter only. */
  readonly detail: string;
}

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

/** Temporary errors that SNS reports with a 4xx status or as the sender's fault. */
const PASSING = /^(InternalError|InternalFailure|ServiceUnavailable|RequestTimeout)$/;

const SNS_FAILS: Meaning = {
  means: 'SNS itself fails',
  advice: 'wait: the daemon retries; see the AWS Health Dashboard if it lasts',
};
const THROTTLED: Meaning = {
  means: 'the account has reached its publish quota, through this daemon or others',
  advice: 'wait: the daemon adapts its rate; ask AWS for a higher quota if it lasts',
};
const REFUSED: Meaning = {
  means: 'SNS refuses what is in the message',
  advice: "read SNS's message, and correct the plugin or the client that makes such messages",
};

/** Explains a failure of a request, or of one entry of a batch. */
export function explain(failure: Failure, circumstances: Circumstances): Explanation {
  const reason = failure.code;
  const seen = seenOf(failure, circumstances);
  const detail = detailOf(failure, seen);
  const base = { throttled: false, surroundings: true, scope: 'account', reason, seen, detail } as const;
  switch (failure.kind) {
    case 'network':
      return { ...base, kind: 'retry', ...explainConnection(failure, circumstances) };
    case 'credentials':
      return { ...base, kind: 'pause', ...explainIdentity(failure, circumstances) };
    case 'foreign': {
      const passes = failure.status >= 500 || failure.status === 429 || failure.status === 200;
      return { ...base, kind: passes ? 'retry' : 'pause', ...explainForeign(failure, circumstances) };
    }
    default:
      return { ...base, ...explainRefusal(failure, circumstances) };
  }
}

type Refusal = Extract<Failure, { kind: 'request' | 'entry' }>;

/** Explains an error document of SNS, or the error of one entry. */
function explainRefusal(failure: Refusal, circumstances: Circumstances) {
  const identity = explainIdentity(failure, circumstances);
  if (identity) return { kind: 'pause', ...identity } as const;
  const status = failure.kind === 'request' ? failure.status : 200;
  const scope = 'topic';
  if (THROTTLING.has(failure.code) || status === 429)
    return { kind: 'retry', throttled: true, scope, ...THROTTLED } as const;
  const topic = explainTopic(failure, circumstances);
  if (topic) return { kind: 'pause', scope, ...topic } as const;
  const name = failure.code.replace(/Exception$/, '');
  const serverFault = failure.kind === 'request' ? status >= 500 : !failure.senderFault;
  if (serverFault || PASSING.test(name)) return { kind: 'retry', surroundings: false, scope, ...SNS_FAILS } as const;
  if (status === 401 || status === 403) return { kind: 'pause', scope, ...refusedAccess(circumstances) } as const;
  // Only a 400 or 413 refuses a message.
  if (failure.kind === 'request' && status !== 400 && status !== 413)
    return { kind: 'pause', scope, ...UNEXPECTED_STATUS } as const;
  return { kind: 'dead', surroundings: false, scope, ...REFUSED } as const;
}

const refusedAccess = ({ configFile }: Circumstances): Meaning => ({
  means: 'SNS refuses this access key',
  advice: `check the access key and its permissions; for details run: ${quoted(['check'], configFile)}`,
});
const UNEXPECTED_STATUS: Meaning = {
  means: 'this answer is not from SNS',
  advice: 'check sns_host with its port and path, and every proxy between here and SNS',
};

function seenOf(failure: Failure, { endpoint, proxy }: Circumstances): string {
  const to = proxy ? `${endpoint.origin} through the proxy ${proxyText(proxy)}` : endpoint.origin;
  switch (failure.kind) {
    case 'network':
      return `${to}: ${failure.message || failure.code}`;
    case 'credentials':
      return failure.message;
    case 'foreign': {
      const who = failure.server === '' ? '' : ` from ${failure.server}`;
      return `${to} answered HTTP ${failure.status}${who} with ${failure.contentType || 'no content type'}`;
    }
    case 'request':
      return `HTTP ${failure.status}: ${failure.message}`;
    case 'entry':
      return 'SNS refused an entry of a batch';
  }
}

const detailOf = (failure: Failure, seen: string): string => (failure.kind === 'entry' ? failure.message : seen);
