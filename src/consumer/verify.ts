/**
 * For an HTTP endpoint of an SNS topic: verifies that a request comes from SNS and one of our topics, and returns what
 * to do.
 *
 * - A signature only proves that some topic of some account sent it: anybody may subscribe your endpoint to theirs. So
 *   the topics are required.
 * - A subscription is confirmed only for these topics, and only at an endpoint of SNS.
 * - Raw delivery has no signature, and is refused.
 *
 * https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
 */
import { verify as verifySignature } from 'node:crypto';
import { type CertificateOptions, certificateCache, isSnsUrl } from './certificate.ts';
import type { Parsed } from './notification.ts';
import { type ParseOptions, parse } from './parse.ts';

export interface VerifierOptions extends CertificateOptions {
  /** ARNs of the accepted topics. */
  readonly topics: readonly string[];
  /**
   * Maximum age of a message. SNS retries for one hour by default, hence two hours; a longer retry policy needs more.
   */
  readonly maxAgeMs?: number;
  /** Topics of private and of group messages, for notifications whose attributes do not show the type. */
  readonly types?: ParseOptions['topics'];
}

/** An HTTP request: its body as text, bytes, or the object parsed by a framework. */
export interface SnsRequest {
  readonly headers?: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: unknown;
  readonly isBase64Encoded?: boolean;
}

/** The request's kind, and the HTTP status to answer. SNS retries after 5xx, and gives up after 4xx. */
export type Verified =
  | { readonly kind: 'notification'; readonly status: 200; readonly notifications: readonly Parsed[] }
  | { readonly kind: 'confirmed' | 'unsubscribed'; readonly status: 200; readonly topicArn: string }
  | { readonly kind: 'refused'; readonly status: 400 | 403 | 503; readonly reason: string };

type Envelope = Readonly<Record<string, string>>;

const SIGNED_NOTIFICATION = ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type'];
const SIGNED_CONTROL = ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'];
/** The signed fields, by the message's Type. */
const SIGNED: ReadonlyMap<string, readonly string[]> = new Map([
  ['Notification', SIGNED_NOTIFICATION],
  ['SubscriptionConfirmation', SIGNED_CONTROL],
  ['UnsubscribeConfirmation', SIGNED_CONTROL],
]);
const DIGESTS: ReadonlyMap<string, string> = new Map([
  ['1', 'sha1'],
  ['2', 'sha256'],
]);

const HOUR_MS = 3_600_000;
const TIMEOUT_MS = 10_000;

const refused = (status: 400 | 403 | 503, reason: string): Verified => ({ kind: 'refused', status, reason });

/** Makes the function that checks requests; it caches SNS's certificates. */
export function snsVerifier(options: VerifierOptions): (request: SnsRequest) => Promise<Verified> {
  const { topics, maxAgeMs = 2 * HOUR_MS, now = Date.now, types, fetch = globalThis.fetch } = options;
  const certificates = certificateCache(options);
  return async (request) => {
    const envelope = readEnvelope(request);
    if (!envelope) return refused(400, "it is not SNS's envelope; raw delivery has no signature");
    const { Type = '', TopicArn = '', Timestamp = '' } = envelope;
    if (!SIGNED.has(Type)) return refused(400, 'its Type is unknown');
    if (!topics.includes(TopicArn)) return refused(403, 'its topic is not one of ours');
    const age = now() - Date.parse(Timestamp);
    if (!(Math.abs(age) <= maxAgeMs)) return refused(403, 'its Timestamp is too far from now');
    try {
      const problem = await signatureProblem(envelope, certificates);
      if (problem) return refused(403, problem);
      if (Type === 'Notification')
        return {
          kind: 'notification',
          status: 200,
          notifications: parse(envelope, { ...(types && { topics: types }) }),
        };
      if (Type === 'UnsubscribeConfirmation') return { kind: 'unsubscribed', status: 200, topicArn: TopicArn };
      return await confirm(envelope, fetch);
    } catch (error) {
      return refused(503, error instanceof Error ? error.message : String(error));
    }
  };
}

/** The envelope, if all signed or used fields are text. */
function readEnvelope({ body, isBase64Encoded }: SnsRequest): Envelope | undefined {
  const value = typeof body === 'string' || body instanceof Uint8Array ? parseJson(body, isBase64Encoded) : body;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const used = new Set([...SIGNED_NOTIFICATION, ...SIGNED_CONTROL, 'Signature', 'SignatureVersion', 'SigningCertURL']);
  const texts = Object.entries(value).every(([name, field]) => !used.has(name) || typeof field === 'string');
  return texts && 'Type' in value ? (value as Envelope) : undefined;
}

function parseJson(body: string | Uint8Array, isBase64Encoded: boolean | undefined): unknown {
  try {
    const text = typeof body === 'string' ? body : Buffer.from(body).toString();
    return JSON.parse(isBase64Encoded ? Buffer.from(text, 'base64').toString() : text);
  } catch {
    return undefined;
  }
}

async function signatureProblem(envelope: Envelope, certificates: ReturnType<typeof certificateCache>) {
  const { Type = '', SignatureVersion = '', Signature = '', SigningCertURL = '' } = envelope;
  const digest = DIGESTS.get(SignatureVersion);
  if (!digest) return 'its SignatureVersion is unknown';
  const certificate = await certificates(SigningCertURL);
  if ('problem' in certificate) return certificate.problem;
  // Omits a missing Subject; all other fields always exist.
  const names = (SIGNED.get(Type) ?? []).filter((name) => envelope[name] !== undefined);
  const signed = Buffer.from(names.map((name) => `${name}\n${envelope[name]}\n`).join(''));
  const matches = verifySignature(digest, signed, certificate.publicKey, Buffer.from(Signature, 'base64'));
  return matches ? undefined : 'its signature is wrong';
}

/** Confirms a subscription by SNS's own link. */
async function confirm({ SubscribeURL, TopicArn = '' }: Envelope, fetch: typeof globalThis.fetch): Promise<Verified> {
  if (!isSnsUrl(SubscribeURL)) return refused(403, "its SubscribeURL is not SNS's");
  const parameters = new URL(SubscribeURL).searchParams;
  if (parameters.get('Action') !== 'ConfirmSubscription' || parameters.get('TopicArn') !== TopicArn)
    return refused(403, 'its SubscribeURL confirms something else');
  const response = await fetch(SubscribeURL, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) return refused(503, `the confirmation was answered with ${response.status}`);
  return { kind: 'confirmed', status: 200, topicArn: TopicArn };
}
