/** The size of the SQLite file's content, and its limit. */
import type { DatabaseSync } from 'node:sqlite';
import { PusherError } from '../../errors.ts';
import { bytes } from '../../format.js';
import { pragma } from './schema.ts';

/** Shortest time between two measurements, in milliseconds: one costs two PRAGMAs. */
const MEASURE_MS = 100;

interface SizeSetup {
  readonly database: DatabaseSync;
  readonly file: string;
  readonly maxBytes: number;
  /** By how much the WAL exceeds its usual size, in bytes. */
  readonly excessLogBytes: () => number;
}

export class Size {
  readonly #setup: SizeSetup;
  readonly #sql;
  readonly pageBytes: number;
  #bytes = 0;
  #measuredAt = 0;

  constructor(setup: SizeSetup) {
    const { database } = setup;
    this.#setup = setup;
    this.#sql = {
      pages: database.prepare('PRAGMA page_count'),
      freePages: database.prepare('PRAGMA freelist_count'),
    };
    this.pageBytes = pragma(database, 'page_size');
  }

  /** The last measured size; between measurements, writes are added and settlements ignored. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds written bytes. */
  wrote(bytes: number): void {
    this.#bytes += bytes;
  }

  /** Measures unless it did so recently. */
  measureSometimes(): void {
    if (performance.now() - this.#measuredAt > MEASURE_MS) this.measure();
  }

  measure(): void {
    this.#measuredAt = performance.now();
    try {
      const free = Number(this.#sql.freePages.get()?.freelist_count);
      const used = (Number(this.#sql.pages.get()?.page_count) - free) * this.pageBytes;
      this.#bytes = used + this.#setup.excessLogBytes();
    } catch {
      // The disk can't be read. Keep the last count; the next read or write reports the failure.
    }
  }

  /** Why nothing more may be kept; undefined if it may. Measures again first, because others delete dead letters. */
  problem(): PusherError | undefined {
    const { file, maxBytes } = this.#setup;
    if (this.#bytes >= maxBytes) this.measure();
    if (this.#bytes < maxBytes) return undefined;
    return new PusherError(
      'OUTBOX_FULL',
      `outbox ${file} is full: it holds ${bytes(this.#bytes)}, outbox.max_bytes is ${bytes(maxBytes)}`,
    );
  }

  /** The size of the file once it has the whole WAL, in bytes. */
  whole(): number {
    try {
      return Number(this.#sql.pages.get()?.page_count) * this.pageBytes;
    } catch {
      return Number.POSITIVE_INFINITY; // Unreadable, so not whole.
    }
  }
}
