/**
 * Dead letters in the SQLite file, which a person lists, replays and deletes. A replay is a mark that the daemon acts
 * on.
 */

import type { DatabaseSync } from 'node:sqlite';
import { PusherError } from '../../errors.ts';
import { rowsOf } from '../../sql.ts';
import type {
  DeadContent,
  DeadLetter,
  DeadLetterCount,
  DeadLetterFilter,
  DeadLetterPage,
  DeadLetterQuery,
  DeadLetterStore,
  DeadLetterSummary,
  Names,
  NewDeadLetter,
  OnProgress,
} from '../dead-letters.ts';
import { compareKeys, mergeSorted } from '../letter-order.ts';
import { namesOf } from '../names.ts';
import { chunks, condition, hasNames, NAMES, SORT_COLUMNS } from './letter-filter.ts';

/** All columns except the content, which may be long. */
const SUMMARY = 'id, event_id, topic_arn, reason, detail, attempts, died_at, replay';

interface LetterRow extends Partial<Record<keyof Names, string | null>> {
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
  const { host, user, room } = namesOf(content);
  database
    .prepare(
      `INSERT INTO dead_letter (event_id, topic_arn, reason, detail, attempts, died_at, host, user, room, content)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    )
    .run(
      ...[eventId, topic ?? null, reason, detail, attempts, now],
      ...[host ?? null, user ?? null, room ?? null, JSON.stringify(content)],
    );
}

/** Lists at most `limit` matching dead letters after `afterId`, oldest first. */
export function listDeadLetters(
  database: DatabaseSync,
  filter: DeadLetterFilter,
  limit: number,
  afterId = 0,
): DeadLetter[] {
  const { where, values } = condition(database, filter);
  const rows = database
    .prepare(`SELECT * FROM dead_letter WHERE id > ? AND ${where} ORDER BY id LIMIT ?`)
    .all(afterId, ...values, limit);
  return rowsOf<LetterRow>(rows).map(toDeadLetter);
}

/** The same, giving way to other work if each one has to be examined. */
async function findDeadLetters(
  database: DatabaseSync,
  filter: DeadLetterFilter,
  limit: number,
  afterId = 0,
): Promise<DeadLetter[]> {
  if (filter.match === undefined) return listDeadLetters(database, filter, limit, afterId);
  const { where, values } = condition(database, filter);
  const statement = database.prepare(
    `SELECT * FROM dead_letter NOT INDEXED WHERE id > ? AND id <= ? AND ${where} ORDER BY id LIMIT ?`,
  );
  const found: DeadLetter[] = [];
  for await (const [after, upTo] of chunks(database, filter, afterId)) {
    const rows = statement.all(after, upTo, ...values, limit - found.length);
    found.push(...rowsOf<LetterRow>(rows).map(toDeadLetter));
    if (found.length >= limit) break;
  }
  return found;
}

/**
 * Returns a page in any order. Unless sorted by number, it examines the keys of all matches, giving way to other work.
 */
async function browse(database: DatabaseSync, query: DeadLetterQuery): Promise<DeadLetterPage> {
  const { filter, sort } = query;
  const { ids, total } =
    filter.match === undefined && sort === 'id' ? inOrder(database, query) : await sorted(database, query);
  const rows = rowsOf<LetterRow>(
    database
      .prepare(`SELECT ${SUMMARY} ${hasNames(database) ? ', host, user, room' : ''} FROM dead_letter
      WHERE id IN (SELECT value FROM json_each(?))`)
      .all(JSON.stringify(ids)),
  );
  const found = new Map(rows.map((row) => [row.id, { ...toSummary(row), ...toNames(row) }]));
  return { letters: ids.flatMap((id) => found.get(id) ?? []), total };
}

/** What is collected for a page. */
interface Met {
  readonly id: number;
  readonly key: string | number | null;
}

async function sorted(
  database: DatabaseSync,
  { filter, sort, descending, offset, limit }: DeadLetterQuery,
): Promise<{ ids: number[]; total: number }> {
  const { where, values } = condition(database, filter);
  const key = SORT_COLUMNS[sort];
  const known = hasNames(database) || !NAMES.includes(key);
  const statement = database.prepare(
    `SELECT id, ${known ? key : 'NULL'} AS key FROM dead_letter NOT INDEXED WHERE id > ? AND id <= ? AND ${where}`,
  );
  const direction = descending ? -1 : 1;
  const order = (a: Met, b: Met) => direction * (compareKeys(a.key, b.key) || a.id - b.id);
  let met: Met[] = [];
  let total = 0;
  for await (const [after, upTo] of chunks(database, filter)) {
    const rows = rowsOf<Met>(statement.all(after, upTo, ...values));
    total += rows.length;
    // Kept sorted, so that no turn has to sort all of them.
    met = mergeSorted(met, rows.sort(order), order).slice(0, offset + limit);
  }
  const ids = met.slice(offset, offset + limit);
  return { ids: ids.map(({ id }) => id), total };
}

function inOrder(database: DatabaseSync, { filter, descending, offset, limit }: DeadLetterQuery) {
  const { where, values } = condition(database, filter);
  const rows = database
    .prepare(`SELECT id FROM dead_letter WHERE ${where} ORDER BY id ${descending ? 'DESC' : 'ASC'} LIMIT ? OFFSET ?`)
    .all(...values, limit, offset);
  const total = database.prepare(`SELECT count(*) AS n FROM dead_letter WHERE ${where}`).get(...values)?.n;
  return { ids: rows.map(({ id }) => Number(id)), total: Number(total) };
}

/** Marks matches for replay; returns their number. A daemon that is not running picks them up at its next start. */
export const requestReplay = (database: DatabaseSync, filter: DeadLetterFilter, onProgress?: OnProgress) =>
  change(database, 'UPDATE dead_letter NOT INDEXED SET replay = 1 WHERE replay = 0 AND', filter, onProgress);

/** Deletes matches for good; returns their number. */
export const purgeDeadLetters = (database: DatabaseSync, filter: DeadLetterFilter, onProgress?: OnProgress) =>
  change(database, 'DELETE FROM dead_letter NOT INDEXED WHERE', filter, onProgress);

/** Runs a long change in many short transactions, so that a daemon on the same file can write in between. */
async function change(
  database: DatabaseSync,
  sql: string,
  filter: DeadLetterFilter,
  onProgress?: OnProgress,
): Promise<number> {
  const { where, values } = condition(database, filter);
  const statement = database.prepare(`${sql} id > ? AND id <= ? AND ${where}`);
  let sum = 0;
  for await (const [after, upTo] of chunks(database, filter)) {
    sum += Number(statement.run(after, upTo, ...values).changes);
    onProgress?.(sum);
  }
  return sum;
}

/** Those marked for replay, oldest first, at most `limit`. */
export function replayRequested(database: DatabaseSync, limit: number): DeadLetter[] {
  const rows = database.prepare('SELECT * FROM dead_letter WHERE replay = 1 ORDER BY id LIMIT ?').all(limit);
  return rowsOf<LetterRow>(rows).map(toDeadLetter);
}

/** Dead letters through a connection to the file: the daemon's, or the command line's if no daemon runs. */
export const deadLettersOn = (database: DatabaseSync): Omit<DeadLetterStore, 'put'> => ({
  browse: (query) => browse(database, query),
  find: (filter, limit, afterId) => findDeadLetters(database, filter, limit, afterId),
  read: async (id) => listDeadLetters(database, { ids: [id] }, 1)[0],
  counts: async () => countByReasonAndTopic(database),
  toReplay: async (limit) => replayRequested(database, limit),
  requestReplay: (filter, onProgress) => requestReplay(database, filter, onProgress),
  purge: (filter, onProgress) => purgeDeadLetters(database, filter, onProgress),
});

/** Makes a store refuse calls after its file is closed. */
export function whileOpen<Store extends object>(store: Store, closed: () => boolean): Store {
  const guarded = Object.entries(store).map(([name, run]) => [
    name,
    (...values: unknown[]) => (closed() ? Promise.reject(outboxClosed()) : run(...values)),
  ]);
  return Object.fromEntries(guarded) as Store;
}

const outboxClosed = () => new PusherError('OUTBOX_CLOSED', 'the outbox is closed');

function countByReasonAndTopic(database: DatabaseSync): DeadLetterCount[] {
  const rows = rowsOf<Omit<DeadLetterCount, 'topic'> & { topic: string | null }>(
    database
      .prepare(
        `SELECT reason, topic_arn AS topic, count(*) AS count, sum(replay) AS replaying, max(id) AS "newestId"
         FROM dead_letter GROUP BY reason, topic_arn ORDER BY reason, topic_arn`,
      )
      .all(),
  );
  return rows.map((row) => ({ ...row, topic: row.topic ?? undefined }));
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

const toNames = ({ host, user, room }: LetterRow): Names => ({
  host: host ?? undefined,
  user: user ?? undefined,
  room: room ?? undefined,
});
