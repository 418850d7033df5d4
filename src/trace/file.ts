/**
 * The record's file: a separate SQLite database beside the outbox. Records are written as they arrive, several times a
 * second, and later packed into compressed blocks of some thousand records: some 30 bytes each.
 *
 * Maintained invariants:
 * - It holds nothing older than `keepMs` and about `maxBytes` at most: the oldest blocks are deleted.
 * - A kill or a power failure doesn't corrupt it; a power failure loses what was not on disk yet.
 */
import { chmodSync, closeSync, statSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { createPrivate } from '../private-file.ts';
import { rowsOf } from '../sql.ts';
import { HISTORY } from './history-file.ts';

// "xevt" in ASCII: distinguishes our file from other SQLite databases.
const APPLICATION_ID = 0x78657674;
const VERSION = 1;
const LINE_FEED = Buffer.from('\n');
/** Records per block. */
const BLOCK_RECORDS = 4_000;
/** The share of free pages at which the file is shrunk, and the number of pages freed at a time. */
const FREE_SHARE = 0.25;
const VACUUM_PAGES = 1_000;
/** Leaves room for writes until the next check. */
const FULL_SHARE = 0.95;

const TABLES = `
  CREATE TABLE block (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    from_at INTEGER NOT NULL,
    to_at INTEGER NOT NULL,
    records INTEGER NOT NULL,
    packed INTEGER NOT NULL,
    content BLOB NOT NULL
  );
  CREATE INDEX block_loose ON block (id) WHERE packed = 0;
  CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
  ${HISTORY}
`;

export interface TraceLimits {
  /** Retention in milliseconds; 0 disables the record and deletes the old one. */
  readonly keepMs: number;
  /** Size limit of the file, in bytes. */
  readonly maxBytes: number;
}

/** A batch of the record's lines. */
export interface Portion {
  /** UTF-8. */
  readonly content: Uint8Array;
  readonly records: number;
  /** Times of its first and last line. */
  readonly from: number;
  readonly to: number;
}

interface LooseRow {
  readonly id: number;
  readonly fromAt: number;
  readonly toAt: number;
  readonly records: number;
  readonly content: Uint8Array;
}

export interface Coverage {
  /** Start of the record; undefined if there is none. */
  readonly since: number | undefined;
  readonly bytes: number;
}

export class TraceFile {
  readonly database: DatabaseSync;
  readonly #limits: TraceLimits;
  readonly #pageSize: number;
  readonly #sql: Record<
    'insert' | 'loose' | 'removeLoose' | 'older' | 'oldest' | 'removeUpTo' | 'block',
    StatementSync
  >;
  #loose: number;

  /**
   * Opens the file, or creates it (mode 0600).
   * @param now in milliseconds since the Unix epoch; `reading`: changes nothing; the file must exist
   * @throws any error of SQLite or the system
   */
  constructor(file: string, limits: TraceLimits, now: number | 'reading') {
    this.#limits = limits;
    const readOnly = now === 'reading';
    if (!readOnly) prepareFile(file);
    this.database = new DatabaseSync(file, { timeout: 1_000, readOnly });
    try {
      this.#prepareTables(readOnly);
      this.#pageSize = pragma(this.database, 'page_size');
      const sql = (text: string) => this.database.prepare(text);
      this.#sql = {
        insert: sql('INSERT INTO block (from_at, to_at, records, packed, content) VALUES (?, ?, ?, ?, ?)'),
        loose: sql(
          'SELECT id, from_at AS "fromAt", to_at AS "toAt", records, content FROM block WHERE packed = 0 ORDER BY id',
        ),
        removeLoose: sql('DELETE FROM block WHERE packed = 0'),
        older: sql('DELETE FROM block WHERE to_at < ?'),
        oldest: sql(
          'SELECT max(id) AS id, max(to_at) AS "toAt" FROM (SELECT id, to_at FROM block ORDER BY id LIMIT ?)',
        ),
        removeUpTo: sql('DELETE FROM block WHERE id <= ?'),
        block: sql(
          'SELECT id, packed, content FROM block WHERE id < ? AND to_at >= ? AND from_at <= ? ORDER BY id DESC LIMIT 1',
        ),
      };
      this.#loose = Number(sql('SELECT total(records) AS n FROM block WHERE packed = 0').get()?.n);
      if (!readOnly) this.#begin(now);
    } catch (error) {
      this.database.close();
      throw error;
    }
  }

  /** Writes a batch of lines. */
  append({ content, records, from, to }: Portion): void {
    if (records >= BLOCK_RECORDS) {
      this.#sql.insert.run(from, to, records, 1, pack(content));
      return;
    }
    this.#sql.insert.run(from, to, records, 0, content);
    this.#loose += records;
    if (this.#loose >= BLOCK_RECORDS) this.#pack();
  }

  /** Deletes expired blocks, and the oldest ones while the file is too large. */
  prune(now: number): void {
    this.#sql.older.run(now - this.#limits.keepMs);
    for (let bytes = this.#used(); bytes > this.#limits.maxBytes * FULL_SHARE; bytes = this.#used()) {
      // A tenth of the blocks at a time, so that it ends soon after a smaller limit was configured.
      const blocks = Number(this.database.prepare('SELECT count(*) AS n FROM block').get()?.n);
      if (blocks === 0) break;
      const { id, toAt } = this.#sql.oldest.get(Math.ceil(blocks / 10)) ?? {};
      this.#sql.removeUpTo.run(Number(id));
      this.remember('forgotten', Number(toAt));
    }
    const pages = pragma(this.database, 'page_count');
    if (pragma(this.database, 'freelist_count') > pages * FREE_SHARE)
      this.database.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`);
  }

  /**
   * The newest block below a number that overlaps that time; undefined if there is none. Its text is undefined if the
   * block is damaged.
   */
  block(below: number, from: number, until: number): { id: number; text: string | undefined } | undefined {
    const row = this.#sql.block.get(below, from, until);
    return row && { id: Number(row.id), text: textOf(row.content as Uint8Array, row.packed === 1) };
  }

  coverage(now: number): Coverage {
    const begun = this.about('begun');
    const since =
      begun === undefined ? undefined : Math.max(begun, now - this.#limits.keepMs, this.about('forgotten') ?? 0);
    return { since: since === undefined ? undefined : Math.min(since, now), bytes: this.#used() };
  }

  /** Reads a number stored beside the records. */
  about(name: string): number | undefined {
    const value = this.database.prepare('SELECT value FROM about WHERE name = ?').get(name)?.value;
    return value === undefined ? undefined : Number(value);
  }

  /** Stores a number beside the records. */
  remember(name: string, value: number): void {
    this.database.prepare('INSERT OR REPLACE INTO about VALUES (?, ?)').run(name, value);
  }

  forget(name: string): void {
    this.database.prepare('DELETE FROM about WHERE name = ?').run(name);
  }

  close(): void {
    this.database.close();
  }

  /** Starts the record if it is enabled; deletes it otherwise. */
  #begin(now: number): void {
    if (this.#limits.keepMs > 0) {
      if (this.about('begun') === undefined) this.remember('begun', now);
      return;
    }
    this.database.exec("DELETE FROM block; DELETE FROM about WHERE name IN ('begun', 'forgotten')");
    this.#loose = 0;
  }

  #pack(): void {
    const rows = rowsOf<LooseRow>(this.#sql.loose.all());
    const lines = rows.flatMap(({ content }, place) => (place === 0 ? [content] : [LINE_FEED, content]));
    const of = (pick: (row: LooseRow) => number) => rows.map(pick);
    const sum = of(({ records }) => records).reduce((total, records) => total + records, 0);
    this.database.exec('BEGIN');
    try {
      this.#sql.removeLoose.run();
      const [from, to] = [Math.min(...of(({ fromAt }) => fromAt)), Math.max(...of(({ toAt }) => toAt))];
      this.#sql.insert.run(from, to, sum, 1, pack(Buffer.concat(lines)));
      this.database.exec('COMMIT');
      this.#loose = 0;
    } catch (error) {
      if (this.database.isTransaction) this.database.exec('ROLLBACK');
      throw error;
    }
  }

  #used(): number {
    return (pragma(this.database, 'page_count') - pragma(this.database, 'freelist_count')) * this.#pageSize;
  }

  #prepareTables(readOnly: boolean): void {
    const { database } = this;
    // auto_vacuum takes effect only before the first table is created.
    if (!readOnly)
      database.exec('PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
    const version = pragma(database, 'user_version');
    const tables = Number(database.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.n);
    if (version === VERSION && pragma(database, 'application_id') === APPLICATION_ID) return;
    if (tables > 0 || readOnly) throw new ForeignFile(`was written by another program or release (schema ${version})`);
    database.exec(
      `BEGIN; ${TABLES} PRAGMA user_version = ${VERSION}; PRAGMA application_id = ${APPLICATION_ID}; COMMIT`,
    );
  }
}

function prepareFile(file: string): void {
  if (statSync(file, { throwIfNoEntry: false })) chmodSync(file, 0o600);
  else closeSync(createPrivate(file));
}

function textOf(content: Uint8Array, packed: boolean): string | undefined {
  try {
    return (packed ? zstdDecompressSync(content) : Buffer.from(content)).toString();
  } catch {
    return undefined; // The caller counts it.
  }
}

/** The file is intact, but this release can't use it. */
export class ForeignFile extends Error {}

/** Whether the error means that the file is unreadable as a record, so that a new one is needed. */
export function isDamage(error: unknown): boolean {
  const { errcode } = error as { errcode?: number };
  const primary = errcode === undefined ? undefined : errcode & 0xff;
  return error instanceof ForeignFile || primary === 11 || primary === 26;
}

const pragma = (database: DatabaseSync, name: string): number =>
  Number(Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]);

/** The fastest level, without matches so short that finding them takes longer than they save: 0.3 µs per record. */
const pack = (content: Uint8Array): Buffer =>
  zstdCompressSync(content, { params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_minMatch]: 7 } });
