/**
 * Sources in the SQLite file: their positions, and the holes in their numbers.
 *
 * Maintained invariant: `Sources` changes only when the change is on disk, so that no event counts as a duplicate of
 * one that a loss of power could undo.
 */
import type { DatabaseSync } from 'node:sqlite';
import { rowsOf } from '../../sql.ts';
import {
  advance,
  type Hole,
  latestFirst,
  MOST_HOLES,
  outdated,
  type Position,
  type Reached,
  type SourceState,
  type SourceStore,
  stateOf,
} from '../sources.ts';

interface HoleRow extends Omit<Hole, 'first' | 'last'> {
  first: number | null;
  last: number | null;
}

/** The effect of a commit that moved a position. */
export interface Moved {
  readonly position: Position;
  readonly hole: Hole | undefined;
}

/** Writes in a separate transaction: `change` within it, `afterwards` once it is on disk. */
type Change = <T>(change: () => T, afterwards: () => void) => Promise<T>;

/** The sources of an open outbox. */
export class Sources {
  readonly store: SourceStore;
  readonly #sql;
  readonly #positions = new Map<string, Position>();
  /** Unacknowledged holes, newest first. */
  #holes: readonly Hole[];

  constructor(database: DatabaseSync, change: Change) {
    const sql = (text: string) => database.prepare(text);
    this.#sql = {
      save: sql('INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?, ?, ?, ?)'),
      all: sql(
        'SELECT source, epoch, last, holes, missing, heard_at AS "heardAt", newest_at AS "newestAt" FROM source',
      ),
      forget: sql('DELETE FROM source WHERE source = ? AND epoch = ?'),
      add: sql('INSERT INTO hole (source, epoch, first, last, missing, at) VALUES (?, ?, ?, ?, ?, ?)'),
      prune: sql(`DELETE FROM hole WHERE id <= ? - ${MOST_HOLES}`),
    };
    const rows = rowsOf<SourceState & { newestAt: number | null }>(this.#sql.all.all());
    for (const row of rows) this.#positions.set(keyOf(row), { ...row, newestAt: row.newestAt ?? undefined });
    this.#holes = readHoles(database);
    this.store = {
      list: async (limit) => latestFirst(this.states(), limit),
      holes: async () => this.#holes,
      acknowledge: (source) =>
        change(
          () => deleteHoles(database, source),
          () => this.#dropHoles(source),
        ),
      retire: (source) =>
        change(
          () => deleteSource(database, source),
          () => this.#drop(source),
        ),
    };
  }

  position(source: string, epoch: string): Position | undefined {
    return this.#positions.get(keyOf({ source, epoch }));
  }

  states(): SourceState[] {
    return [...this.#positions.values()].map(stateOf);
  }

  get holes(): readonly Hole[] {
    return this.#holes;
  }

  /** Moves a position in the current transaction, and stores the hole before it, if any. */
  move(reached: Reached, now: number): Moved {
    const { source, epoch, last } = reached;
    const { position, hole } = advance(this.position(source, epoch), reached, now);
    const { holes, missing, newestAt } = position;
    this.#sql.save.run(source, epoch, last, holes, missing, now, newestAt ?? null);
    if (!hole) return { position, hole: undefined };
    const { first, last: end } = hole;
    const id = Number(this.#sql.add.run(source, epoch, first ?? null, end ?? null, hole.missing, now).lastInsertRowid);
    this.#sql.prune.run(id);
    return { position, hole: { id, ...hole } };
  }

  /** The moved position is on disk. */
  moved({ position, hole }: Moved): void {
    this.#positions.set(keyOf(position), position);
    if (hole) this.#holes = [hole, ...this.#holes].slice(0, MOST_HOLES);
  }

  /** Forgets ended epochs that are no longer needed. */
  forgetOutdated(now: number): void {
    for (const position of outdated(this.#positions.values(), now)) {
      this.#sql.forget.run(position.source, position.epoch);
      this.#positions.delete(keyOf(position));
    }
  }

  #dropHoles(source?: string): void {
    this.#holes = source === undefined ? [] : this.#holes.filter((hole) => hole.source !== source);
  }

  #drop(source: string): void {
    this.#dropHoles(source);
    for (const [key, position] of this.#positions) if (position.source === source) this.#positions.delete(key);
  }
}

const keyOf = ({ source, epoch }: Pick<Position, 'source' | 'epoch'>): string => `${source}\n${epoch}`;

/** Holes that nobody acknowledged, newest first; none in a file of an earlier release. */
export function readHoles(database: DatabaseSync): Hole[] {
  if (!hasHoles(database)) return [];
  const rows = database.prepare('SELECT id, source, epoch, first, last, missing, at FROM hole ORDER BY id DESC').all();
  return rowsOf<HoleRow>(rows).map((row) => ({
    ...row,
    first: row.first ?? undefined,
    last: row.last ?? undefined,
  }));
}

function deleteHoles(database: DatabaseSync, source?: string): number {
  if (!hasHoles(database)) return 0;
  const where = source === undefined ? '' : 'WHERE source = ?';
  return Number(database.prepare(`DELETE FROM hole ${where}`).run(...(source === undefined ? [] : [source])).changes);
}

function deleteSource(database: DatabaseSync, source: string): boolean {
  deleteHoles(database, source);
  return Number(database.prepare('DELETE FROM source WHERE source = ?').run(source).changes) > 0;
}

const hasHoles = (database: DatabaseSync): boolean =>
  database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'hole'").get() !== undefined;

/** Sources through a connection to the file, for the command line if no daemon runs. */
export const sourcesOn = (database: DatabaseSync): SourceStore => ({
  list: async (limit) =>
    rowsOf<SourceState>(
      database
        .prepare(
          `SELECT source, epoch, last, holes, missing, heard_at AS "heardAt" FROM source ORDER BY heard_at DESC LIMIT ?`,
        )
        .all(limit),
    ),
  holes: async () => readHoles(database),
  acknowledge: async (source) => deleteHoles(database, source),
  retire: async (source) => deleteSource(database, source),
});
