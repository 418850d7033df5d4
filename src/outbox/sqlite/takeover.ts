/**
 * Takes over the file of an earlier release: version 0.1.0 had a row for each notification.
 *
 * Maintained invariants:
 * - Only a daemon that holds the lock does this, before it sends anything.
 * - Each portion moves from the old table to the new in one transaction, so the next start continues after a kill. The
 *   order is kept, since all old notifications come before new ones.
 */
import type { DatabaseSync } from 'node:sqlite';
import type { Log } from '../../log.ts';
import { rowsOf } from '../../sql.ts';
import { namesOf } from '../names.ts';
import { insertDeadLetter } from './dead-letters.ts';
import { hasNames, NAMES } from './letter-filter.ts';
import { Parcels } from './parcels.ts';
import { HOLES, PARCELS, pragma, VERSION } from './schema.ts';
import { UNREADABLE, unreadableLetter } from './unreadable.ts';

/** Rows moved at a time. */
const PORTION = 5_000;

/** That release stored only the number of its holes, not their position. */
const TAKE_HOLES = `
  INSERT INTO hole (source, epoch, missing, at)
    SELECT source, epoch, missing, heard_at FROM source WHERE missing > 0 ORDER BY heard_at;
`;

/** A row of the old table. */
interface OldRow {
  seq: number;
  topic: number;
  arn: string | null;
  order_key: string;
  event_id: string;
  at: number;
  committed_at: number;
  message: string;
  attributes: string | null;
  bytes: number;
}

/** Updates a file of an earlier release; does nothing to a current one. */
export function takeOver(database: DatabaseSync, now: number, log: Log): void {
  if (pragma(database, 'user_version') === 1)
    database.exec(`BEGIN IMMEDIATE; ${PARCELS} ${HOLES} ${TAKE_HOLES}
      ALTER TABLE source ADD COLUMN newest_at INTEGER; PRAGMA user_version = ${VERSION}; COMMIT;`);
  if (!hasNames(database)) addNames(database);
  if (!hasOldTable(database)) return;
  const moved = moveAll(database, now, log);
  database.exec('DROP TABLE notification');
  if (moved > 0) log.info({ notifications: moved }, 'converted the outbox of an earlier release');
}

/** Adds the names of users and rooms to existing dead letters. */
function addNames(database: DatabaseSync): void {
  database.exec('BEGIN IMMEDIATE');
  try {
    for (const name of NAMES) database.exec(`ALTER TABLE dead_letter ADD COLUMN ${name} TEXT`);
    const next = database.prepare(`SELECT id, content FROM dead_letter WHERE id > ? ORDER BY id LIMIT ${PORTION}`);
    const update = database.prepare('UPDATE dead_letter SET host = ?, user = ?, room = ? WHERE id = ?');
    for (let rows = next.all(0); rows.length > 0; rows = next.all(Number(rows.at(-1)?.id)))
      for (const { id, content } of rows) {
        const { host = null, user = null, room = null } = namesOf(JSON.parse(String(content)));
        update.run(host, user, room, Number(id));
      }
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

const hasOldTable = (database: DatabaseSync): boolean =>
  database.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'notification'").get() !== undefined;

function moveAll(database: DatabaseSync, now: number, log: Log): number {
  const parcels = new Parcels(database);
  const select = database.prepare(
    `SELECT notification.*, arn FROM notification LEFT JOIN topic ON topic.id = notification.topic ORDER BY seq LIMIT ${PORTION}`,
  );
  const remove = database.prepare('DELETE FROM notification WHERE seq <= ?');
  const died = database.prepare('UPDATE topic SET depth = depth - 1 WHERE id = ?');
  let moved = 0;
  let damaged = 0;
  for (;;) {
    const rows = rowsOf<OldRow>(select.all());
    const [first, last] = [rows[0], rows.at(-1)];
    if (!first || !last) break;
    database.exec('BEGIN IMMEDIATE');
    try {
      parcels.begin();
      for (const row of rows) {
        const attributes = attributesOf(row);
        const topic = row.arn ?? undefined;
        if (attributes && topic !== undefined) {
          const { order_key: orderKey, event_id: eventId, at, message, bytes } = row;
          parcels.add({ topic, orderKey, eventId, at, message, attributes, bytes }, row.topic);
        } else {
          died.run(row.topic);
          insertDeadLetter(database, unreadableLetter(topic, row.event_id, JSON.stringify(row)), now);
          damaged += 1;
        }
      }
      parcels.write(first.committed_at);
      remove.run(last.seq);
      database.exec('COMMIT');
      parcels.committed();
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK');
      throw error;
    }
    moved += rows.length;
  }
  if (damaged > 0) log.error({ notifications: damaged }, UNREADABLE);
  return moved;
}

/** Undefined if they are damaged. */
function attributesOf({ attributes }: OldRow) {
  try {
    const parsed: unknown = attributes === null ? [] : JSON.parse(attributes);
    return Array.isArray(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}
