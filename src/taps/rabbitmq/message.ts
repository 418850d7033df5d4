/**
 * Converts messages of MongooseIM's rabbit backend to events: a pure function of one delivery
 * (https://esl.github.io/MongooseDocs/latest/modules/mod_event_pusher_rabbit/).
 */
import { isMalformed, type MalformedEvent, type NewEvent, parseEvent } from '../../event.ts';
import { forbiddenCharacter } from '../../xml.ts';
import type { Exchanges } from './exchanges.ts';

/** A message as the broker delivers it. */
export interface Delivered {
  /** The exchange that it was published to. */
  readonly exchange: string;
  readonly routingKey: string;
  readonly body: Buffer;
  readonly contentEncoding?: string | undefined;
}

/** Some hooks add seconds or milliseconds; MongooseIM's own example adds microseconds. This number is the year 2001. */
const LEAST_MICROSECONDS = 1e15;
/** The greatest exact integer, in microseconds: the year 2255. */
const MOST_MICROSECONDS = Number.MAX_SAFE_INTEGER;

/** Encodings that don't change a body. */
const PLAIN = new Set(['', 'utf-8', 'utf8', 'identity']);

/** Names of our fields in dead letters: those of MongooseIM's messages. */
const THEIR_NAMES: Readonly<Record<string, string>> = {
  jid: 'user_id',
  from: 'from_user_id',
  to: 'to_user_id',
  body: 'message',
  sessions: 'session_count',
  at: 'timestamp',
  host: 'domain',
};

/**
 * Reads one message; undefined for copies for recipients, which are not published.
 * @param now in milliseconds since the Unix epoch, for messages without a time
 */
export function readMessage(
  delivered: Delivered,
  exchanges: Exchanges,
  now: number,
): NewEvent | MalformedEvent | undefined {
  const kind = kindOfMessage(delivered, exchanges);
  if (kind === 'other') return undefined;
  const refuse = (problem: string): MalformedEvent => ({ problem, raw: rawOf(delivered) });
  if (kind === undefined) return refuse(`came from the exchange "${delivered.exchange}", which is not configured`);
  const encoding = (delivered.contentEncoding ?? '').toLowerCase();
  if (!PLAIN.has(encoding)) return refuse(`has the content encoding "${encoding}", should be plain JSON`);
  const parsed = parseBody(delivered.body);
  if (typeof parsed === 'string') return refuse(parsed);
  const event = parseEvent(kind === 'presence' ? presenceOf(parsed, now) : messageOf(parsed, kind, now));
  return isMalformed(event) ? refuse(inTheirNames(event.problem)) : event;
}

/** `other`: from our exchanges, but not to be published; undefined: from an exchange that isn't configured. */
function kindOfMessage(
  { exchange, routingKey }: Delivered,
  { presence, chat, groupchat }: Exchanges,
): 'presence' | 'chat' | 'groupchat' | 'other' | undefined {
  // One exchange may serve all three. Keys of messages end in their topics, those of presence are a bare JID.
  if (exchange === chat.name && routingKey.endsWith(`.${chat.sentTopic}`)) return 'chat';
  if (exchange === groupchat.name && routingKey.endsWith(`.${groupchat.sentTopic}`)) return 'groupchat';
  const received = [chat, groupchat].some(({ name, recvTopic }) => {
    return exchange === name && routingKey.endsWith(`.${recvTopic}`);
  });
  if (exchange === presence.name && !received) return 'presence';
  return exchange === chat.name || exchange === groupchat.name || received ? 'other' : undefined;
}

/** The object in a body, or the problem with it. */
function parseBody(body: Buffer): Readonly<Record<string, unknown>> | string {
  if (body.length === 0) return 'is empty, should be a JSON object';
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return 'should be JSON in UTF-8';
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'should be a JSON object';
  return value as Record<string, unknown>;
}

const presenceOf = ({ user_id: jid, present, ...more }: Readonly<Record<string, unknown>>, now: number) => ({
  kind: 'presence',
  at: timeOf(more, now),
  host: domainOf(jid),
  jid,
  present,
  sessions: isCount(more.session_count) ? more.session_count : undefined,
});

const messageOf = (
  { from_user_id: from, to_user_id: to, message: body, ...more }: Readonly<Record<string, unknown>>,
  type: 'chat' | 'groupchat',
  now: number,
) => ({
  kind: 'message',
  at: timeOf(more, now),
  host: domainOf(from),
  type,
  from,
  to,
  body,
  stanza_id: isText(more.stanza_id) ? more.stanza_id : undefined,
});

/** Unexpected metadata, from a custom hook in the server, is no reason for a dead letter. */
function timeOf({ timestamp }: Readonly<Record<string, unknown>>, now: number): number {
  const known = typeof timestamp === 'number' && timestamp >= LEAST_MICROSECONDS && timestamp <= MOST_MICROSECONDS;
  return known ? Math.floor(timestamp / 1_000) : now;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

const isText = (value: unknown): value is string =>
  typeof value === 'string' && forbiddenCharacter(value) === undefined;

/** The domain of a JID, the virtual host of its user; for text that isn't a JID, any harmless value. */
function domainOf(jid: unknown): string {
  if (typeof jid !== 'string') return 'unknown';
  const slash = jid.indexOf('/');
  const bare = slash < 0 ? jid : jid.slice(0, slash);
  return bare.slice(bare.indexOf('@') + 1).toLowerCase() || 'unknown';
}

const inTheirNames = (problem: string): string =>
  problem.replace(/(^|; )(\w+):/g, (_, start: string, name: string) => `${start}${THEIR_NAMES[name] ?? name}:`);

/** A message in the form for dead letters. */
function rawOf({ exchange, routingKey, body, contentEncoding }: Delivered): Readonly<Record<string, unknown>> {
  const head = { exchange, routing_key: routingKey, content_encoding: contentEncoding };
  try {
    return { ...head, body: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body) };
  } catch {
    return { ...head, body_base64: body.toString('base64') };
  }
}
