/**
 * Finds waiting notifications and dead letters in the outbox's file by names of an event. Reads in many short
 * transactions on its own connection, so that it blocks neither the daemon nor its checkpoints.
 */
import { DatabaseSync } from 'node:sqlite';
import type { Notification } from '../../notification/notification.ts';
import type { Named, Wanted } from '../../notification/wanted.ts';
import { rowsOf } from '../../sql.ts';
import { contentOf, type ParcelRow } from './parcels.ts';

export interface FoundWaiting extends Named {
  readonly kind: 'waiting';
  /** When the event happened, and when it was committed to the outbox; milliseconds since the Unix epoch. */
  readonly eventAt: number;
  readonly at: number;
  readonly topic: string;
  /** How many notifications of its topic were committed before it and still wait. */
  readonly before: number;
}

export interface FoundLetter extends Named {
  readonly kind: 'letter';
  readonly eventAt: number | undefined;
  /** When it became a dead letter. */
  readonly at: number;
  readonly id: number;
  readonly topic: string | undefined;
  readonly reason: string;
  readonly replayRequested: boolean;
}

export interface Search {
  readonly wanted: Wanted;
  /** Limit for each kind. */
  readonly limit: number;
  /** Only within this time range, in milliseconds since the Unix epoch. */
  readonly from: number;
  readonly until: number;
  /** Called between two reads, to give way to other work. */
  readonly pause: () => Promise<void>;
}

/** Parcels and dead letters per read. */
const PARCELS = 64;
const LETTERS = 200;

/** Opens an existing file for reading only. */
export const openForReading = (file: string): DatabaseSync =>
  new DatabaseSync(file, { readOnly: true, timeout: 1_000 });

/** Returns the newest `limit` waiting matches, oldest first, and how many were examined. */
export async function findWaiting(
  database: DatabaseSync,
  { wanted, limit, from, until, pause }: Search,
): Promise<{ found: FoundWaiting[]; looked: number }> {
  const topics = new Map(
    database
      .prepare('SELECT id, arn FROM topic')
      .all()
      .map(({ id, arn }) => [Number(id), String(arn)]),
  );
  const next = database.prepare(
    `SELECT id, topic, committed_at AS "committedAt", count, content, places FROM parcel
       LEFT JOIN settled ON settled.parcel = parcel.id WHERE id > ? ORDER BY id LIMIT ${PARCELS}`,
  );
  const before = new Map<string, number>();
  const found: FoundWaiting[] = [];
  let looked = 0;
  for (let last = 0; ; await pause()) {
    const rows = rowsOf<ParcelRow & { topic: number; committedAt: number }>(next.all(last));
    for (const row of rows) {
      const topic = topics.get(row.topic) ?? '';
      const ahead = before.get(topic) ?? 0;
      const waiting = row.count - settledIn(row.places);
      before.set(topic, ahead + waiting);
      looked += waiting;
      if (row.committedAt < from || row.committedAt > until) continue;
      if (!wanted.mayBeIn(row.content.toLowerCase())) continue;
      let place = ahead;
      for (const each of contentOf(row, topic)) {
        if (!('raw' in each) && wanted.matches(namedOf(each)))
          found.push({
            kind: 'waiting',
            ...namedOf(each),
            eventAt: each.at,
            at: row.committedAt,
            topic,
            before: place,
          });
        place += 1;
      }
    }
    if (found.length > limit) found.splice(0, found.length - limit);
    if (rows.length < PARCELS) return { found, looked };
    last = rows.at(-1)?.id ?? last;
  }
}

/** Returns the newest `limit` dead letters, newest first. */
export async function findLetters(
  database: DatabaseSync,
  { wanted, limit, from, until, pause }: Search,
): Promise<FoundLetter[]> {
  const next = database.prepare(
    `SELECT id, event_id AS "eventId", topic_arn AS topic, reason, died_at AS at, replay, content FROM dead_letter
      WHERE id < ? ORDER BY id DESC LIMIT ${LETTERS}`,
  );
  const found: FoundLetter[] = [];
  for (let last = Number.MAX_SAFE_INTEGER; ; await pause()) {
    const rows = rowsOf<LetterRow>(next.all(last));
    for (const { id, eventId, topic, reason, at, replay, content } of rows) {
      if (at < from || at > until || !wanted.mayBeIn(`${eventId}\n${content}`.toLowerCase())) continue;
      const named = { eventId, ...contentNames(content) };
      if (!wanted.matches(named)) continue;
      const rest = { id, topic: topic ?? undefined, reason, at, replayRequested: replay === 1 };
      if (found.push({ kind: 'letter', ...named, ...rest }) === limit) return found;
    }
    if (rows.length < LETTERS) return found;
    last = rows.at(-1)?.id ?? 0;
  }
}

interface LetterRow {
  readonly id: number;
  readonly eventId: string;
  readonly topic: string | null;
  readonly reason: string;
  readonly at: number;
  readonly replay: number;
  readonly content: string;
}

const namedOf = ({ eventId, names, orderKey }: Notification): Named => ({ eventId, names: names ?? [orderKey] });

/** The names and time of a dead letter's event, which may be any input. */
function contentNames(json: string): Pick<FoundLetter, 'names' | 'eventAt'> {
  const { notification, event } = (JSON.parse(json) ?? {}) as {
    notification?: Notification;
    event?: Readonly<Record<string, unknown>> | null;
  };
  if (notification) return { names: namedOf(notification).names, eventAt: notification.at };
  return letterNames(event);
}

/** The names and time of an event that may be malformed. */
export function letterNames(event: unknown): Pick<FoundLetter, 'names' | 'eventAt'> {
  const { jid, from, to, stanza_id, at } = (typeof event === 'object' && event !== null ? event : {}) as Record<
    string,
    unknown
  >;
  const names = [jid, from, to, stanza_id].filter((name): name is string => typeof name === 'string');
  return { names, eventAt: typeof at === 'number' ? at : undefined };
}

function settledIn(places: Uint8Array | null): number {
  let count = 0;
  for (let byte of places ?? []) for (; byte > 0; byte &= byte - 1) count += 1;
  return count;
}
