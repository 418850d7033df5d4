/** Filters of dead letters as SQL, and scanning many of them without blocking other work. */
import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DeadLetterFilter, DeadLetterSort } from '../dead-letters.ts';

/** Dead letters examined or changed in one turn of the event loop, which is shared with events. */
const CHUNK = 500;

/** Columns that files of earlier releases lack until a daemon of this release has run on them. */
export const NAMES: readonly string[] = ['host', 'user', 'room'];

export const SORT_COLUMNS: Readonly<Record<DeadLetterSort, string>> = {
  id: 'id',
  reason: 'reason',
  topic: 'topic_arn',
  host: 'host',
  user: 'user',
  room: 'room',
  attempts: 'attempts',
};

export const hasNames = (database: DatabaseSync): boolean =>
  database.prepare("SELECT 1 FROM pragma_table_info('dead_letter') WHERE name = 'host'").get() !== undefined;

/** The filter as an SQL condition. */
export function condition(
  database: DatabaseSync,
  { ids, reason, topic, match, upToId }: DeadLetterFilter,
): { where: string; values: SQLInputValue[] } {
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
  if (match !== undefined) {
    const names = hasNames(database) ? NAMES : [];
    const texts = ['event_id', 'topic_arn', 'reason', "iif(reason = 'plugin', '', detail)", ...names];
    parts.push(`(${texts.map((text) => `ifnull(${text}, '')`).join(' || char(10) || ')}) LIKE ? ESCAPE '\\'`);
    values.push(`%${match.replace(/[\\%_]/g, '\\$&')}%`);
  }
  return { where: parts.join(' AND '), values };
}

/**
 * Splits the numbers into ranges (exclusive, inclusive) of so many dead letters each, oldest first; gives way to other
 * work in between.
 */
export async function* chunks(
  database: DatabaseSync,
  { ids, upToId = Number.MAX_SAFE_INTEGER }: DeadLetterFilter,
  afterId = 0,
): AsyncGenerator<[after: number, upTo: number]> {
  // Excludes later dead letters, such as those of a failed replay.
  const newest = Number(database.prepare('SELECT ifnull(max(id), 0) AS id FROM dead_letter').get()?.id);
  const last = Math.min(newest, upToId, ...(ids ? [ids.reduce((a, b) => Math.max(a, b), 0)] : []));
  const next = database.prepare(
    `SELECT max(id) AS id FROM (SELECT id FROM dead_letter WHERE id > ? ORDER BY id LIMIT ${CHUNK})`,
  );
  let after = ids ? Math.max(ids.reduce((a, b) => Math.min(a, b), Number.MAX_SAFE_INTEGER) - 1, afterId) : afterId;
  while (after < last) {
    const upTo = next.get(after)?.id;
    if (typeof upTo !== 'number') return;
    yield [after, Math.min(upTo, last)];
    after = upTo;
    await nextTurn();
  }
}
