/**
 * The queues' depths. RabbitMQ reports how many parcels are ready, not their content: that is counted for parcels which
 * this daemon wrote or read, and otherwise estimated from the last ones.
 */
export interface Depth {
  parcels: number;
  notifications: number;
  bytes: number;
}

interface Known extends Depth {
  /** Size of an average parcel. */
  each: number;
  eachBytes: number;
  /** Polls before this time may miss parcels that went back; on the clock `now`. */
  trustedFrom: number;
}

/** RabbitMQ counts a parcel that goes back to its queue up to this long after its channel is closed, in milliseconds. */
const RETURN_MS = 1_000;

export class Depths {
  readonly #queues = new Map<string, Known>();
  readonly #now: () => number;

  /** @param now a monotonic clock, in milliseconds */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /** What is ready in a queue, so not delivered to any daemon. */
  of(queue: string): Readonly<Depth> {
    return this.#queue(queue);
  }

  /** A parcel is in its queue. */
  written(queue: string, notifications: number, bytes: number): void {
    this.#change(queue, 1, notifications, bytes);
    Object.assign(this.#queue(queue), { each: notifications, eachBytes: bytes });
  }

  /** A parcel was delivered to this daemon. */
  delivered(queue: string, notifications: number, bytes: number): void {
    this.#change(queue, -1, -notifications, -bytes);
    Object.assign(this.#queue(queue), { each: notifications, eachBytes: bytes });
  }

  /**
   * Parcels went back to their queue.
   * @param before what was ready before: a poll may have counted them already
   */
  returned(queue: string, { parcels, notifications, bytes }: Readonly<Depth>, before?: Readonly<Depth>): void {
    const known = this.#queue(queue);
    if (before) Object.assign(known, pick(before));
    if (parcels > 0) known.trustedFrom = this.#now() + RETURN_MS;
    this.#change(queue, parcels, notifications, bytes);
  }

  /** RabbitMQ reports how many parcels are ready. */
  polled(queue: string, ready: number): void {
    const known = this.#queue(queue);
    if (known.parcels === ready || this.#now() < known.trustedFrom) return;
    // Other daemons wrote or read some: assume the known parcels' size, also after a moment without any.
    if (known.parcels > 0) {
      known.each = known.notifications / known.parcels;
      known.eachBytes = known.bytes / known.parcels;
    }
    known.parcels = ready;
    known.notifications = Math.max(ready, Math.round(ready * known.each)) * (ready > 0 ? 1 : 0);
    known.bytes = Math.round(ready * known.eachBytes);
  }

  /** All depths, for use after a restart. */
  entries(): [string, Depth][] {
    return [...this.#queues].map(([queue, depth]) => [queue, pick(depth)]);
  }

  #change(queue: string, parcels: number, notifications: number, bytes: number): void {
    const known = this.#queue(queue);
    known.parcels = Math.max(0, known.parcels + parcels);
    known.notifications = known.parcels === 0 ? 0 : Math.max(known.parcels, known.notifications + notifications);
    known.bytes = known.parcels === 0 ? 0 : Math.max(0, known.bytes + bytes);
  }

  #queue(queue: string): Known {
    const known = this.#queues.get(queue);
    if (known) return known;
    const made = { parcels: 0, notifications: 0, bytes: 0, each: 1, eachBytes: 0, trustedFrom: 0 };
    this.#queues.set(queue, made);
    return made;
  }
}

const pick = ({ parcels, notifications, bytes }: Readonly<Depth>): Depth => ({ parcels, notifications, bytes });
