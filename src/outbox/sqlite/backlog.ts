/**
 * One topic's backlog in the SQLite file.
 *
 * It is in one of three states:
 * - `live`: everything on disk was sent to the consumer; new commits are sent from memory;
 * - `behind`: there may be more on disk after `#cursor`; it reads as far as the credit allows, and becomes live at the
 *   last number on disk;
 * - `closed`.
 *
 * Maintained invariant: numbers are sent in ascending order, without omitting any of the topic.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { type Backlog, costOf, type Settlement, type Stored } from '../outbox.ts';
import { type Found, PLACES } from './parcels.ts';

/** The notifications on disk. */
export interface Shelf {
  /**
   * Reads a topic's notifications with numbers above `after` and up to `upTo`, in order, until there are `limit` or
   * they cost `credit`.
   */
  read(topic: string, after: number, upTo: number, limit: number, credit: number): Pick<Found, 'notifications' | 'end'>;
  /** Reads a topic's notifications with these numbers, in order. */
  load(topic: string, seqs: readonly number[]): Stored[];
  /** The lowest number above `after`, of any topic; undefined if there is none. */
  next(after: number): number | undefined;
  /** The highest number on disk. */
  last(): number;
  settle(settlements: readonly Settlement[]): Promise<void>;
  /** Records that reading the file failed or, without an error, succeeded. */
  readFailed(error?: unknown): void;
  closed(): boolean;
}

/** Numbers scanned in one read, so that another topic's backlog can't block the event loop: 5,000 parcels. */
const READ_WINDOW = 5_000 * PLACES;
/** Notifications read at a time. */
const READ_LIMIT = 1_000;
/** Delay before reading again a file that could not be read, in milliseconds. */
const READ_PAUSE_MS = 1_000;

export class SqliteBacklog implements Backlog {
  readonly #topic: string;
  readonly #shelf: Shelf;
  readonly #take: (notifications: readonly Stored[]) => void;
  readonly #onClose: () => void;
  #state: 'live' | 'behind' | 'closed' = 'behind';
  #credit = 0;
  /** The last number sent to the consumer, or skipped. */
  #cursor = 0;
  #reading: Promise<void> | undefined;
  readonly #closing = new AbortController();

  constructor(topic: string, shelf: Shelf, take: (notifications: readonly Stored[]) => void, onClose: () => void) {
    this.#topic = topic;
    this.#shelf = shelf;
    this.#take = take;
    this.#onClose = onClose;
  }

  request(credit: number): void {
    this.#credit += credit;
    this.#readOn();
  }

  /** Notifications of the topic reached the disk, in this order. */
  came(notifications: readonly Stored[]): void {
    if (this.#state !== 'live') return;
    const handed = this.#credit > 0 ? this.#hand(notifications) : 0;
    if (handed === notifications.length) return;
    this.#cursor = (notifications[handed] as Stored).seq - 1;
    this.#state = 'behind';
  }

  async load(seqs: readonly number[]): Promise<Stored[]> {
    while (this.#mayRead()) {
      const found = this.#attempt(() => this.#shelf.load(this.#topic, seqs));
      if (found) return found;
      await this.#pause();
    }
    return [];
  }

  settle(settlements: readonly Settlement[]): Promise<void> {
    return this.#shelf.settle(settlements);
  }

  async close(): Promise<void> {
    this.#state = 'closed';
    this.#closing.abort();
    await this.#reading;
    this.#onClose();
  }

  /** Sends as many as the credit allows; returns their number. */
  #hand(notifications: readonly Stored[]): number {
    let count = 0;
    while (count < notifications.length && this.#credit > 0)
      this.#credit -= costOf((notifications[count++] as Stored).bytes);
    this.#take(count === notifications.length ? notifications : notifications.slice(0, count));
    return count;
  }

  #readOn(): void {
    if (this.#reading || this.#state !== 'behind' || this.#credit <= 0 || !this.#mayRead()) return;
    this.#reading = this.#catchUp().finally(() => {
      this.#reading = undefined;
      // The read used up the credit, but more was granted meanwhile.
      this.#readOn();
    });
  }

  async #catchUp(): Promise<void> {
    while (this.#state === 'behind' && this.#credit > 0) {
      // One read per turn of the event loop, so that a million rows don't block it.
      await nextTurn();
      if (!this.#mayRead()) return;
      const found = this.#attempt(() => this.#readWindow());
      if (!found) await this.#pause();
      else if (found.length > 0) {
        const handed = this.#hand(found);
        if (handed === found.length) continue;
        this.#cursor = (found[handed] as Stored).seq - 1;
        this.#state = 'behind';
      }
    }
  }

  /** Reads one window, and moves the cursor and, at the end of the file, the state. */
  #readWindow(): Stored[] {
    const last = this.#shelf.last();
    const upTo = Math.min(this.#cursor + READ_WINDOW, last);
    const { notifications: found, end } = this.#shelf.read(this.#topic, this.#cursor, upTo, READ_LIMIT, this.#credit);
    let cursor = end;
    if (found.length === 0 && cursor < last) cursor = (this.#shelf.next(cursor) ?? last + 1) - 1;
    this.#cursor = cursor;
    // No commit can intervene between reading and sending: both run in one turn.
    if (cursor >= last) this.#state = 'live';
    return found;
  }

  #mayRead(): boolean {
    return this.#state !== 'closed' && !this.#shelf.closed();
  }

  /** Reads; undefined if the disk failed. */
  #attempt<T>(read: () => T): T | undefined {
    try {
      const found = read();
      this.#shelf.readFailed(undefined);
      return found;
    } catch (error) {
      this.#shelf.readFailed(error);
      return undefined;
    }
  }

  /** Waits before it reads a failed disk again; ends at the close. */
  async #pause(): Promise<void> {
    await sleep(READ_PAUSE_MS, undefined, { ref: false, signal: this.#closing.signal }).catch(() => undefined);
  }
}
