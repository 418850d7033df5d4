/**
 * Parcels: what goes to one partition at a time is one AMQP message, for a message costs the same whether it holds one
 * notification or fifty. A line of JSON for each, so that a damaged one costs no other.
 */
import type { Message } from 'amqplib';
import type { Notification } from '../../notification/notification.ts';
import type { Stored } from '../outbox.ts';

/** A parcel is full with so many notifications, or so many characters. */
export const MOST_NOTIFICATIONS = 256;
export const MOST_LENGTH = 65_536;

/**
 * How a notification stands to the numbers of its source: without any; numbered, so that one that comes again is known;
 * or the first that was heard of an epoch, which is never taken for a repetition.
 */
export const UNNUMBERED = 0;
export const NUMBERED = 1;
export const BASELINE = 2;
export type Numbering = typeof UNNUMBERED | typeof NUMBERED | typeof BASELINE;

/** The last parcel of a queue that nothing is written to any more, since the number of partitions was changed. */
export const END = '"end"';

type Line = [
  orderKey: string,
  eventId: string,
  at: number,
  message: string,
  bytes: number,
  numbering: Numbering,
  /** What few have. */
  more?: Partial<Omit<Notification, 'topic' | 'orderKey' | 'eventId' | 'at' | 'message' | 'bytes'>>,
];

/** A notification as a parcel has it. */
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

/** What a line says; undefined when it is damaged. */
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

/** A parcel that was delivered and is not acknowledged. */
export interface InHand {
  readonly id: string;
  readonly queue: string;
  /** When it was committed, in milliseconds since the Unix epoch. */
  readonly at: number;
  readonly bytes: number;
  /** By their places; undefined where there is nothing to hand out: settled before, damaged, or a repetition. */
  readonly entries: (Stored | undefined)[];
  /** How many are not settled. */
  left: number;
  /** How many of these are damaged and no dead letters yet. */
  burying: number;
  /** How many of `entries` were handed out, from the first one on. */
  handed: number;
  /** The delivery to acknowledge; undefined while the channel that it came over is gone. */
  delivery: Pick<Message, 'fields' | 'properties'> | undefined;
  /** When it was delivered, in milliseconds of `performance.now()`. */
  deliveredAt: number;
}

/** The places of a parcel that are settled, as the two hexadecimal digits of each byte. */
export function settledPlaces({ entries }: InHand): string {
  const bits = Buffer.alloc((entries.length + 7) >> 3);
  for (const [place, entry] of entries.entries())
    if (!entry) bits[place >> 3] = (bits[place >> 3] ?? 0) | (1 << (place & 7));
  return bits.toString('hex');
}

export const isSettled = (places: string | undefined, place: number): boolean =>
  places !== undefined &&
  (Number.parseInt(places.slice((place >> 3) * 2, (place >> 3) * 2 + 2), 16) & (1 << (place & 7))) !== 0;
