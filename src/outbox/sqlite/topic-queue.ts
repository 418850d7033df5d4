/**
 * What is next of one topic.
 *
 * Maintained invariant: a queue that is not behind holds, in order, every notification of its topic that came to the disk
 * and was not yet taken.
 *
 * The newest notifications are handed on from memory while the topic's publisher keeps up. When it does not (a pause, an
 * outage, a start with a backlog) the queue forgets them and reads from disk until it has caught up.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Stored } from '../outbox.ts';

/** The notifications on disk. */
export interface Shelf {
  /** Those of a topic with numbers above `after` and up to `upTo`, in order, at most `limit`. */
  read(topic: number, after: number, upTo: number, limit: number): Stored[];
  /** The lowest number above `after`, of any topic; undefined when there is none. */
  next(after: number): number | undefined;
  /** The highest number that is on disk. */
  last(): number;
  closed(): boolean;
}

/** How many notifications, and bytes, wait in memory before the queue turns to the disk. */
const MOST = 5_000;
const MOST_BYTES = 16 * 1_048_576;
/** How many rows one read looks at, so that another topic's backlog can't hold the event loop up. */
const READ_WINDOW = 20_000;

export class TopicQueue {
  /** The topic's number in the database. */
  readonly topic: number;
  readonly #shelf: Shelf;
  #behind: boolean;
  /** Last number that was read from disk, while behind. */
  #cursor = 0;
  #waiting: Stored[] = [];
  #bytes = 0;

  /** @param behind whether there may be notifications on disk that were committed before this queue was made */
  constructor(topic: number, shelf: Shelf, behind: boolean) {
    this.topic = topic;
    this.#shelf = shelf;
    this.#behind = behind;
  }

  /** A notification came to the disk. */
  push(notification: Stored): void {
    if (this.#behind) return;
    this.#waiting.push(notification);
    this.#bytes += notification.bytes;
    if (this.#waiting.length > MOST || this.#bytes > MOST_BYTES) this.#turnToDisk((this.#waiting[0]?.seq ?? 1) - 1);
  }

  async take(limit: number): Promise<Stored[]> {
    if (this.#behind) return this.#read(limit);
    const taken = this.#waiting.splice(0, limit);
    for (const { bytes } of taken) this.#bytes -= bytes;
    return taken;
  }

  /** Everything on disk may be taken once more. */
  rewind(): void {
    this.#turnToDisk(0);
  }

  #turnToDisk(cursor: number): void {
    this.#behind = true;
    this.#cursor = cursor;
    this.#waiting = [];
    this.#bytes = 0;
  }

  async #read(limit: number): Promise<Stored[]> {
    while (!this.#shelf.closed()) {
      const last = this.#shelf.last();
      const end = Math.min(this.#cursor + READ_WINDOW, last);
      const found = this.#shelf.read(this.topic, this.#cursor, end, limit);
      this.#cursor = found.length === limit ? (found.at(-1)?.seq ?? end) : end;
      // Nothing can come to the disk between this and the next push: all of it runs in one turn.
      if (this.#cursor >= last) this.#behind = false;
      if (found.length > 0 || !this.#behind) return found;
      this.#cursor = (this.#shelf.next(this.#cursor) ?? last + 1) - 1;
      // A million rows of other topics are looked through in many turns.
      await nextTurn();
    }
    return [];
  }
}
