/**
 * A client for one SNS endpoint and one account's credentials: signs, sends, and returns every outcome as a value. The
 * daemon and `check` share it, so both see the same endpoint.
 */
import { messageOf } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import type { SinkReceipt } from '../pipeline/sink.ts';
import { cleanCode, cleanHeader, cleanText, type Sent } from './clean.ts';
import { type Answer, Connections, type Headers, type Timeouts } from './connections.ts';
import type { CredentialSource } from './credentials.ts';
import { blamesClock, isExpired, isUnknownKey } from './explain/identity.ts';
import type { Failure } from './failure.ts';
import type { HttpProxy } from './proxy.ts';
import { type AwsCredentials, createSigner } from './signature.ts';
import {
  CONTENT_TYPE,
  type EntryAnswer,
  publishBatchForm,
  readError,
  readPublishBatchAnswer,
  readRequestId,
} from './wire.ts';

/** The outcome of a batch: a failure of the whole, or for each entry `undefined` if SNS accepted it, or its failure. */
export type BatchOutcome =
  | { readonly failure: Failure }
  | { readonly entries: readonly (Failure | undefined)[]; readonly receipt?: SinkReceipt };

/** The outcome of any other request; with an answer, how far this clock is ahead of SNS's, if known. */
export type CallOutcome =
  | { readonly failure: Failure }
  | { readonly xml: string; readonly skewMs?: number | undefined };

export interface SnsClient {
  /** Publishes up to 10 notifications to a topic. Never throws for failures of SNS or the network. */
  publishBatch(topicArn: string, entries: readonly Notification[]): Promise<BatchOutcome>;
  /** Sends any action of SNS's query API. Never throws for failures of SNS or the network. */
  call(parameters: Readonly<Record<string, string>>): Promise<CallOutcome>;
  /** Destroys its connections, with the requests on them. */
  destroy(): void;
}

export interface SnsClientOptions {
  /** The endpoint's scheme, host, port and path. */
  readonly endpoint: URL;
  readonly region: string;
  readonly credentials: CredentialSource;
  /** Certificate authorities in PEM to trust instead of the public ones. */
  readonly ca?: string | undefined;
  /** The proxy to use. */
  readonly proxy?: HttpProxy | undefined;
  readonly timeouts?: Partial<Timeouts>;
  /** Maximum age of a connection, in milliseconds. */
  readonly connectionAgeMs?: number;
  readonly now?: () => number;
  /** Called when the client starts to correct the time of signatures; `skewMs` is how far this clock is ahead. */
  readonly onClockCorrected?: ((skewMs: number) => void) | undefined;
}

/** Generous: SNS answers within tens of milliseconds. */
const TIMEOUTS: Timeouts = { connect: 5_000, answer: 10_000, total: 20_000 };
// New connections look up the endpoint again, so the client follows a change in the DNS.
const CONNECTION_AGE_MS = 60_000;
/** Two measured clock differences closer than this agree. */
const NOTABLE_CHANGE_MS = 60_000;
/** SNS has about sixty error codes. */
const MOST_CODES = 100;

type Posted = { readonly answer: Answer } | { readonly failure: Failure };

