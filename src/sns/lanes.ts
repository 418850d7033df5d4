/**
 * The waiting notifications of one topic, in lanes: one lane for each order key.
 *
 * Maintained invariants:
 * - A lane's notifications leave in the order they came in, and at most one of them is out at a time. Two of one lane in
 *   one batch would not do either: SNS may take the second and refuse the first.
 * - A lane is in `#ready` exactly when it has something to send and nothing out.
 */
import type { Stored } from '../outbox/outbox.ts';
import { Fifo } from './fifo.ts';

/** A notification on its way. */
export interface Entry {
  readonly notification: Stored;
  /** How often SNS was asked and did not take it, for reasons worth another try. */
  attempts: number;
}

interface Lane {
  readonly key: string;
  readonly entries: Fifo<Entry>;
}

export class Lanes {
  readonly #lanes = new Map<string, Lane>();
  readonly #ready = new Fifo<Lane>();
  #size = 0;
  #bytes = 0;

  /** How many notifications it holds, those that are out included. */
  get size(): number {
    return this.#size;
  }

  /** Their size in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether anything can be sent now. */
  get ready(): boolean {
    return this.#ready.length > 0;
  }

  add(notification: Stored): void {
    const { orderKey } = notification;
    let lane = this.#lanes.get(orderKey);
    if (!lane) {
      lane = { key: orderKey, entries: new Fifo() };
      this.#lanes.set(orderKey, lane);
      this.#ready.push(lane);
    }
    lane.entries.push({ notification, attempts: 0 });
    this.#size += 1;
    this.#bytes += notification.bytes;
  }

  /**
   * Takes the heads of the lanes that have waited longest: as many as fit, one of each lane, at least one if any is
   * ready. Each is out until `settled` or `release` is called for it.
   */
  take(maxEntries: number, maxBytes: number): Entry[] {
    const batch: Entry[] = [];
    let bytes = 0;
    while (batch.length < maxEntries) {
      const entry = this.#ready.peek()?.entries.peek();
      if (!entry) break;
      bytes += entry.notification.bytes;
      if (batch.length > 0 && bytes > maxBytes) break;
      this.#ready.shift();
      batch.push(entry);
    }
    return batch;
  }

  /** An entry that was out is done with: its lane may send the next one. */
  settled({ notification }: Entry): void {
    const lane = this.#laneOf(notification);
    lane.entries.shift();
    this.#size -= 1;
    this.#bytes -= notification.bytes;
    if (lane.entries.length > 0) this.#ready.push(lane);
    else this.#lanes.delete(lane.key);
  }

  /** An entry that was out may be sent again, before what waits already. */
  release({ notification }: Entry): void {
    this.#ready.pushFront(this.#laneOf(notification));
  }

  #laneOf({ orderKey }: Stored): Lane {
    const lane = this.#lanes.get(orderKey);
    if (!lane) throw new Error(`no lane for ${orderKey}: settled or released twice`);
    return lane;
  }
}
