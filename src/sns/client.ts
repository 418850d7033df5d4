/** The way to one SNS endpoint with one account's credentials: signs, sends, and reads every outcome into a value. */
import { messageOf } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import { Connections, type Timeouts } from './connections.ts';
import type { CredentialSource } from './credentials.ts';
import { type AwsCredentials, createSigner } from './signature.ts';
import { type Failure, isExpired, isUnknownKey } from './verdict.ts';
import { CONTENT_TYPE, type EntryAnswer, publishBatchForm, readError, readPublishBatchAnswer } from './wire.ts';

/** What came of a batch: a failure of the whole, or for each entry whether SNS has it (`undefined`) or why not. */
export type BatchOutcome = { readonly failure: Failure } | { readonly entries: readonly (Failure | undefined)[] };

/** What came of any other request. */
type CallOutcome = { readonly failure: Failure } | { readonly xml: string };

export interface SnsClient {
  /** Publishes up to 10 notifications to a topic. Never throws for what SNS or the network does. */
  publishBatch(topicArn: string, entries: readonly Notification[]): Promise<BatchOutcome>;
  /** Sends any action of SNS's query API. */
  call(parameters: Readonly<Record<string, string>>): Promise<CallOutcome>;
  /** Ends its connections, requests under way included. */
  destroy(): void;
}

export interface SnsClientOptions {
  /** Endpoint: scheme, host, port and path are used. */
  readonly endpoint: URL;
  readonly region: string;
  readonly credentials: CredentialSource;
  /** Certificate authorities in PEM to trust instead of the public ones. */
  readonly ca?: string | undefined;
  readonly timeouts?: Partial<Timeouts>;
  /** How old a connection gets, in milliseconds, before another takes its place. */
  readonly connectionAgeMs?: number;
  readonly now?: () => number;
}

/** SNS answers within tens of milliseconds. */
const TIMEOUTS: Timeouts = { connect: 5_000, answer: 10_000, total: 20_000 };
// Connections are renewed, so that a change of the endpoint's address in the DNS is followed: each looks it up anew.
const CONNECTION_AGE_MS = 60_000;

export function createSnsClient(options: SnsClientOptions): SnsClient {
  const { endpoint, region, credentials, ca, now = Date.now } = options;
  const timeouts = { ...TIMEOUTS, ...options.timeouts };
  const signer = createSigner(endpoint, region, 'sns', CONTENT_TYPE);
  const connections = new Connections({
    origin: endpoint.origin,
    ca,
    timeouts,
    maxAge: options.connectionAgeMs ?? CONNECTION_AGE_MS,
  });

  const path = endpoint.pathname;
  const post = async (form: string): Promise<{ readonly text: string } | { readonly failure: Failure }> => {
    let keys: AwsCredentials;
    try {
      const given = credentials.get();
      keys = given instanceof Promise ? await within(timeouts.total, given) : given;
    } catch (error) {
      return { failure: { kind: 'credentials', code: 'NoCredentials', message: messageOf(error) } };
    }
    // A form is ASCII. As bytes it is hashed and sent without being encoded once more for each.
    const body = Buffer.from(form, 'latin1');
    const headers = signer.sign(body, keys, now());
    try {
      const { status, text } = await connections.post({ path, headers, body });
      if (status === 200) return { text };
      const error = readError(text);
      if (error && (isExpired(error.code) || isUnknownKey(error.code))) credentials.expired(keys);
      const { code = `HTTP${status}`, message = 'no error document' } = error ?? {};
      return { failure: { kind: 'request', status, code, message } };
    } catch (error) {
      const { code = 'NetworkError' } = error as { code?: string };
      return { failure: { kind: 'network', code, message: messageOf(error) } };
    }
  };

  return {
    async publishBatch(topicArn, entries) {
      const answer = await post(publishBatchForm(topicArn, entries));
      if ('failure' in answer) return answer;
      const read = readPublishBatchAnswer(answer.text, entries.length);
      if (!read) return { failure: notAnAnswer() };
      return { entries: read.map(entryFailure) };
    },
    async call(parameters) {
      const answer = await post(new URLSearchParams({ Version: '2010-03-31', ...parameters }).toString());
      return 'failure' in answer ? answer : { xml: answer.text };
    },
    destroy: () => connections.destroy(),
  };
}

/** What was promised, if it comes in time: a credential process or endpoint may hang too. */
async function within<T>(ms: number, promised: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no credentials within ${ms / 1_000} s`)), ms);
  });
  try {
    return await Promise.race([promised, late]);
  } finally {
    clearTimeout(timer);
  }
}

const notAnAnswer = (): Failure => ({
  kind: 'network',
  code: 'UnreadableAnswer',
  message: 'HTTP 200 with a body that is no PublishBatch answer, or cut short; is sns_host really SNS?',
});

function entryFailure(answer: EntryAnswer | undefined): Failure | undefined {
  if (answer === 'successful') return undefined;
  if (!answer)
    return {
      kind: 'entry',
      code: 'NotMentioned',
      message: 'the answer does not mention this entry',
      senderFault: false,
    };
  return { kind: 'entry', ...answer };
}
