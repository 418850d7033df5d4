/**
 * Filters notifications for a reader of the live feed, before any are left out for lack of room: of a thousand a
 * second, the reader gets all that match.
 */
import type { Notification } from '../notification/notification.ts';

export interface Wanted {
  /** Text that one of the notification's names must contain, ignoring case. */
  readonly match?: string | undefined;
  /** A topic's ARN, or the name at its end. */
  readonly topic?: string | undefined;
}

/** Fields and attributes that identify someone or something, unlike those that people wrote. */
const NAMES = /(?:^|[._-])(?:id|guid|jid|user|room|from|to)$/i;

/**
 * Returns a predicate for the wanted notifications; undefined where all are wanted.
 *
 * It searches the topic, the event's id, its order key, sender and recipient, and the identifying values of body and
 * attributes: users, recipients, rooms, ids of stanzas. It searches what people wrote only if the reader requests
 * bodies, which is logged: otherwise searching would reveal it without a line in the log.
 */
export function matcherOf(
  { match, topic }: Wanted,
  bodies: boolean,
): ((notification: Notification) => boolean) | undefined {
  const text = match?.trim().toLowerCase() ?? '';
  if (text === '' && topic === undefined) return undefined;
  const has = (value: unknown): boolean => typeof value === 'string' && value.toLowerCase().includes(text);
  return (notification) => {
    const { topic: arn, orderKey, eventId, message, attributes, names = [] } = notification;
    if (topic !== undefined && arn !== topic && arn.split(':').at(-1) !== topic) return false;
    if (text === '' || has(arn) || has(orderKey) || has(eventId) || names.some(has)) return true;
    if (attributes.some(({ name, value }) => NAMES.test(name) && has(value))) return true;
    if (bodies) return has(message);
    // Parsed only if the body contains the text at all.
    return has(message) && namesIn(message).some(has);
  };
}

/** The values of a body that identify someone or something. */
function namesIn(message: string): unknown[] {
  let body: unknown;
  try {
    body = JSON.parse(message);
  } catch {
    // A template may produce a body that isn't JSON.
    return [];
  }
  if (typeof body !== 'object' || body === null) return [];
  return Object.entries(body).flatMap(([name, value]) => (NAMES.test(name) ? [value] : []));
}
