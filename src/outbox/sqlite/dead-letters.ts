/** Dead letters in the SQLite file: what a person lists, replays and deletes. A replay is a mark that the daemon acts on. */

import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PusherError } from '../../errors.ts';
import type {
  DeadContent,
  DeadLetter,
  DeadLetterCount,
  DeadLetterFilter,
  DeadLetterStore,
  DeadLetterSummary,
  NewDeadLetter,
  OnProgress,
} from '../dead-letters.ts';

/** How many dead letters the daemon changes in one turn of its event loop, which events share. */
const CHUNK = 1_000;

interface LetterRow {
  id: number;
  event_id: string;
  topic_arn: string | null;
  reason: string;
  detail: string;
  attempts: number;
  died_at: number;
  content: string;
  replay: number;
}

export function insertDeadLetter(database: DatabaseSync, letter: NewDeadLetter, now: number): void {
  const { eventId, topic, reason, detail, attempts, content } = letter;
  database
    .prepare(
      'INSERT INTO dead_letter (event_id, topic_arn, reason, detail, attempts, died_at, content) VALUES (?, ?, ?, ?, ?, ?, ?)',
    )
    .run(eventId, topic ?? null, reason, detail, attempts, now, JSON.stringify(content));
}

/** Dead letters that match, oldest first, from the one after `afterId` on, at most `limit`. */
export function listDeadLetters(
  database: DatabaseSync,
  filter: DeadLetterFilter,
  limit: number,
  afterId = 0,
): DeadLetter[] {
  const { where, values } = condition(filter);
  const rows = database
    .prepare(`SELECT * FROM dead_letter WHERE id > ? AND ${where} ORDER BY id LIMIT ?`)
    .all(afterId, ...values, limit);
  return rows.map((row) => toDeadLetter(row as unknown as LetterRow));
}

/** Marks those that match for replay; answers how many. The daemon takes them up, at its next start if it is not running. */
export const requestReplay = (database: DatabaseSync, filter: DeadLetterFilter, onProgress?: OnProgress) =>
  inChunks(
    database,
    'UPDATE dead_letter SET replay = 1 WHERE id IN (SELECT id FROM dead_letter WHERE replay = 0 AND $where)',
    filter,
    onProgress,
  );

/** Deletes those that match, for good; answers how many. */
export const purgeDeadLetters = (database: DatabaseSync, filter: DeadLetterFilter, onProgress?: OnProgress) =>
  inChunks(
    database,
    'DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE $where)',
    filter,
    onProgress,
  );

/** What takes long is done in many short transactions, so that a daemon on the same file can write in between. */
async function inChunks(
  database: DatabaseSync,
  change: string,
  filter: DeadLetterFilter,
  onProgress?: OnProgress,
): Promise<number> {
  const { where, values } = condition(filter);
  const statement = database.prepare(change.replace('$where', `${where} LIMIT ${CHUNK}`));
  for (let sum = 0; ; await nextTurn()) {
    const changes = Number(statement.run(...values).changes);
    sum += changes;
    onProgress?.(sum);
    if (changes < CHUNK) return sum;
  }
}

/** Those marked for replay, oldest first, at most `limit`. */
export function replayRequested(database: DatabaseSync, limit: number): DeadLetter[] {
  const rows = database.prepare('SELECT * FROM dead_letter WHERE replay = 1 ORDER BY id LIMIT ?').all(limit);
  return rows.map((row) => toDeadLetter(row as unknown as LetterRow));
}

/** Dead letters on a connection to the file: the daemon's own, or the command line's while no daemon runs. */
export const deadLettersOn = (database: DatabaseSync): Omit<DeadLetterStore, 'put'> => ({
  list: async (filter, limit, beforeId) => summarize(database, filter, limit, beforeId),
  find: async (filter, limit, afterId) => listDeadLetters(database, filter, limit, afterId),
  read: async (id) => listDeadLetters(database, { ids: [id] }, 1)[0],
  counts: async () => countByReasonAndTopic(database),
  toReplay: async (limit) => replayRequested(database, limit),
  requestReplay: (filter, onProgress) => requestReplay(database, filter, onProgress),
  purge: (filter, onProgress) => purgeDeadLetters(database, filter, onProgress),
});

/** The same store, which refuses when its file is closed. */
export function whileOpen<Store extends object>(store: Store, closed: () => boolean): Store {
  const guarded = Object.entries(store).map(([name, run]) => [
    name,
    (...values: unknown[]) => (closed() ? Promise.reject(outboxClosed()) : run(...values)),
  ]);
  return Object.fromEntries(guarded) as Store;
}

const outboxClosed = () => new PusherError('OUTBOX_CLOSED', 'the outbox is closed');

function summarize(
  database: DatabaseSync,
  filter: DeadLetterFilter,
  limit: number,
  beforeId = Number.MAX_SAFE_INTEGER,
): DeadLetterSummary[] {
  const { where, values } = condition(filter);
  // The numbers first, which are all in an index: only the rows of one page are read.
  const rows = database
    .prepare(
      `SELECT id, event_id, topic_arn, reason, detail, attempts, died_at, replay FROM dead_letter
        WHERE id IN (SELECT id FROM dead_letter WHERE ${where} AND id < ? ORDER BY id DESC LIMIT ?) ORDER BY id DESC`,
    )
    .all(...values, beforeId, limit);
  return rows.map((row) => toSummary(row as unknown as LetterRow));
}

function countByReasonAndTopic(database: DatabaseSync): DeadLetterCount[] {
  const rows = database
    .prepare(
      `SELECT reason, topic_arn AS topic, count(*) AS count, sum(replay) AS replaying, max(id) AS "newestId"
         FROM dead_letter GROUP BY reason, topic_arn ORDER BY reason, topic_arn`,
    )
    .all() as unknown as (Omit<DeadLetterCount, 'topic'> & { topic: string | null })[];
  return rows.map((row) => ({ ...row, topic: row.topic ?? undefined }));
}

function condition({ ids, reason, topic, upToId }: DeadLetterFilter): { where: string; values: SQLInputValue[] } {
  const parts = ['true'];
  const values: SQLInputValue[] = [];
  if (ids) {
    parts.push('id IN (SELECT value FROM json_each(?))');
    values.push(JSON.stringify(ids));
  }
  if (reason !== undefined) {
    parts.push('reason = ?');
    values.push(reason);
  }
  if (topic !== undefined) {
    parts.push('topic_arn = ?');
    values.push(topic);
  }
  if (upToId !== undefined) {
    parts.push('id <= ?');
    values.push(upToId);
  }
  return { where: parts.join(' AND '), values };
}

const toDeadLetter = (row: LetterRow): DeadLetter => ({ ...toSummary(row), content: toContent(row.content) });

/** Version 0.1.0 wrote a notification's topic as `topicArn`. */
function toContent(json: string): DeadContent {
  const content = JSON.parse(json);
  if (content.kind !== 'notification' || content.notification.topicArn === undefined) return content;
  const { topicArn: topic, ...notification } = content.notification;
  return { kind: 'notification', notification: { ...notification, topic } };
}

const toSummary = (row: Omit<LetterRow, 'content'>): DeadLetterSummary => ({
  id: row.id,
  eventId: row.event_id,
  topic: row.topic_arn ?? undefined,
  reason: row.reason,
  detail: row.detail,
  attempts: row.attempts,
  diedAt: row.died_at,
  replayRequested: row.replay === 1,
});
