/** What the embedded outbox asks of its file and writes to it, as prepared statements; `schema.ts` has the tables. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { MessageAttribute } from '../../notification/lint.ts';
import type { Notification } from '../../notification/notification.ts';
import type { Stored } from '../outbox.ts';

/** A row of `read` and `load`. */
export interface Row {
  seq: number;
  arn: string;
  order_key: string;
  event_id: string;
  at: number;
  message: string;
  attributes: string | null;
  bytes: number;
}

export const toStored = (row: Row): Stored => ({
  seq: row.seq,
  eventId: row.event_id,
  topic: row.arn,
  orderKey: row.order_key,
  at: row.at,
  message: row.message,
  ...unpack(row.attributes),
  bytes: row.bytes,
});

type Packed = Pick<Notification, 'attributes' | 'parameters'>;

/** What few notifications have, in one column: attributes alone as an array, with parameters as an object. */
export function pack({ attributes, parameters }: Packed): string | null {
  if (parameters) return JSON.stringify({ attributes, parameters });
  return attributes.length === 0 ? null : JSON.stringify(attributes);
}

function unpack(column: string | null): Packed {
  if (column === null) return { attributes: [] };
  const value: MessageAttribute[] | Packed = JSON.parse(column);
  return Array.isArray(value) ? { attributes: value } : value;
}

export type Statements = Record<
  | 'insert'
  | 'deleteNotification'
  | 'read'
  | 'load'
  | 'next'
  | 'oldest'
  | 'insertTopic'
  | 'topicId'
  | 'savePosition'
  | 'changeDepth'
  | 'countDeadLetters'
  | 'deleteDeadLetter'
  | 'pageCount'
  | 'freePages',
  StatementSync
>;

const SELECT = `SELECT seq, arn, order_key, event_id, at, message, attributes, bytes
  FROM notification JOIN topic ON topic.id = notification.topic`;

export function prepare(database: DatabaseSync): Statements {
  const sql = (text: string) => database.prepare(text);
  return {
    insert: sql('INSERT INTO notification VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)'),
    deleteNotification: sql('DELETE FROM notification WHERE seq = ?'),
    read: sql(`${SELECT} WHERE seq > ? AND seq <= ? AND topic = ? ORDER BY seq LIMIT ?`),
    load: sql(`${SELECT} WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq`),
    next: sql('SELECT seq FROM notification WHERE seq > ? ORDER BY seq LIMIT 1'),
    oldest: sql('SELECT committed_at FROM notification ORDER BY seq LIMIT 1'),
    insertTopic: sql('INSERT OR IGNORE INTO topic (arn) VALUES (?)'),
    topicId: sql('SELECT id FROM topic WHERE arn = ?'),
    savePosition: sql('INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?, ?)'),
    changeDepth: sql('UPDATE topic SET depth = depth + ? WHERE arn = ?'),
    countDeadLetters: sql('SELECT count(*) AS n FROM dead_letter'),
    deleteDeadLetter: sql('DELETE FROM dead_letter WHERE id = ?'),
    pageCount: sql('PRAGMA page_count'),
    freePages: sql('PRAGMA freelist_count'),
  };
}
