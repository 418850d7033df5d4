/** What the embedded outbox asks of its file beside the notifications themselves; `schema.ts` has the tables. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

export type Statements = Record<
  'insertTopic' | 'topicId' | 'changeDepth' | 'countDeadLetters' | 'deleteDeadLetter' | 'pageCount' | 'freePages',
  StatementSync
>;

export function prepare(database: DatabaseSync): Statements {
  const sql = (text: string) => database.prepare(text);
  return {
    insertTopic: sql('INSERT OR IGNORE INTO topic (arn) VALUES (?)'),
    topicId: sql('SELECT id FROM topic WHERE arn = ?'),
    changeDepth: sql('UPDATE topic SET depth = depth + ? WHERE arn = ?'),
    countDeadLetters: sql('SELECT count(*) AS n FROM dead_letter'),
    deleteDeadLetter: sql('DELETE FROM dead_letter WHERE id = ?'),
    pageCount: sql('PRAGMA page_count'),
    freePages: sql('PRAGMA freelist_count'),
  };
}
