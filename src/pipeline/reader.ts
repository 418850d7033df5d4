/**
 * Reads one topic's notifications ahead from the outbox into its lanes, so that the publisher seldom waits for the disk.
 *
 * Maintained invariants:
 * - At most one reading ahead is under way, so the lanes get the notifications in the order of the outbox. What is fetched
 *   by number beside it are notifications whose place in their lane is known.
 * - A disk that fails is read again and again: nothing is left out.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import type { Logger } from '../ops/log.ts';
import type { Outbox, Stored } from '../outbox/outbox.ts';
import type { Lanes } from './lanes.ts';

interface ReaderOptions {
  readonly topic: string;
  readonly outbox: Outbox;
  readonly lanes: Lanes;
  readonly log: Logger;
  /** Told when the lanes got something, or may get more. */
  readonly onRead: () => void;
}

/** How many notifications, and bytes, of one topic are held in memory: enough to fill every slot from many lanes. */
const WINDOW = 4_000;
const WINDOW_BYTES = 16 * 1_048_576;
/** Of how many more, which wait behind others of their lane, the numbers are held: 8 bytes each. */
const MOST_PARKED = 1_000_000;
/** How many are taken from the outbox at a time. */
const TAKE = 1_000;
/** How long an outbox that could not be read is left alone, in milliseconds. */
const READ_PAUSE_MS = 1_000;

export class Reader {
  readonly #options: ReaderOptions;
  #reading: Promise<void> | undefined;
  /** Whether the outbox may have more than what was taken. */
  #more = true;
  #stopped = false;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /** Something was committed to the outbox. */
  more(): void {
    this.#more = true;
  }

  /** Reads what comes next, unless it is doing so, the outbox has no more, or enough is in memory. */
  readAhead(): void {
    const { lanes } = this.#options;
    if (this.#reading || this.#stopped || !this.#more) return;
    if (lanes.loaded > WINDOW - TAKE || lanes.bytes > WINDOW_BYTES || lanes.parked > MOST_PARKED) return;
    this.#more = false;
    this.#reading = this.#take();
  }

  /** Reads notifications by the numbers that the lanes want. */
  async fetch(wanted: readonly number[]): Promise<void> {
    const { outbox, lanes } = this.#options;
    lanes.fetched(await this.#read(() => outbox.fetch(wanted)));
  }

  /** Begins nothing more, and waits for what is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#reading;
  }

  async #take(): Promise<void> {
    const { topic, outbox, lanes, onRead } = this.#options;
    const taken = await this.#read(() => outbox.take(topic, TAKE));
    for (const notification of taken) lanes.add(notification);
    if (taken.length === TAKE) {
      // A backlog of few order keys is read far ahead: not all of it in one turn.
      onRead();
      await nextTurn();
    }
    this.#reading = undefined;
    // Or something was committed while it was read.
    this.#more ||= taken.length > 0;
    if (this.#more) onRead();
  }

  /** Reads from the outbox; again and again while the disk fails. Nothing once it is stopped. */
  async #read(read: () => Promise<Stored[]>): Promise<Stored[]> {
    for (;;) {
      try {
        return await read();
      } catch (error) {
        if (this.#stopped) return [];
        this.#options.log.error({ problem: messageOf(error) }, 'the outbox could not be read; tried again in a moment');
        await sleep(READ_PAUSE_MS, undefined, { ref: false });
      }
    }
  }
}