export function createSnsClient(options: SnsClientOptions): SnsClient {
  const { endpoint, region, credentials, ca, proxy, now = Date.now } = options;
  const timeouts = { ...TIMEOUTS, ...options.timeouts };
  const signer = createSigner(endpoint, region, 'sns', CONTENT_TYPE);
  const connections = new Connections({
    origin: endpoint.origin,
    ca,
    proxy,
    timeouts,
    maxAge: options.connectionAgeMs ?? CONNECTION_AGE_MS,
  });
  /** How far AWS's clock is ahead of ours, once AWS has refused a signature for its time. */
  let clockOffset = 0;

  /** Credentials that passed the check of their characters. */
  let checked: AwsCredentials | undefined;

  const path = endpoint.pathname;
  const keysNow = (): AwsCredentials | Promise<AwsCredentials> => {
    const given = credentials.get();
    return given instanceof Promise ? within(timeouts.total, given) : given;
  };

  /** Error codes seen so far. A foreign endpoint may invent any number; only this many reach the metrics. */
  const codes = new Set<string>();
  const codeOf = (written: string): string => {
    const code = cleanCode(written);
    if (!codes.has(code) && codes.size >= MOST_CODES) return 'unknown';
    codes.add(code);
    return code;
  };

  /** One request, signed with these credentials at AWS's time. */
  const send = async (body: Buffer, keys: AwsCredentials, texts: () => string[]): Promise<Posted> => {
    const offset = clockOffset;
    const headers = signer.sign(body, keys, now() + offset);
    try {
      const answer = await connections.post({ path, headers, body });
      if (answer.status === 200) return { answer };
      const secrets = [keys.secretAccessKey, keys.sessionToken ?? '', headers.authorization];
      return { failure: refusalOf(answer, { receivedAt: now(), offset, codeOf, sent: { secrets, texts: texts() } }) };
    } catch (error) {
      const { code = 'NetworkError' } = error as { code?: string };
      return { failure: { kind: 'network', code, message: cleanText(messageOf(error)) } };
    }
  };

  /** The reason to retry with fresh credentials or a corrected time; undefined if there is none. */
  const secondTry = async (failure: Failure, keys: AwsCredentials): Promise<AwsCredentials | undefined> => {
    if (failure.kind !== 'request') return undefined;
    if (blamesClock(failure) && failure.skewMs !== undefined) {
      // Concurrent requests find the same correction.
      if (Math.abs(clockOffset + failure.skewMs) > NOTABLE_CHANGE_MS) options.onClockCorrected?.(failure.skewMs);
      clockOffset = -failure.skewMs;
      return keys;
    }
    if (!isExpired(failure.code) && !isUnknownKey(failure.code)) return undefined;
    credentials.expired(keys);
    const others = await keysNow();
    return others.accessKeyId === keys.accessKeyId && others.sessionToken === keys.sessionToken ? undefined : others;
  };

  /** @param texts parts of the form that must not appear in the failure's text */
  const post = async (form: string, texts: () => string[]): Promise<Posted> => {
    // A form is ASCII. As bytes it is hashed and sent without encoding it twice.
    const body = Buffer.from(form, 'latin1');
    try {
      const given = keysNow();
      const keys = given instanceof Promise ? await given : given;
      const unusable = keys === checked ? undefined : keyProblem(keys);
      if (unusable) return { failure: { kind: 'credentials', code: 'UnusableCredentials', message: unusable } };
      checked = keys;
      const first = await send(body, keys, texts);
      const others = 'failure' in first ? await secondTry(first.failure, keys) : undefined;
      return others ? await send(body, others, texts) : first;
    } catch (error) {
      return { failure: { kind: 'credentials', code: 'NoCredentials', message: cleanText(messageOf(error)) } };
    }
  };

  return {
    async publishBatch(topicArn, entries) {
      const texts = () =>
        entries.flatMap(({ message, attributes }) => [message, ...attributes.map(({ value }) => value)]);
      const posted = await post(publishBatchForm(topicArn, entries), texts);
      if ('failure' in posted) return posted;
      const { text } = posted.answer;
      const read = readPublishBatchAnswer(text, entries.length);
      if (!read) return { failure: foreign(posted.answer, 'UnreadableAnswer') };
      const messageIds = read.map((answer) => (typeof answer === 'string' ? answer : undefined));
      return {
        entries: read.map((answer) => entryFailure(answer, codeOf, texts)),
        receipt: { requestId: readRequestId(text), messageIds },
      };
    },
    async call(parameters) {
      const posted = await post(new URLSearchParams({ Version: '2010-03-31', ...parameters }).toString(), () => []);
      if ('failure' in posted) return posted;
      const { answer } = posted;
      if (!/<\w+Response[ >]/.test(answer.text)) return { failure: foreign(answer, 'UnreadableAnswer') };
      return { xml: answer.text, skewMs: skewOf(answer.headers, undefined, now()) };
    },
    destroy: () => connections.destroy(),
  };
}

/** Waits for the promise with a time limit: a credential process or endpoint may hang too. */
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

/** Why credentials can't be sent, without quoting them; undefined if they can. */
function keyProblem({ accessKeyId, secretAccessKey, sessionToken = '' }: AwsCredentials): string | undefined {
  const parts = { 'the access key id': accessKeyId, 'the secret': secretAccessKey, 'the session token': sessionToken };
  for (const [name, value] of Object.entries(parts)) {
    if (value === '' && value !== sessionToken) return `${name} is empty`;
    const code = /[^!-~]/u.exec(value)?.[0].codePointAt(0);
    if (code !== undefined) return `${name} holds U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  }
  return undefined;
}

interface Reading {
  /** This machine's clock, and the correction of the request's time. */
  readonly receivedAt: number;
  readonly offset: number;
  readonly codeOf: (written: string) => string;
  readonly sent: Sent;
}

/** Reads an unsuccessful answer: SNS's refusal, or an answer from something else. */
function refusalOf(answer: Answer, { receivedAt, offset, codeOf, sent }: Reading): Failure {
  const { status, headers, text } = answer;
  const error = readError(text);
  if (!error) return foreign(answer, `HTTP${status}`);
  const skewMs = skewOf(headers, error.message, receivedAt);
  const message = cleanText(error.message, sent);
  return { kind: 'request', status, code: codeOf(error.code), message, skewMs, clockOffset: offset };
}

const foreign = ({ status, headers }: Answer, code: string): Failure => ({
  kind: 'foreign',
  status,
  code,
  server: cleanHeader([headerOf(headers, 'server'), headerOf(headers, 'via')].filter(Boolean).join(', via ')),
  contentType: cleanHeader(headerOf(headers, 'content-type')),
});

const headerOf = (headers: Headers, name: string): string => [headers[name] ?? []].flat().join(', ');

/** How far this clock is ahead of the endpoint's: by its Date header, or by AWS's message about a signature's time. */
function skewOf(headers: Headers, message = '', receivedAt: number): number | undefined {
  const named = /\((\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z [+-] /.exec(message);
  const date = Date.parse(headerOf(headers, 'date'));
  if (!Number.isNaN(date)) return receivedAt - date;
  if (!named) return undefined;
  return receivedAt - Date.parse(`${named.slice(1, 4).join('-')}T${named.slice(4).join(':')}Z`);
}

function entryFailure(
  answer: EntryAnswer | undefined,
  codeOf: Reading['codeOf'],
  texts: () => string[],
): Failure | undefined {
  if (typeof answer === 'string') return undefined;
  if (!answer)
    return {
      kind: 'entry',
      code: 'NotMentioned',
      message: 'the answer does not mention this entry',
      senderFault: false,
    };
  const { code, message, senderFault } = answer;
  const said = cleanText(message, { secrets: [], texts: texts() });
  return { kind: 'entry', code: codeOf(code), message: said, senderFault };
}
