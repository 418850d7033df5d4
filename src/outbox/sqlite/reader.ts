/**
 * Reads waiting notifications from the SQLite file; unreadable ones become dead letters, so that they don't block
 * others.
 */
import type { DatabaseSync } from 'node:sqlite';
import { messageOf } from '../../errors.ts';
import type { Log } from '../../log.ts';
import type { Stored } from '../outbox.ts';
import { insertDeadLetter } from './dead-letters.ts';
import type { Write } from './group-commit.ts';
import type { Found, Parcels, Unreadable } from './parcels.ts';
import { describe } from './schema.ts';
import type { Topics } from './topics.ts';
import { UNREADABLE, unreadableLetter } from './unreadable.ts';

interface ReaderSetup {
  readonly database: DatabaseSync;
  readonly file: string;
  readonly log: Log;
  readonly parcels: Parcels;
  readonly topics: Topics;
  /** Adds a write to the next group; retried until it succeeds. */
  readonly write: (write: Write) => void;
}

export class Reader {
  readonly #setup: ReaderSetup;
  #fault: string | undefined;

  constructor(setup: ReaderSetup) {
    this.#setup = setup;
  }

  /** Why the last read failed; undefined if it did not. */
  get fault(): string | undefined {
    return this.#fault;
  }

  /**
   * Reads a topic's notifications with numbers above `after` and up to `upTo`, in order, until there are `limit` or
   * they cost `credit`.
   */
  read(topic: string, after: number, upTo: number, limit: number, credit: number): Found {
    const { parcels, topics } = this.#setup;
    const found = parcels.read(topic, topics.known(topic), after, upTo, limit, credit);
    this.#bury(topic, found.unreadable);
    return found;
  }

  /** Reads a topic's notifications with these numbers, in order. */
  load(topic: string, seqs: readonly number[]): Stored[] {
    const { parcels, topics } = this.#setup;
    const found = parcels.load(topic, topics.known(topic), seqs);
    this.#bury(topic, found.unreadable);
    return found.notifications;
  }

  /** Records that reading the file failed or, without an error, succeeded. */
  note(error: unknown): void {
    if (error === undefined) {
      this.#fault = undefined;
      return;
    }
    const { file, log } = this.#setup;
    const fault = `outbox ${file} ${describe(error, file)}`;
    if (fault !== this.#fault) log.error({ problem: messageOf(error) }, "can't read the outbox; retrying");
    this.#fault = fault;
  }

  #bury(topic: string, unreadable: readonly Unreadable[]): void {
    if (unreadable.length === 0) return;
    const { database, log, parcels, topics, write } = this.#setup;
    let buried: number[] = [];
    const apply = (now: number) => {
      buried = [];
      for (const { seq, raw } of unreadable) {
        if (!parcels.settle(seq)) continue;
        topics.change(topic, -1);
        insertDeadLetter(database, unreadableLetter(topic, `unreadable/${seq}`, raw), now);
        buried.push(seq);
      }
    };
    const done = () => {
      if (buried.length > 0) log.error({ topic, notifications: buried.length }, UNREADABLE);
    };
    write({ apply, done });
  }
}
