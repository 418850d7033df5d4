/**
 * The topics of the SQLite file: their numbers in it, and the size of each backlog.
 *
 * Maintained invariant: `depths` change with the transaction that they mirror; a number is cached once its topic is on
 * disk, because a rollback would leave a number without a topic.
 */
import type { DatabaseSync } from 'node:sqlite';

export class Topics {
  readonly #sql;
  readonly #ids = new Map<string, number>();
  readonly #depths = new Map<string, number>();
  /** The changes of the current transaction. */
  #changes = new Map<string, number>();

  constructor(database: DatabaseSync) {
    const sql = (text: string) => database.prepare(text);
    this.#sql = {
      insert: sql('INSERT OR IGNORE INTO topic (arn) VALUES (?)'),
      id: sql('SELECT id FROM topic WHERE arn = ?'),
      change: sql('UPDATE topic SET depth = depth + ? WHERE arn = ?'),
    };
    for (const { id, arn, depth } of sql('SELECT id, arn, depth FROM topic').all()) {
      this.#ids.set(String(arn), Number(id));
      this.#depths.set(String(arn), Number(depth));
    }
  }

  get depths(): ReadonlyMap<string, number> {
    return this.#depths;
  }

  /** A topic's number; 0 if the file has none. */
  known(topic: string): number {
    return this.#ids.get(topic) ?? 0;
  }

  /** A topic's number in the current transaction, which creates one if necessary. */
  id(topic: string): number {
    const known = this.#ids.get(topic);
    if (known !== undefined) return known;
    this.#sql.insert.run(topic);
    return Number(this.#sql.id.get(topic)?.id);
  }

  /** A topic is on disk under this number. */
  remember(topic: string, id: number): void {
    this.#ids.set(topic, id);
  }

  begin(): void {
    this.#changes = new Map();
  }

  /** Changes a topic's depth in the current transaction. */
  change(topic: string, by: number): void {
    this.#changes.set(topic, (this.#changes.get(topic) ?? 0) + by);
  }

  /** Writes the transaction's changes. */
  write(): void {
    for (const [topic, by] of this.#changes) this.#sql.change.run(by, topic);
  }

  committed(): void {
    for (const [topic, by] of this.#changes) this.#depths.set(topic, (this.#depths.get(topic) ?? 0) + by);
  }
}
