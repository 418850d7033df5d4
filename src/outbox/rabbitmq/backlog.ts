/**
 * This daemon's share of a topic's backlog: the consumers of its partitions, and their notifications, handed out in
 * order of arrival.
 *
 * Maintained invariants:
 * - A notification's number leads to its place in a parcel in hand, from being handed out until it is settled.
 * - Notifications of a partition that is given up are settled or recalled before its channel is closed; after the grace
 *   the next daemon may publish again those that are still in open requests here.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Backlog, costOf, type Recall, type Settlement, type Stored } from '../outbox.ts';
import { refusedLetter } from '../refused-letter.ts';
import { PartitionConsumer } from './consumer.ts';
import type { Ground } from './ground.ts';
import { BLOCK, type InHand } from './parcel.ts';

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
  /** Parcels that are handed out, in part or completely, by the blocks of their numbers. */
  readonly #blocks = new Map<number, InHand>();
  /** Numbers in open requests of partitions that were given up. */
  readonly #late = new Set<number>();
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
    return sorted.flatMap((seq) => this.#entryOf(seq) ?? []);
  }

  async settle(settlements: readonly Settlement[]): Promise<void> {
    // Returned parcels can't be settled here any more: another consumer gets them.
    const letters = settlements.flatMap(({ notification, dead }) =>
      dead && (this.#late.has(notification.seq) || this.#entryOf(notification.seq))
        ? refusedLetter(notification, dead)
        : [],
    );
    if (letters.length > 0) await this.#ground.bury(letters);
    for (const { notification } of settlements) this.#settled(notification.seq);
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
    this.#blocks.clear();
    this.#late.clear();
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
      if (this.#credit <= 0) break;
      this.#consumers.get(parcel.queue)?.unpack(parcel);
      while (this.#credit > 0 && parcel.handed < parcel.entries.length) {
        const entry = parcel.entries[parcel.handed++];
        if (!entry) continue;
        this.#credit -= costOf(entry.bytes);
        this.#blocks.set(Math.floor(entry.seq / BLOCK), parcel);
        handed.push(entry);
      }
      if (parcel.handed < parcel.entries.length) break;
      this.#waiting.delete(parcel);
    }
    if (handed.length > 0) this.#take(handed);
  }

  #entryOf(seq: number): Stored | undefined {
    const parcel = this.#blocks.get(Math.floor(seq / BLOCK));
    return parcel?.entries[seq - parcel.firstSeq];
  }

  #settled(seq: number): void {
    if (this.#late.delete(seq)) return;
    const parcel = this.#blocks.get(Math.floor(seq / BLOCK));
    if (!parcel?.entries[seq - parcel.firstSeq]) return;
    parcel.entries[seq - parcel.firstSeq] = undefined;
    parcel.left -= 1;
    if (parcel.left > 0) return;
    this.#forget(parcel);
    for (const consumer of this.consumers) if (consumer.queue === parcel.queue) consumer.finished(parcel);
  }

  #forget({ firstSeq, entries }: InHand): void {
    for (let at = firstSeq; at < firstSeq + entries.length; at += BLOCK) this.#blocks.delete(at / BLOCK);
  }

  /** Gives up a partition: hands out no more of it, lets open requests finish, and closes its channel. */
  async #leave(consumer: PartitionConsumer): Promise<void> {
    const parcels = [...consumer.parcels];
    for (const parcel of parcels) this.#waiting.delete(parcel);
    const handed = parcels.flatMap(({ entries, handed: until }) =>
      entries.slice(0, until).flatMap((entry) => entry?.seq ?? []),
    );
    const recalled = new Set(this.#recall(new Set(handed)));
    const open = () => handed.filter((seq) => !recalled.has(seq) && this.#entryOf(seq));
    const deadline = performance.now() + this.#ground.leaveMs;
    while (open().length > 0 && performance.now() < deadline && !this.#closing) await sleep(50);
    await consumer.stop();
    // What the publisher still has in open requests may become dead letters.
    for (const seq of open()) this.#late.add(seq);
    for (const parcel of parcels) this.#forget(parcel);
  }
}
