/** The way to one SNS endpoint with one account's credentials: signs, sends, and reads every outcome into a value. */
import { type Dispatcher, Pool } from 'undici';
import { messageOf } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import type { CredentialSource } from './credentials.ts';
import { type AwsCredentials, createSigner, type SignedHeaders } from './signature.ts';
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
  /** Most connections at once. */
  readonly connections: number;
  /** Certificate authorities in PEM to trust instead of the public ones. */
  readonly ca?: string | undefined;
  readonly timeouts?: Partial<Timeouts>;
  /** How old a connection gets, in milliseconds, before another takes its place. */
  readonly connectionAgeMs?: number;
  readonly now?: () => number;
}

/** In milliseconds. SNS answers within tens of them. */
interface Timeouts {
  /** Until a connection stands. */
  readonly connect: number;
  /** Until the answer's head, and between two parts of its body. */
  readonly answer: number;
  /** For the whole request: an endpoint that answers a byte at a time must not hold a slot. */
  readonly total: number;
}

const TIMEOUTS: Timeouts = { connect: 5_000, answer: 10_000, total: 20_000 };
/** Ten entries take two kilobytes; what goes on and on is not SNS, and must not fill the memory. */
const LARGEST_ANSWER = 1_048_576;
// Shorter than SNS keeps an idle connection: a request on its way at that moment would be lost.
const KEEP_ALIVE_MS = 15_000;
// Connections are renewed, so that a change of the endpoint's address in the DNS is followed: each looks it up anew.
const CONNECTION_AGE_MS = 60_000;

export function createSnsClient(options: SnsClientOptions): SnsClient {
  const { endpoint, region, credentials, connections, ca, now = Date.now } = options;
  const timeouts = { ...TIMEOUTS, ...options.timeouts };
  const signer = createSigner(endpoint, region, 'sns', CONTENT_TYPE);
  const pool = new Pool(endpoint.origin, {
    connections,
    // Said outright, for else a variable of the environment turns the checks off (NODE_TLS_REJECT_UNAUTHORIZED).
    connect: { timeout: timeouts.connect, rejectUnauthorized: true, ...(ca !== undefined && { ca }) },
    headersTimeout: timeouts.answer,
    bodyTimeout: timeouts.answer,
    keepAliveTimeout: KEEP_ALIVE_MS,
    clientTtl: options.connectionAgeMs ?? CONNECTION_AGE_MS,
    pipelining: 1,
    // While it is open whether an endpoint speaks HTTP/2, all requests wait for one connection to stand.
    allowH2: false,
  });

  const post = async (form: string): Promise<{ readonly text: string } | { readonly failure: Failure }> => {
    let keys: AwsCredentials;
    try {
      const given = credentials.get();
      keys = given instanceof Promise ? await within(timeouts.total, given) : given;
    } catch (error) {
      return { failure: { kind: 'credentials', code: 'NoCredentials', message: messageOf(error) } };
    }
    const headers = signer.sign(form, keys, now());
    try {
      const request = { method: 'POST', path: endpoint.pathname, headers, body: form } as const;
      const { status, text } = await exchange(pool, request, timeouts.total);
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
    destroy: () => void pool.destroy(),
  };
}

const tooLate = (ms: number) =>
  Object.assign(new Error(`no whole answer within ${ms / 1_000} s`), { code: 'RequestTimeout' });

/** What was promised, if it comes in time: a credential process or endpoint may hang too. */
async function within<T>(ms: number, promised: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(tooLate(ms)), ms);
  });
  try {
    return await Promise.race([promised, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * One request and its whole answer, within a time. On undici's lowest level: its streams and signals cost more than the
 * rest of the request, and an answer of SNS is small.
 */
function exchange(
  pool: Pool,
  request: Pick<Dispatcher.DispatchOptions, 'method' | 'path' | 'body'> & { headers: SignedHeaders },
  totalMs: number,
): Promise<{ status: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const chunks: Buffer[] = [];
  let bytes = 0;
  let status = 0;
  let under: Dispatcher.DispatchController | undefined;
  let late: Error | undefined;
  const timer = setTimeout(() => {
    late = tooLate(totalMs);
    reject(late);
    under?.abort(late);
  }, totalMs);
  pool.dispatch(
    { ...request, headers: request.headers as unknown as Record<string, string> },
    {
      onRequestStart(controller) {
        under = controller;
        // Its time was over while it waited for a connection: sent now, SNS would take what nobody knows of.
        if (late) controller.abort(late);
      },
      onResponseStart(_, statusCode) {
        status = statusCode;
      },
      onResponseData(_, chunk) {
        bytes += chunk.length;
        if (bytes <= LARGEST_ANSWER) chunks.push(chunk);
        else under?.abort(Object.assign(new Error('the answer is far too long for SNS'), { code: 'UnreadableAnswer' }));
      },
      onResponseEnd() {
        clearTimeout(timer);
        const [only] = chunks;
        resolve({ status, text: (chunks.length === 1 && only ? only : Buffer.concat(chunks)).toString() });
      },
      onResponseError(_, error) {
        clearTimeout(timer);
        reject(error);
      },
    },
  );
  return promise;
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
