/**
 * Decides when the lines that gather for parcels leave. A parcel costs the same whatever it holds, so at high load the
 * writes of many sources leave together: once what left before is confirmed, with its positions, and its sources had a
 * moment for their next batches. At low load nothing waits.
 */

/** High load: with so many notifications unconfirmed, or in the last departure with several writes. */
const BUSY_NOTIFICATIONS = 64;
/** How long sources get for their next batches, and the longest that a line waits for company, in milliseconds. */
const LINGER_MS = 5;
const LONGEST_MS = 200;

export class Departure {
  readonly #leave: () => void;
  /** Writes and notifications that wait. */
  #waiting = { writes: 0, notifications: 0 };
  /** Unconfirmed parcels of any kind, and notifications in them. */
  #parcels = 0;
  #notifications = 0;
  /** Whether several writes left together last, with many notifications. */
  #crowded = false;
  #soon = false;
  #linger: NodeJS.Timeout | undefined;
  #latest: NodeJS.Timeout | undefined;

  /** @param leave sends what has gathered */
  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** Something new waits. */
  arrived(notifications: number): void {
    this.#waiting.writes += 1;
    this.#waiting.notifications += notifications;
    this.consider();
  }

  /** A parcel was sent. */
  sent(notifications: number): void {
    this.#parcels += 1;
    this.#notifications += notifications;
    clearTimeout(this.#linger);
    this.#linger = undefined;
  }

  /** A parcel was confirmed or refused. */
  answered(notifications: number): void {
    this.#parcels -= 1;
    this.#notifications -= notifications;
    this.consider();
  }

  /** Nothing is unconfirmed or waits any more. */
  reset(): void {
    this.#parcels = 0;
    this.#notifications = 0;
    this.#clear();
  }

  /** Leaves at the end of this turn, or later. What one commit writes to several queues belongs together. */
  consider(): void {
    if (this.#waiting.writes === 0) return;
    if (this.#notifications < BUSY_NOTIFICATIONS && !this.#crowded) {
      if (!this.#soon) queueMicrotask(() => this.#go());
      this.#soon = true;
      return;
    }
    this.#latest ??= setTimeout(() => this.#go(), LONGEST_MS).unref();
    if (this.#parcels === 0) this.#linger ??= setTimeout(() => this.#go(), LINGER_MS).unref();
  }

  #go(): void {
    const { writes, notifications } = this.#waiting;
    this.#crowded = writes > 1 && notifications >= BUSY_NOTIFICATIONS;
    this.#clear();
    this.#leave();
  }

  #clear(): void {
    this.#waiting = { writes: 0, notifications: 0 };
    this.#soon = false;
    clearTimeout(this.#linger);
    clearTimeout(this.#latest);
    this.#linger = undefined;
    this.#latest = undefined;
  }
}
