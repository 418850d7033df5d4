/**
 * The waiting notifications of one topic, in lanes: one lane for each order key. It is the one place where they wait in
 * memory.
 *
 * Maintained invariants:
 * - A lane's notifications leave in the order they came in, and at most one of them is out at a time. Two of one lane in
 *   one batch would not do either: the sink may take the second and refuse the first.
 * - A lane is in `#ready` exactly when it has something to send and nothing out.
 * - A lane keeps at most LOADED notifications in memory; of those behind it keeps only the numbers. So a room with a
 *   hundred thousand messages to send, one after the other, takes neither memory nor the places of all others.
 */
import { costOf, type Stored } from '../outbox/outbox.ts';
import { Fifo } from './fifo.ts';

/** A notification on its way. */
export interface Entry {
  readonly notification: Stored;
  /** How often the sink was asked and did not take it, for reasons worth another try. */
  attempts: number;
  /** How often of these the notification itself may have been the cause. */
  blamed: number;
  /** The request with which the sink began to fail for it; undefined while it does not. */
  failingSince?: number | undefined;
}

interface Lane {
  key: string;
  readonly entries: Fifo<Entry>;
  /** Numbers of those that come after `entries`. */
  readonly parked: Fifo<number>;
  out: boolean;
  fetching: boolean;
}

/** How many notifications of one lane are in memory at most; at half of it more are fetched. */
const LOADED = 64;
/** How many empty lanes are kept to be used again: at full load one opens and ends with almost every notification. */
const SPARE = 1_000;

export class Lanes {
  readonly #lanes = new Map<string, Lane>();
  readonly #ready = new Fifo<Lane>();
  readonly #spare: Lane[] = [];
  #held = 0;
  #parked = 0;

  /** What it holds in memory, those that are out included, in the credit of a backlog. */
  get held(): number {
    return this.#held;
  }

  /** How many it holds only the numbers of. */
  get parked(): number {
    return this.#parked;
  }

  /** Whether anything can be sent now. */
  get ready(): boolean {
    return this.#ready.length > 0;
  }

  /** How many lanes can send now. */
  get readyCount(): number {
    return this.#ready.length;
  }

  add(notification: Stored): void {
    const lane = this.#lanes.get(notification.orderKey) ?? this.#open(notification.orderKey);
    if (lane.parked.length > 0 || lane.entries.length >= LOADED) {
      lane.parked.push(notification.seq);
      this.#parked += 1;
    } else {
      this.#load(lane, notification);
    }
  }

  /**
   * Takes the heads of the lanes that have waited longest: as many as fit, one of each lane, at least one if any is
   * ready. Each is out until `settled` or `release` is called for it.
   */
  take(maxEntries: number, maxBytes: number): Entry[] {
    const batch: Entry[] = [];
    let bytes = 0;
    while (batch.length < maxEntries) {
      const lane = this.#ready.peek();
      const entry = lane?.entries.peek();
      if (!lane || !entry) break;
      bytes += entry.notification.bytes;
      if (batch.length > 0 && bytes > maxBytes) break;
      this.#ready.shift();
      lane.out = true;
      batch.push(entry);
    }
    return batch;
  }

  /**
   * Entries that were out are done with: their lanes may send the next ones.
   * @returns numbers of notifications to load for these lanes and to hand to `loaded`; mostly none
   */
  settled(entries: readonly Entry[]): number[] {
    const wanted: number[] = [];
    for (const { notification } of entries) {
      const lane = this.#laneOf(notification.orderKey);
      lane.entries.shift();
      lane.out = false;
      this.#held -= costOf(notification.bytes);
      if (lane.entries.length > 0) this.#ready.push(lane);
      else if (lane.parked.length === 0) this.#close(lane);
      if (lane.fetching || lane.parked.length === 0 || lane.entries.length > LOADED / 2) continue;
      lane.fetching = true;
      wanted.push(...lane.parked.first(LOADED / 2));
    }
    return wanted;
  }

  /** The notifications whose numbers `settled` answered, in order. */
  loaded(notifications: readonly Stored[]): void {
    for (const notification of notifications) {
      const lane = this.#laneOf(notification.orderKey);
      lane.parked.shift();
      lane.fetching = false;
      this.#parked -= 1;
      this.#load(lane, notification);
    }
  }

  /** An entry that was out may be sent again, before what waits already. */
  release({ notification }: Entry): void {
    const lane = this.#laneOf(notification.orderKey);
    lane.out = false;
    this.#ready.pushFront(lane);
  }

  #open(key: string): Lane {
    const lane = this.#spare.pop() ?? { key, entries: new Fifo(), parked: new Fifo(), out: false, fetching: false };
    lane.key = key;
    this.#lanes.set(key, lane);
    return lane;
  }

  #close(lane: Lane): void {
    this.#lanes.delete(lane.key);
    if (this.#spare.length < SPARE) this.#spare.push(lane);
  }

  #load(lane: Lane, notification: Stored): void {
    lane.entries.push({ notification, attempts: 0, blamed: 0 });
    this.#held += costOf(notification.bytes);
    if (lane.entries.length === 1 && !lane.out) this.#ready.push(lane);
  }

  #laneOf(key: string): Lane {
    const lane = this.#lanes.get(key);
    if (!lane) throw new Error(`no lane for ${key}: settled or released twice`);
    return lane;
  }
}
