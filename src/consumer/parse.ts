/**
 * Parses any delivery into notifications: a Lambda's event (SNS, SQS, Pipes, Firehose, EventBridge, API Gateway), an
 * answer to SQS's ReceiveMessage, an HTTP request, or a text such as a file that Firehose wrote to S3.
 *
 * - Never throws: an invalid input comes back as `malformed`, in its place, with its delivery.
 * - Each input record makes at least one item. An empty answer of SQS, and `undefined`, make none.
 */

import { parseEventId } from '../event-id.ts';
import { type Enveloped, unwrap } from './envelope.ts';
import type { Notification, Parsed } from './notification.ts';

export interface ParseOptions {
  /**
   * Topics of private and of group messages, by name or ARN: they give the type of a message without such an attribute.
   */
  readonly topics?: { readonly pm?: string; readonly muc?: string };
}

/** Returns all notifications in `input`, in order. */
export function parse(input: unknown, options: ParseOptions = {}): Parsed[] {
  return unwrap(input).map((item) => ('reason' in item ? item : toNotification(item, options)));
}

type Metadata = Readonly<Record<string, unknown>>;

function toNotification({ body, attributes, delivery }: Enveloped, options: ParseOptions): Parsed {
  if (typeof body.user_id === 'string' && typeof body.present === 'boolean') {
    const { user_id, present, ...fields } = body;
    const metadata = { ...fields, ...attributes };
    const sessions = number(metadata.sessions);
    const own = { user_id: body.user_id, present: body.present, ...(sessions !== undefined && { sessions }) };
    return { kind: 'presence', ...own, ...commonOf(metadata), attributes, fields, delivery };
  }
  const { to_user_id, from_user_id, message, ...fields } = body;
  if (typeof to_user_id === 'string' && typeof from_user_id === 'string' && typeof message === 'string') {
    const metadata = { ...fields, ...attributes };
    const type = typeOf(metadata) ?? typeByTopic(delivery.topicArn, options);
    const stanzaId = text(metadata.stanza_id);
    const own = { ...(type && { type }), to_user_id, from_user_id, message, ...(stanzaId && { stanzaId }) };
    return { kind: 'message', ...own, ...commonOf(metadata), attributes, fields, delivery };
  }
  return { kind: 'malformed', reason: 'its body is neither a presence nor a message notification', delivery };
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type Common = Pick<Notification, 'id' | 'source' | 'epoch' | 'seq' | 'at' | 'host' | 'traceparent'>;

/** The daemon's own attributes, or the same keys in the body, or those of the CloudEvents binding. */
function commonOf(metadata: Metadata): Common {
  const common: Writable<Common> = {};
  const id = text(metadata.event_id) ?? text(metadata.ce_id);
  if (id) Object.assign(common, { id }, parseEventId(id));
  const at = number(metadata.timestamp) ?? time(metadata.time) ?? time(metadata.ce_time);
  if (at !== undefined) common.at = at;
  const host = text(metadata.host);
  if (host) common.host = host;
  const traceparent = text(metadata.traceparent) ?? text(metadata.ce_traceparent);
  if (traceparent) common.traceparent = traceparent;
  return common;
}

/** `pm` or `muc`; in a CloudEvents type it follows the last dot. */
function typeOf({ type, ce_type }: Metadata): 'pm' | 'muc' | undefined {
  const name = text(type) ?? text(ce_type)?.replace(/^.*\./, '');
  return name === 'pm' || name === 'muc' ? name : undefined;
}

function typeByTopic(topicArn: string | undefined, { topics }: ParseOptions): 'pm' | 'muc' | undefined {
  const is = (topic: string | undefined) =>
    topic !== undefined && (topic === topicArn || topicArn?.endsWith(`:${topic}`) === true);
  if (is(topics?.pm) === is(topics?.muc)) return undefined;
  return is(topics?.pm) ? 'pm' : 'muc';
}

const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);

function number(value: unknown): number | undefined {
  const parsed = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof parsed === 'number' && Number.isFinite(parsed) ? parsed : undefined;
}

function time(value: unknown): number | undefined {
  const parsed = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(parsed) ? undefined : parsed;
}
