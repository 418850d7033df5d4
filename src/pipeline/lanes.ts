/**
 * The waiting notifications of one topic, in lanes: one for each order key. Only here do they wait in memory.
 *
 * Maintained invariants:
 * - A lane's notifications leave in order, and at most one of them is out at a time. Two of one lane in one batch would
 *   break the order: the sink may accept the second and refuse the first.
 * - A lane is in `#ready` exactly if it has something to send and nothing out.
 * - A lane keeps at most LOADED notifications in memory, and only the numbers of those behind. So a room with a hundred
 *   thousand messages uses neither much memory nor the places of others.
 */
import { costOf, type Stored } from '../outbox/outbox.ts';
import { Fifo } from './fifo.ts';

/** A notification being published. */
export interface Entry {
  readonly notification: Stored;
  readonly lane: Lane;
  /** The next one in its lane. */
  next: Entry | undefined;
  /** How often the sink failed to accept it, for reasons worth a retry. */
  attempts: number;
  /** How many of these failures the notification may have caused. */
  blamed: number;
  /** The request since which the sink has failed for it; undefined if it has not. */
  failingSince: number | undefined;
}

interface Lane {
  key: string;
  /** In memory, as a linked list: most lanes have one notification, and many none. */
  first: Entry | undefined;
  last: Entry | undefined;
  length: number;
  /** Numbers of the notifications after those. */
  readonly parked: Fifo<number>;
  out: boolean;
  fetching: boolean;
}

/** Maximum of a lane's notifications in memory; at half of it more are loaded. */
const LOADED = 64;
/**
 * How many empty lanes are kept: at full load almost every notification empties one, and a sender often sends again.
 * Beyond it, other keys reuse them.
 */
const MOST_EMPTY = 2_000;

export class Lanes {
  readonly #lanes = new Map<string, Lane>();
  readonly #ready = new Fifo<Lane>();
  /** The number of empty lanes, and lanes without a key for reuse. */
  #empty = 0;
  readonly #spare: Lane[] = [];
  #held = 0;
  #parked = 0;

  /** What it holds in memory, including those that are out, in credit. */
  get held(): number {
    return this.#held;
  }

  /** How many it holds by number only. */
  get parked(): number {
    return this.#parked;
  }

  get ready(): boolean {
    return this.#ready.length > 0;
  }

  /** How many lanes can send now. */
  get readyCount(): number {
    return this.#ready.length;
  }

  add(notification: Stored): void {
    const lane = this.#laneFor(notification.orderKey);
    if (lane.parked.length > 0 || lane.length >= LOADED) {
      lane.parked.push(notification.seq);
      this.#parked += 1;
    } else {
      this.#load(lane, notification);
    }
  }

  /**
   * Takes the heads of the lanes that have waited longest: as many as fit, one per lane, at least one if any is ready.
   * Each is out until `settled` or `release` is called for it.
   */
  take(maxEntries: number, maxBytes: number): Entry[] {
    const batch: Entry[] = [];
    let bytes = 0;
    while (batch.length < maxEntries) {
      const entry = this.#ready.peek()?.first;
      if (!entry) break;
      bytes += entry.notification.bytes;
      if (batch.length > 0 && bytes > maxBytes) break;
      this.#ready.shift();
      entry.lane.out = true;
      batch.push(entry);
    }
    return batch;
  }

  /**
   * Entries that were out are settled: their lanes may send the next ones.
   * @returns numbers of notifications to load and pass to `loaded`; mostly none
   */
  settled(entries: readonly Entry[]): number[] {
    const wanted: number[] = [];
    for (const entry of entries) {
      const lane = end(entry);
      lane.first = entry.next;
      lane.length -= 1;
      this.#held -= costOf(entry.notification.bytes);
      if (lane.first) this.#ready.push(lane);
      else {
        // An empty lane must not keep an entry alive.
        lane.last = undefined;
        if (lane.parked.length === 0) this.#empty += 1;
      }
      if (lane.fetching || lane.parked.length === 0 || lane.length > LOADED / 2) continue;
      lane.fetching = true;
      wanted.push(...lane.parked.first(LOADED / 2));
    }
    if (this.#empty > MOST_EMPTY) this.#clear();
    return wanted;
  }

  /** The notifications for the numbers returned by `settled`, in order. */
  loaded(notifications: readonly Stored[]): void {
    for (const notification of notifications) {
      const lane = this.#laneFor(notification.orderKey);
      this.#load(lane, notification);
      lane.parked.shift();
      lane.fetching = false;
      this.#parked -= 1;
    }
  }

  /** An entry that was out may be sent again, before those waiting. */
  release(entry: Entry): void {
    this.#ready.pushFront(end(entry));
  }

  /** Drops notifications that are not out: another daemon sends them. @returns their numbers */
  forget(seqs: ReadonlySet<number>): number[] {
    const forgotten: number[] = [];
    for (const lane of this.#lanes.values()) {
      if (isEmpty(lane)) continue;
      this.#forgetLoaded(lane, seqs, forgotten);
      // Those being loaded arrive soon and are sent as usual.
      if (!lane.fetching)
        lane.parked.retain((seq) => {
          if (!seqs.has(seq)) return true;
          forgotten.push(seq);
          this.#parked -= 1;
          return false;
        });
      if (isEmpty(lane)) this.#empty += 1;
    }
    this.#ready.retain((lane) => lane.first !== undefined);
    return forgotten;
  }

  #forgetLoaded(lane: Lane, seqs: ReadonlySet<number>, forgotten: number[]): void {
    let entry = lane.first;
    const kept: Entry[] = [];
    for (let head = true; entry; entry = entry.next, head = false) {
      if ((head && lane.out) || !seqs.has(entry.notification.seq)) kept.push(entry);
      else {
        forgotten.push(entry.notification.seq);
        this.#held -= costOf(entry.notification.bytes);
      }
    }
    for (const [index, each] of kept.entries()) each.next = kept[index + 1];
    lane.first = kept[0];
    lane.last = kept.at(-1);
    lane.length = kept.length;
  }

  /** The lane of a key, about to be filled. */
  #laneFor(key: string): Lane {
    const known = this.#lanes.get(key);
    if (known) {
      if (isEmpty(known)) this.#empty -= 1;
      return known;
    }
    const lane = this.#spare.pop() ?? createLane();
    lane.key = key;
    this.#lanes.set(key, lane);
    return lane;
  }

  #load(lane: Lane, notification: Stored): void {
    const entry: Entry = { notification, lane, next: undefined, attempts: 0, blamed: 0, failingSince: undefined };
    if (lane.first) (lane.last as Entry).next = entry;
    else lane.first = entry;
    lane.last = entry;
    lane.length += 1;
    this.#held += costOf(notification.bytes);
    if (lane.length === 1) this.#ready.push(lane);
  }

  /** Removes the keys of all empty lanes. */
  #clear(): void {
    for (const lane of this.#lanes.values()) {
      if (!isEmpty(lane)) continue;
      this.#lanes.delete(lane.key);
      this.#spare.push(lane);
    }
    this.#empty = 0;
  }
}

const createLane = (): Lane => ({
  key: '',
  first: undefined,
  last: undefined,
  length: 0,
  parked: new Fifo(),
  out: false,
  fetching: false,
});

const isEmpty = (lane: Lane): boolean => lane.length === 0 && lane.parked.length === 0;

/** Marks an entry as no longer out; returns its lane. */
function end({ lane }: Entry): Lane {
  if (!lane.out) throw new Error(`nothing of ${lane.key} is out: settled or released twice`);
  lane.out = false;
  return lane;
}
