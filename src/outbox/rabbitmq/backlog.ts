/**
 * This daemon's share of a topic's backlog: the consumers of its partitions, and their notifications, handed out in
 * order of arrival.
 *
 * Maintained invariants:
 * - A notification's number leads to its place in a parcel in hand, until it is settled.
 * - Notifications of a partition that is given up are settled or recalled before its channel is closed; after the grace
 *   the next daemon may publish again those that are still in open requests here.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { NewDeadLetter } from '../dead-letters.ts';
import { type Backlog, costOf, type Recall, type Settlement, type Stored } from '../outbox.ts';
import { type Ground, PartitionConsumer } from './consumer.ts';
import type { InHand, Place } from './parcel.ts';

export class RabbitBacklog implements Backlog {
  readonly topic: string;
  readonly #ground: Ground;
  readonly #take: (notifications: readonly Stored[]) => void;
  readonly #recall: Recall;
  readonly #closed: () => void;
  readonly #consumers = new Map<string, PartitionConsumer>();
  /** Those that are being given up. */
  readonly #leaving = new Map<PartitionConsumer, Promise<void>>();
  /** Parcels that aren't completely handed out. */
  readonly #waiting = new Set<InHand>();
  readonly #places = new Map<number, Place>();
  #credit = 0;
  #handing: NodeJS.Immediate | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    topic: string,
    ground: Ground,
    take: (notifications: readonly Stored[]) => void,
    recall: Recall,
    closed: () => void,
  ) {
    this.topic = topic;
    this.#ground = ground;
    this.#take = take;
    this.#recall = recall;
    this.#closed = closed;
  }

  get consumers(): readonly PartitionConsumer[] {
    return [...this.#consumers.values(), ...this.#leaving.keys()];
  }

  /** Consumes these partitions and gives up all others. Keeps those that it has, but reopens lost channels. */
  own(queues: readonly string[]): void {
    if (this.#closing) return;
    for (const [queue, consumer] of this.#consumers)
      if (!queues.includes(queue)) {
        this.#consumers.delete(queue);
        this.#leaving.set(
          consumer,
          this.#leave(consumer).finally(() => this.#leaving.delete(consumer)),
        );
      }
    for (const queue of queues) {
      const known = this.#consumers.get(queue);
      if (known) known.open();
      else if (![...this.#leaving.keys()].some((consumer) => consumer.queue === queue)) this.#consume(queue);
    }
  }

  request(credit: number): void {
    this.#credit += credit;
    this.#handSoon();
  }

  async load(seqs: readonly number[]): Promise<Stored[]> {
    const sorted = seqs.toSorted((a, b) => a - b);
    return sorted.flatMap((seq) => {
      const place = this.#places.get(seq);
      return place?.parcel.entries[place.index] ?? [];
    });
  }

  async settle(settlements: readonly Settlement[]): Promise<void> {
    // Returned parcels can't be settled here any more: another consumer gets them.
    const open = settlements.filter(({ notification }) => this.#places.has(notification.seq));
    const letters = open.flatMap(({ notification, dead }) => (dead ? [toDeadLetter(notification, dead)] : []));
    if (letters.length > 0) await this.#ground.bury(letters);
    for (const { notification } of open) this.#settled(notification.seq);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearImmediate(this.#handing);
    const stopping = [...this.#consumers.values()].map((consumer) => consumer.stop());
    await Promise.all([...stopping, ...[...this.#leaving.keys()].map((consumer) => consumer.stop())]);
    this.#waiting.clear();
    this.#places.clear();
    this.#closed();
  }

  #consume(queue: string): void {
    const arrived = (parcel: InHand) => this.#arrived(parcel);
    this.#consumers.set(queue, new PartitionConsumer(queue, this.topic, this.#ground, arrived));
  }

  #arrived(parcel: InHand): void {
    // From a partition that is being given up, it returns unchanged.
    if (this.#closing || !this.#consumers.has(parcel.queue)) return;
    this.#waiting.add(parcel);
    this.#handSoon();
  }

  #handSoon(): void {
    if (this.#closing) return;
    this.#handing ??= setImmediate(() => {
      this.#handing = undefined;
      this.#hand();
    });
  }

  #hand(): void {
    const handed: Stored[] = [];
    for (const parcel of this.#waiting) {
      while (this.#credit > 0 && parcel.handed < parcel.entries.length) {
        const index = parcel.handed++;
        const entry = parcel.entries[index];
        if (!entry) continue;
        this.#credit -= costOf(entry.bytes);
        this.#places.set(entry.seq, { parcel, index });
        handed.push(entry);
      }
      if (parcel.handed < parcel.entries.length) break;
      this.#waiting.delete(parcel);
    }
    if (handed.length > 0) this.#take(handed);
  }

  #settled(seq: number): void {
    const place = this.#places.get(seq);
    if (!place || !this.#places.delete(seq)) return;
    const { parcel, index } = place;
    parcel.entries[index] = undefined;
    parcel.left -= 1;
    if (parcel.left > 0) return;
    for (const consumer of this.consumers) if (consumer.queue === parcel.queue) consumer.finished(parcel);
  }

  /** Gives up a partition: hands out no more of it, lets open requests finish, and closes its channel. */
  async #leave(consumer: PartitionConsumer): Promise<void> {
    for (const parcel of consumer.parcels) this.#waiting.delete(parcel);
    const handed = () => [...this.#places].flatMap(([seq, { parcel }]) => (parcel.queue === consumer.queue ? seq : []));
    for (const seq of this.#recall(new Set(handed()))) this.#places.delete(seq);
    const deadline = performance.now() + this.#ground.leaveMs;
    while (handed().length > 0 && performance.now() < deadline && !this.#closing) await sleep(50);
    // Open requests keep their places until the publisher has finished.
    await consumer.stop();
  }
}

const toDeadLetter = (notification: Stored, dead: NonNullable<Settlement['dead']>): NewDeadLetter => {
  const { seq: _, ...content } = notification;
  const { eventId, topic } = notification;
  return { eventId, topic, ...dead, content: { kind: 'notification', notification: content } };
};
