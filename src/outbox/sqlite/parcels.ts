/**
 * Notifications in the SQLite file, in parcels: the notifications of one transaction and topic are one row.
 *
 * A row per notification cost a third of the daemon's processor time. A parcel has a line per notification, so that
 * each can be read alone and damage affects only its own line: its metadata as JSON, a tab, and its message as
 * published. A bitmap in a separate small row marks the settled ones; a parcel is deleted when all are. A
 * notification's number consists of its parcel and its place in it.
 *
 * Maintained invariants:
 * - Numbers ascend in the order of the commits, and none is used twice.
 * - A settlement is part of its transaction: after a kill nothing settled is returned again.
 * - After each transaction `#states` agrees with the file; it is a cache, and may drop entries.
 */
import type { DatabaseSync } from 'node:sqlite';
import type { Notification } from '../../notification/notification.ts';
import { rowOf } from '../../sql.ts';
import { costOf, type Stored } from '../outbox.ts';

/** The range of numbers of one parcel: a notification's number is its parcel's times this, plus its place. */
export const PLACES = 1_024;
/** Upper bounds of a parcel, in notifications and characters: a read loads a whole parcel. */
const MOST_NOTIFICATIONS = 256;
const MOST_LENGTH = 262_144;
/** How many bitmaps of partly settled parcels are kept in memory. */
const MOST_STATES = 10_000;

/** A parcel that the current transaction fills. */
export interface OpenParcel {
  readonly id: number;
  readonly topic: string;
  readonly topicId: number;
  readonly notifications: Stored[];
  /** As they will be stored. */
  lines: string[];
  /** Total length of all lines, in characters. */
  length: number;
}

/** Which notifications of a parcel are settled. */
interface State {
  /** A bit for each place, in bytes. */
  readonly bits: number[];
  left: number;
  /** Whether the file has the bitmap. */
  kept: boolean;
}

/** The unreadable text of a notification. */
export interface Unreadable {
  readonly seq: number;
  readonly raw: string;
}

export interface Found {
  readonly notifications: Stored[];
  readonly unreadable: Unreadable[];
  /** Everything up to this number was examined. */
  readonly end: number;
}

/** A parcel as stored in the file. */
export interface ParcelRow {
  id: number;
  count: number;
  content: string;
  places: Uint8Array | null;
}

/** The part of a line before its tab. */
type Head = [
  place: number,
  orderKey: string,
  eventId: string,
  at: number,
  bytes: number,
  /** The length of the message after the tab; the message itself if it would break the line, which no event causes. */
  message: number | string,
  names?: Notification['names'] | null,
  attributes?: Notification['attributes'],
  parameters?: Notification['parameters'],
];

/** The parcel of a number. */
const parcelOf = (seq: number): number => Math.floor(seq / PLACES);

const isSet = (bits: ArrayLike<number>, place: number): boolean => ((bits[place >> 3] ?? 0) & (1 << (place & 7))) !== 0;

export class Parcels {
  readonly #sql;
  readonly #states = new Map<number, State>();
  /** Parcels with settlements in the current transaction. */
  #changed = new Map<number, State>();
  /** Parcels that it fills, by topic. */
  #open = new Map<string, OpenParcel>();
  #full: OpenParcel[] = [];
  #last: number;
  #lastBefore: number;

