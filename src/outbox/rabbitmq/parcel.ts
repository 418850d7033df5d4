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
/** The outbox numbers a parcel's places from a multiple of this. */
export const BLOCK = 256;

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

export type Line = [
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
  const { topic: _, orderKey, eventId, at, message, bytes, attributes, ...more } = notification;
  const line: Line = [orderKey, eventId, at, message, bytes, numbering];
  if (attributes.length > 0) line.push({ attributes, ...more });
  else if (hasAny(more)) line.push(more);
  return JSON.stringify(line);
}

const LINE_BREAK = 10;

/** How many notifications a packed parcel has. */
export function countLines(content: Buffer): number {
  let count = 1;
  for (let at = content.indexOf(LINE_BREAK); at >= 0; at = content.indexOf(LINE_BREAK, at + 1)) count += 1;
  return count;
}

/** The lines of a parcel; undefined in place of damaged ones, which `damaged` gets. */
export function readLines(content: Buffer, damaged: (text: string, place: number) => void): (Line | undefined)[] {
  const lines = content.toString();
  const count = countLines(content);
  // A line break inside of a string is escaped, so each one separates two lines. A large notification is alone.
  const together = count === 1 ? [parse(lines)] : parse(`[${lines.replaceAll('\n', ',')}]`);
  if (Array.isArray(together) && together.every(isLine) && together.length === count) return together;
  return lines.split('\n').map((text, place) => {
    const line = parse(text);
    if (isLine(line)) return line;
    damaged(text, place);
    return undefined;
  });
}

export function toStored([orderKey, eventId, at, message, bytes, , more]: Line, topic: string, seq: number): Stored {
  return { eventId, topic, orderKey, at, message, attributes: more?.attributes ?? [], bytes, ...more, seq };
}

/** Undefined for what is no JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isLine(line: unknown): line is Line {
  if (!Array.isArray(line)) return false;
  const [orderKey, eventId, , message, bytes, , more] = line;
  if (typeof message !== 'string' || typeof orderKey !== 'string' || typeof eventId !== 'string') return false;
  return Number.isSafeInteger(bytes) && (more?.attributes === undefined || Array.isArray(more.attributes));
}

function hasAny(object: object): boolean {
  for (const _ in object) return true;
  return false;
}

/** A parcel that was delivered but not acknowledged. */
export interface InHand {
  readonly id: string;
  readonly queue: string;
  /** When it was committed, in milliseconds since the Unix epoch. */
  readonly at: number;
  readonly bytes: number;
  /** Undefined once it is unpacked, which is when something of it is handed out: packed, it takes half the memory. */
  content: Buffer | undefined;
  /** The number of its first place; the others' follow. */
  firstSeq: number;
  /** By place; undefined where there is nothing to hand out: already settled, damaged, or a repetition. */
  entries: (Stored | undefined)[];
  /** Unsettled places. */
  left: number;
  /** Those of them that are damaged, and not dead letters yet. */
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

/** How many of a parcel's first places are settled. */
export function countSettled(places: string | undefined, count: number): number {
  let settled = 0;
  if (places !== undefined) for (let place = 0; place < count; place++) if (isSettled(places, place)) settled += 1;
  return settled;
}

export const isSettled = (places: string | undefined, place: number): boolean =>
  places !== undefined &&
  (Number.parseInt(places.slice((place >> 3) * 2, (place >> 3) * 2 + 2), 16) & (1 << (place & 7))) !== 0;
