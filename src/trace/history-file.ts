/** The history's part of the file: samples of one and of ten minutes, and moments (starts, pauses, reloads …). */
import type { DatabaseSync } from 'node:sqlite';
import { rowsOf } from '../sql.ts';

/** Throughput in a span of time; `at` is its end in milliseconds since the Unix epoch. */
export interface Span {
  readonly at: number;
  /** New events and accepted notifications per second. */
  readonly in: number;
  readonly out: number;
  /** Longest backlog. */
  readonly backlog: number;
  /** Latency from event to sink, in milliseconds: the worst of its samples, null without deliveries. */
  readonly p50: number | null;
  readonly p99: number | null;
}

/** An incident of the daemon, or an operator's action. */
export interface Moment {
  /** When, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** A category: `start`, `stop`, `killed`, `reload`, `paused`, `replay` … */
  readonly kind: string;
  /** Description for people. */
  readonly text: string;
}

export interface History {
  readonly minutes: readonly Span[];
  readonly tens: readonly Span[];
  /** Oldest first. */
  readonly moments: readonly Moment[];
}

export const HISTORY = `
  CREATE TABLE span (
    minutes INTEGER NOT NULL, at INTEGER NOT NULL, in_rate REAL NOT NULL, out_rate REAL NOT NULL, backlog INTEGER NOT NULL,
    p50 REAL, p99 REAL, PRIMARY KEY (minutes, at)
  ) WITHOUT ROWID;
  CREATE TABLE moment (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
`;

const TEN_MS = 600_000;
/** Retention of spans, by their length in minutes, in milliseconds. */
const KEPT_MS = { 1: 24 * 3_600_000, 10: 30 * 86_400_000 } as const;
/** Most moments kept. */
const MOST_MOMENTS = 5_000;

/** Writes a minute and recomputes the ten minutes around it. */
export function addSpan(database: DatabaseSync, { at, in: came, out, backlog, p50, p99 }: Span): void {
  database
    .prepare('INSERT OR REPLACE INTO span VALUES (1, ?, ?, ?, ?, ?, ?)')
    .run(at, came, out, Math.round(backlog), p50, p99);
  const end = Math.ceil(at / TEN_MS) * TEN_MS;
  database
    .prepare(
      `INSERT OR REPLACE INTO span
         SELECT 10, ?, avg(in_rate), avg(out_rate), max(backlog), avg(p50), max(p99) FROM span
          WHERE minutes = 1 AND at > ? AND at <= ?`,
    )
    .run(end, end - TEN_MS, end);
  for (const minutes of [1, 10] as const)
    database.prepare('DELETE FROM span WHERE minutes = ? AND at < ?').run(minutes, at - KEPT_MS[minutes]);
}

export function addMoments(database: DatabaseSync, moments: readonly Moment[]): void {
  const insert = database.prepare('INSERT INTO moment (at, kind, text) VALUES (?, ?, ?)');
  for (const { at, kind, text } of moments) insert.run(at, kind, text);
  database
    .prepare(`DELETE FROM moment WHERE id <= (SELECT max(id) FROM moment) - ${MOST_MOMENTS} OR at < ?`)
    .run(Math.max(...moments.map(({ at }) => at)) - KEPT_MS[10]);
}

export function readHistory(database: DatabaseSync): History {
  const spans = (minutes: number) =>
    rowsOf<Span>(
      database
        .prepare(
          'SELECT at, in_rate AS "in", out_rate AS out, backlog, p50, p99 FROM span WHERE minutes = ? ORDER BY at',
        )
        .all(minutes),
    );
  const moments = rowsOf<Moment>(database.prepare('SELECT at, kind, text FROM moment ORDER BY id').all());
  return { minutes: spans(1), tens: spans(10), moments };
}