  constructor(database: DatabaseSync) {
    const sql = (text: string) => database.prepare(text);
    const columns = 'id, count, content, places FROM parcel LEFT JOIN settled ON settled.parcel = parcel.id';
    this.#sql = {
      insert: sql('INSERT INTO parcel VALUES (?, ?, ?, ?, ?)'),
      remove: sql('DELETE FROM parcel WHERE id = ?'),
      keepPlaces: sql('INSERT OR REPLACE INTO settled VALUES (?, ?)'),
      removePlaces: sql('DELETE FROM settled WHERE parcel = ?'),
      state: sql('SELECT count, places FROM parcel LEFT JOIN settled ON settled.parcel = parcel.id WHERE id = ?'),
      read: sql(`SELECT ${columns} WHERE id >= ? AND id <= ? AND topic = ? ORDER BY id`),
      one: sql(`SELECT ${columns} WHERE id = ? AND topic = ?`),
      next: sql('SELECT id FROM parcel WHERE id >= ? ORDER BY id LIMIT 1'),
      oldest: sql('SELECT committed_at FROM parcel ORDER BY id LIMIT 1'),
    };
    this.#last = Number(database.prepare('SELECT max(id) AS n FROM parcel').get()?.n ?? 0);
    this.#lastBefore = this.#last;
  }

  /** The highest number that may have been assigned. */
  get lastSeq(): number {
    return this.#last * PLACES + PLACES - 1;
  }

  /** When the oldest parcel was committed. */
  get oldestAt(): number | undefined {
    return this.#sql.oldest.get()?.committed_at as number | undefined;
  }

  begin(): void {
    this.#lastBefore = this.#last;
  }

  /** Adds a notification to the transaction's parcel of its topic. */
  add(notification: Notification, topicId: number): void {
    const { topic } = notification;
    let parcel = this.#open.get(topic);
    if (parcel && (parcel.notifications.length >= MOST_NOTIFICATIONS || parcel.length >= MOST_LENGTH)) {
      this.#full.push(parcel);
      parcel = undefined;
    }
    if (!parcel) {
      parcel = { id: ++this.#last, topic, topicId, notifications: [], lines: [], length: 0 };
      this.#open.set(topic, parcel);
    }
    const place = parcel.notifications.length;
    const text = lineOf(place, notification);
    parcel.lines.push(text);
    parcel.length += text.length;
    parcel.notifications.push(stored(parcel.id * PLACES + place, notification));
  }

  /** Settles a notification; false if it was settled already. */
  settle(seq: number): boolean {
    const id = parcelOf(seq);
    const state = this.#states.get(id) ?? this.#readState(id);
    const place = seq - id * PLACES;
    if (!state || isSet(state.bits, place)) return false;
    state.bits[place >> 3] = (state.bits[place >> 3] ?? 0) | (1 << (place & 7));
    state.left -= 1;
    this.#changed.set(id, state);
    return true;
  }

  /** Writes the transaction's parcels; returns their length in characters. */
  write(now: number): number {
    let written = 0;
    for (const parcel of this.#open.values()) this.#full.push(parcel);
    this.#open = new Map();
    for (const parcel of this.#full) {
      const { id, topicId, notifications, lines, length } = parcel;
      this.#sql.insert.run(id, topicId, now, notifications.length, lines.join('\n'));
      written += length;
      parcel.lines = [];
    }
    for (const [id, state] of this.#changed) {
      if (state.left > 0) this.#sql.keepPlaces.run(id, bytesOf(state.bits));
      else {
        this.#sql.remove.run(id);
        if (state.kept) this.#sql.removePlaces.run(id);
      }
    }
    return written;
  }

  /** After the commit; returns the new parcels. */
  committed(): readonly OpenParcel[] {
    const brought = this.#full;
    this.#full = [];
    for (const { id, notifications } of brought) this.#states.set(id, newState(notifications.length));
    for (const [id, state] of this.#changed) {
      state.kept = true;
      if (state.left === 0) this.#states.delete(id);
    }
    // Not `clear`: V8's table of a cleared map points to the next one, and dead ones would keep each other alive until
    // a full collection.
    this.#changed = new Map();
    for (const id of this.#states.keys()) {
      if (this.#states.size <= MOST_STATES) break;
      this.#states.delete(id);
    }
    return brought;
  }

  /** After a rollback. */
  undone(): void {
    this.#last = this.#lastBefore;
    this.#open = new Map();
    this.#full = [];
    this.#changed = new Map();
    this.#states.clear();
  }

  /**
   * Reads a topic's notifications with numbers above `after` and up to `upTo`, in order, until there are `limit` or
   * they cost `credit`.
   */
  read(topic: string, topicId: number, after: number, upTo: number, limit: number, credit: number): Found {
    const found: Found & { end: number } = { notifications: [], unreadable: [], end: upTo };
    let left = credit;
    const rows = this.#sql.read.iterate(parcelOf(after + 1), parcelOf(upTo), topicId);
    for (const row of rows as IterableIterator<unknown>) {
      for (const each of contentOf(row as ParcelRow, topic)) {
        if (each.seq <= after || each.seq > upTo) continue;
        if ('raw' in each) {
          found.unreadable.push(each);
          continue;
        }
        found.notifications.push(each);
        left -= costOf(each.bytes);
        if (left > 0 && found.notifications.length < limit) continue;
        found.end = each.seq;
        return found;
      }
    }
    return found;
  }

  /** Reads the notifications with these numbers, in order. */
  load(topic: string, topicId: number, seqs: readonly number[]): Pick<Found, 'notifications' | 'unreadable'> {
    const found: Pick<Found, 'notifications' | 'unreadable'> = { notifications: [], unreadable: [] };
    const byParcel = Map.groupBy(
      seqs.toSorted((a, b) => a - b),
      parcelOf,
    );
    for (const [id, wanted] of byParcel) {
      const row = rowOf<ParcelRow>(this.#sql.one.get(id, topicId));
      if (!row) continue;
      for (const each of contentOf(row, topic, new Set(wanted.map((seq) => seq - id * PLACES)))) {
        if ('raw' in each) found.unreadable.push(each);
        else found.notifications.push(each);
      }
    }
    return found;
  }

  /** The lowest number above `after` that a parcel of any topic may have; undefined if there is none. */
  next(after: number): number | undefined {
    const id = this.#sql.next.get(parcelOf(after + 1))?.id as number | undefined;
    return id === undefined ? undefined : Math.max(id * PLACES, after + 1);
  }

  #readState(id: number): State | undefined {
    const row = this.#sql.state.get(id) as Pick<ParcelRow, 'count' | 'places'> | undefined;
    if (!row) return undefined;
    const state = newState(row.count);
    if (row.places) {
      state.kept = true;
      for (let byte = 0; byte < state.bits.length; byte++) state.bits[byte] = row.places[byte] ?? 0;
      for (let place = 0; place < row.count; place++) if (isSet(state.bits, place)) state.left -= 1;
    }
    this.#states.set(id, state);
    return state;
  }
}

const newState = (count: number): State => ({ bits: new Array((count + 7) >> 3).fill(0), left: count, kept: false });

/** Reuses buffers by length: many small ones are expensive for the garbage collector. */
const buffers: Uint8Array[] = [];

function bytesOf(bits: readonly number[]): Uint8Array {
  const buffer = buffers[bits.length] ?? new Uint8Array(bits.length);
  buffers[bits.length] = buffer;
  buffer.set(bits);
  return buffer;
}

function lineOf(place: number, notification: Notification): string {
  const { orderKey, eventId, at, message, attributes, bytes, parameters, names } = notification;
  const behind = isLine(message);
  const head: Head = [place, orderKey, eventId, at, bytes, behind ? message.length : message, names ?? null];
  if (attributes.length > 0 || parameters) head.push(attributes);
  if (parameters) head.push(parameters);
  const text = JSON.stringify(head);
  return behind ? `${text}\t${message}` : text;
}

/** Whether SQLite stores a text unchanged on one line. */
const isLine = (text: string): boolean => !text.includes('\n') && !text.includes('\0') && text.isWellFormed();

/**
 * The unsettled notifications of a parcel, in order.
 * @param wanted only these places
 */
export function* contentOf(
  row: ParcelRow,
  topic: string,
  wanted?: ReadonlySet<number>,
): Generator<Stored | Unreadable> {
  const lines = String(row.content).split('\n');
  for (let place = 0; place < row.count; place++) {
    if ((wanted && !wanted.has(place)) || (row.places && isSet(row.places, place))) continue;
    const seq = row.id * PLACES + place;
    const raw = lineAt(lines, place);
    yield toStored(raw, seq, topic) ?? { seq, raw };
  }
}

/** The line of a place: at its index, or anywhere in a damaged parcel. */
function lineAt(lines: readonly string[], place: number): string {
  const start = `[${place},`;
  const there = lines[place] ?? '';
  if (there.startsWith(start)) return there;
  return lines.find((line) => line.startsWith(start)) ?? (/^\[\d+,/.test(there) ? '' : there);
}

/** Omits keys that the notification lacks. Explicit, because a spread is slower. */
function stored(seq: number, notification: Notification): Stored {
  const { eventId, topic, orderKey, at, message, attributes, bytes, names, parameters } = notification;
  const whole: Stored = names
    ? { seq, eventId, topic, orderKey, at, message, attributes, bytes, names }
    : { seq, eventId, topic, orderKey, at, message, attributes, bytes };
  return parameters ? { ...whole, parameters } : whole;
}

function toStored(raw: string, seq: number, topic: string): Stored | undefined {
  try {
    // JSON contains no raw tabs.
    const tab = raw.indexOf('\t');
    const head = JSON.parse(tab < 0 ? raw : raw.slice(0, tab)) as Head;
    const [, orderKey, eventId, at, bytes, length, names, attributes = [], parameters] = head;
    const message = tab < 0 ? length : raw.slice(tab + 1);
    if (typeof message !== 'string' || typeof orderKey !== 'string' || typeof eventId !== 'string') return undefined;
    if (!Array.isArray(attributes) || (tab >= 0 && message.length !== length)) return undefined;
    const found = { eventId, topic, orderKey, at, message, attributes, bytes, names: names ?? undefined, parameters };
    return stored(seq, found);
  } catch {
    return undefined; // Damaged: the caller makes it a dead letter.
  }
}
