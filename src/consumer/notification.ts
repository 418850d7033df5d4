/** A notification as a consumer gets it, with the facts of its event and delivery. */
import type { MessageBody, PresenceBody } from './body.ts';

/** How a notification arrived. Properties that the channel lacks are absent. */
export interface Delivery {
  /** SNS's own id. Two publications of one event have two of them, so it doesn't identify the event. */
  readonly messageId?: string;
  readonly topicArn?: string;
  /** When SNS accepted it, in milliseconds since the Unix epoch. */
  readonly publishedAt?: number;
  /** The SQS message that carried it. */
  readonly sqsMessageId?: string;
  readonly receiptHandle?: string;
  /** The SQS message group, from FIFO queues. */
  readonly groupId?: string;
  /** How many times SQS delivered it, this time included. */
  readonly receiveCount?: number;
  /** The Firehose record that carried it. */
  readonly recordId?: string;
}

/** A message attribute: String, Number, String.Array, Binary. */
export type AttributeValue = string | number | readonly unknown[] | Uint8Array;

/**
 * Common properties of presence and messages. All except `attributes`, `fields` and `delivery` depend on the daemon's
 * options.
 */
interface Common {
  /** The event's id, the same in every delivery of it: `event_id`. */
  readonly id?: string;
  /** The three parts of the id, from sources that number their events. */
  readonly source?: string;
  readonly epoch?: string;
  readonly seq?: number;
  /** When it happened on the XMPP server, in milliseconds since the Unix epoch: `timestamp`. */
  readonly at?: number;
  /** The XMPP domain it happened on. */
  readonly host?: string;
  readonly traceparent?: string;
  /** All message attributes. Raw HTTP and Firehose deliveries carry none. */
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  /** Further keys of the body. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly delivery: Delivery;
}

/** A user came online or went offline. */
export interface PresenceNotification extends Common, Pick<PresenceBody, 'user_id' | 'present'> {
  readonly kind: 'presence';
  /** The user's available sessions after this change, if published. */
  readonly sessions?: number;
}

/** A user sent a message. */
export interface MessageNotification extends Common, Pick<MessageBody, 'to_user_id' | 'from_user_id' | 'message'> {
  readonly kind: 'message';
  /** Private or group message; absent if neither an attribute nor the topic shows it. */
  readonly type?: 'pm' | 'muc';
  /** The stanza's `id`. */
  readonly stanzaId?: string;
}

/** An input that is not a notification of this daemon. */
export interface Malformed {
  readonly kind: 'malformed';
  /** The mistake. Does not quote the input. */
  readonly reason: string;
  readonly delivery: Delivery;
}

export type Notification = PresenceNotification | MessageNotification;
export type Parsed = Notification | Malformed;

/**
 * Whose order counts: the user of a presence, the sender of a private message, the room of a group message. The daemon
 * publishes the notifications of one key in order. A message of unknown type counts as private.
 */
export function orderKey(notification: Notification): string {
  if (notification.kind === 'presence') return `presence ${notification.user_id}`;
  return notification.type === 'muc' ? `muc ${notification.to_user_id}` : `pm ${notification.from_user_id}`;
}
