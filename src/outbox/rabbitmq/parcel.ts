/**
 * Parcels: AMQP messages with several notifications of one partition, because a message with fifty costs as much as one
 * with one. Each notification is a line of JSON, so that a damaged one doesn't affect others.
 */
import type { Message } from 'amqplib';
import type { Notification } from '../../notification/notification.ts';
import type { Stored } from '../outbox.ts';

/** Most notifications and characters in a parcel. */
export const MOST_NOTIFICATIONS = 256;
export const MOST_LENGTH = 65_536;

/**
 * A notification's numbering by its source: none; numbered, so that repetitions are recognised; or the first one of an
 * epoch, which never counts as a repetition.
 */
export const UNNUMBERED = 0;
export const NUMBERED = 1;
export const BASELINE = 2;
export type Numbering = typeof UNNUMBERED | typeof NUMBERED | typeof BASELINE;

/** The last parcel of a queue, written when the number of partitions was changed. */
export const END = '"end"';

type Line = [
  orderKey: string,
  eventId: string,
  at: number,
  message: string,
  bytes: number,
  numbering: Numbering,
  /** Rare fields. */
  more?: Partial<Omit<Notification, 'topic' | 'orderKey' | 'eventId' | 'at' | 'message' | 'bytes'>>,
];

/** A notification in a parcel. */
export function toLine(notification: Notification, numbering: Numbering): string {
  const { topic: _, orderKey, eventId, at, message, bytes, attributes, ...rest } = notification;
  const line: Line = [orderKey, eventId, at, message, bytes, numbering];
  const more = attributes.length > 0 ? { attributes, ...rest } : rest;
  if (Object.keys(more).length > 0) line.push(more);
  return JSON.stringify(line);
}

export interface Read {
  readonly notification: Notification;
  readonly numbering: Numbering;
}

/** Parses a line; undefined when it is damaged. */
export function fromLine(line: string, topic: string): Read | undefined {
  try {
    const [orderKey, eventId, at, message, bytes, numbering, more] = JSON.parse(line) as Line;
    if (typeof message !== 'string' || typeof orderKey !== 'string' || typeof eventId !== 'string') return undefined;
    const { attributes = [] } = more ?? {};
    if (!Array.isArray(attributes) || !Number.isSafeInteger(bytes)) return undefined;
    const notification = { eventId, topic, orderKey, at, message, attributes, bytes };
    return { notification: more ? { ...notification, ...more, attributes } : notification, numbering };
  } catch {
    return undefined; // Damaged: the caller makes it a dead letter.
  }
}

/** Its place in a parcel that a daemon has in hand. */
export interface Place {
  readonly parcel: InHand;
  readonly index: number;
}

/** A parcel that was delivered but not acknowledged. */
export interface InHand {
  readonly id: string;
  readonly queue: string;
  /** When it was committed, in milliseconds since the Unix epoch. */
  readonly at: number;
  readonly bytes: number;
  /** By place; undefined where there is nothing to hand out: already settled, damaged, or a repetition. */
  readonly entries: (Stored | undefined)[];
  /** Unsettled places. */
  left: number;
  /** Those of them that are damaged and not dead letters yet. */
  burying: number;
  /** Number of `entries` handed out, from the start. */
  handed: number;
  /** The delivery to acknowledge; undefined once its channel is gone. */
  delivery: Pick<Message, 'fields' | 'properties'> | undefined;
  /** When it was delivered, in milliseconds of `performance.now()`. */
  deliveredAt: number;
}

/** A parcel's settled places, as a bitmap in hexadecimal. */
export function settledPlaces({ entries }: InHand): string {
  const bits = Buffer.alloc((entries.length + 7) >> 3);
  for (const [place, entry] of entries.entries())
    if (!entry) bits[place >> 3] = (bits[place >> 3] ?? 0) | (1 << (place & 7));
  return bits.toString('hex');
}

export const isSettled = (places: string | undefined, place: number): boolean =>
  places !== undefined &&
  (Number.parseInt(places.slice((place >> 3) * 2, (place >> 3) * 2 + 2), 16) & (1 << (place & 7))) !== 0;
