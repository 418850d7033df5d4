/**
 * Consumes one partition over its own channel, because closing the channel is how to give up a partition. (After a
 * `basic.cancel` with unacknowledged deliveries, the next consumer would get new messages before old ones.)
 *
 * Maintained invariants:
 * - A parcel is acknowledged once all its places are settled, and only over the channel that delivered it last.
 * - A parcel redelivered after its channel ended is recognised by its id: nothing of it is handed out twice.
 * - Repeated numbers of a source's epoch are dropped: they come from a batch repeated because its position was not
 *   stored. Replays and baselines are exempt.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ConsumeMessage, Message } from 'amqplib';
import { atMost } from '../../rabbitmq/answers.ts';
import { closeSoon, openChannel } from '../../rabbitmq/connection.ts';
import { type BrokerProblem, explain } from '../../rabbitmq/explain.ts';
import { problemOfFormat } from '../../rabbitmq/format.ts';
import type { NewDeadLetter } from '../dead-letters.ts';
import type { Stored } from '../outbox.ts';
import { UNREADABLE, unreadableLetter } from '../sqlite/unreadable.ts';
import type { Depth } from './depths.ts';
import type { Ground, PartitionMemory } from './ground.ts';
import { countLines, countSettled, END, type InHand, isSettled, readLines, settledPlaces, toStored } from './parcel.ts';

/** Most parcels that a partition remembers. */
const MOST_ACKNOWLEDGED = 128;
/** Delay before a failed channel is reopened, in milliseconds. */
const AGAIN_MS = 500;
/** How often to look for the new number of partitions, at these intervals, after an end marker. */
const END_TRIES = 60;
const EMPTY = Buffer.alloc(0);
const NOTHING: Readonly<Depth> = { parcels: 0, notifications: 0, bytes: 0 };

export class PartitionConsumer {
  readonly queue: string;
  readonly #topic: string;
  readonly #ground: Ground;
  readonly #memory: PartitionMemory;
  readonly #arrived: (parcel: InHand) => void;
  readonly #parcels = new Map<string, InHand>();
  #channel: Channel | undefined;
  /** The end marker of a former queue, once delivered. */
  #end: Pick<Message, 'fields' | 'properties'> | undefined;
  #isFinishing = false;
  /** Serialises opening and closing. */
  #turn: Promise<void> = Promise.resolve();
  #again: NodeJS.Timeout | undefined;
  /**
   * Since when it holds a parcel of a newer release's format, and, unread, all behind it: they stay unacknowledged, so
   * that they return in their order. In milliseconds of `performance.now()`.
   */
  #heldAt: number | undefined;
  /** What was delivered beyond its limit of bytes: left unread, to come again. */
  #unread: Readonly<Depth> = NOTHING;
  readonly #renewal: NodeJS.Timeout;
  #stopped = false;
  /** Why it can't consume now. */
  problem: BrokerProblem | undefined;

  /** @param arrived called with each parcel that may have notifications to hand out */
  constructor(queue: string, topic: string, ground: Ground, arrived: (parcel: InHand) => void) {
    this.queue = queue;
    this.#topic = topic;
    this.#ground = ground;
    this.#arrived = arrived;
    this.#memory = ground.memoryOf(queue);
    this.#renewal = setInterval(() => this.#renewIfDue(), ground.renewMs / 4).unref();
    this.open();
  }

  /** Its parcels in hand, in order. */
  get parcels(): Iterable<InHand> {
    return this.#parcels.values();
  }

  /** Unsettled notifications that were delivered. */
  get inHand(): number {
    let sum = this.#unread.notifications;
    for (const { left } of this.#parcels.values()) sum += left;
    return sum;
  }

  get isOpen(): boolean {
    return this.#channel !== undefined;
  }

  /** Whether it consumes, and got neither a parcel nor the end marker. */
  get isIdle(): boolean {
    const isEmpty = this.#parcels.size === 0 && this.#unread.parcels === 0 && this.#heldAt === undefined;
    return this.isOpen && isEmpty && !this.#end && !this.#isFinishing;
  }

  /** Starts consuming if there is a connection and it hasn't started. */
  open(): void {
    this.#turn = this.#turn.then(() => this.#open());
  }

  /** A parcel's last notification is settled. */
  finished(parcel: InHand): void {
    const { id, delivery } = parcel;
    // Acknowledged at its redelivery; behind the end marker none comes.
    if (this.#channel && (delivery || this.#end)) {
      this.#parcels.delete(id);
      if (delivery) this.#acknowledge(id, delivery);
      this.#endIfEmpty();
    }
    if (this.#unread.parcels > 0 && this.inHand === this.#unread.notifications) this.#renew();
  }

  /** Closes the channel: the broker redelivers unacknowledged parcels to the next consumer, in order. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#again);
    clearInterval(this.#renewal);
    const { settled, depths, gaveBack, stopMs } = this.#ground;
    // What is being opened closes itself.
    await atMost(stopMs, this.#turn);
    const partly = [...this.#parcels.values()].filter(
      ({ left, entries, burying }) => left < entries.length && burying === 0,
    );
    const places = partly.map((parcel) => [parcel.id, settledPlaces(parcel)] as const);
    gaveBack(places);
    const before = { ...depths.of(this.queue) };
    const returned = { ...this.#unread };
    await atMost(stopMs, this.#closeChannel());
    for (const [id, of] of places) settled.set(id, of);
    for (const parcel of this.#parcels.values()) {
      this.#forgetMarks(parcel);
      returned.parcels += 1;
      returned.notifications += parcel.left;
      returned.bytes += parcel.bytes;
    }
    depths.returned(this.queue, returned, before);
    this.#parcels.clear();
  }

  async #open(): Promise<void> {
    const connection = this.#ground.connection();
    if (this.#stopped || this.#channel || !connection) return;
    try {
      await this.#ground.declare(this.queue);
      const channel = await openChannel(connection, (error) => this.#lost(channel, error));
      await channel.prefetch(this.#ground.prefetch);
      if (this.#stopped) return closeSoon(channel);
      this.#heldAt = undefined;
      this.#channel = channel;
      this.problem = undefined;
      await channel.consume(this.queue, (message) => this.#receive(channel, message));
      if (this.#stopped) await this.#closeChannel();
    } catch (error) {
      const problem = explain(error);
      const isMissing = problem.kind === 'missing';
      // A queue of a former number of partitions may have been emptied and deleted already.
      this.problem = isMissing && this.#ground.isFormer(this.queue) ? undefined : problem;
      if (isMissing) this.#ground.missing(this.queue);
      await this.#closeChannel();
      this.#openLater();
    }
  }

  async #closeChannel(): Promise<void> {
    const channel = this.#channel;
    this.#forgetDeliveries();
    // Throws if the channel or connection is closed already, which is the goal anyway.
    await channel?.close().catch(() => undefined);
  }

  /** The broker delivers all of it again. */
  #forgetDeliveries(): void {
    this.#channel = undefined;
    this.#end = undefined;
    for (const parcel of this.#parcels.values()) parcel.delivery = undefined;
    if (this.#unread.parcels > 0) this.#ground.depths.returned(this.queue, this.#unread);
    this.#unread = NOTHING;
  }

  #lost(channel: Channel, error?: Error): void {
    if (this.#channel !== channel) return;
    this.#forgetDeliveries();
    if (error) this.problem = explain(error);
    this.#openLater();
  }

  #openLater(): void {
    if (this.#stopped) return;
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.open(), AGAIN_MS).unref();
  }

  /** RabbitMQ reports no consumer: a queue that was deleted and declared again loses its consumers silently. */
  unconsumed(): void {
    if (this.#channel) this.#renew();
  }

  /** Closes its channel, if it isn't yet; the next one brings again what this one holds. */
  #reopenLater(): void {
    this.#turn = this.#turn.then(() => this.#closeChannel());
    this.#openLater();
  }

  #renew(): void {
    this.#turn = this.#turn.then(() => this.#closeChannel()).then(() => this.#open());
  }

  /** RabbitMQ ends a channel that holds a delivery for longer than its `consumer_timeout`, 30 minutes by default. */
  #renewIfDue(): void {
    const [oldest] = this.#parcels.values();
    const since = oldest?.delivery ? oldest.deliveredAt : this.#heldAt;
    if (this.#channel && since !== undefined && performance.now() - since >= this.#ground.renewMs) this.#renew();
  }

  #receive(channel: Channel, message: ConsumeMessage | null): void {
    if (this.#channel !== channel) return;
    if (!message) {
      // The queue was deleted, or its leader is gone.
      if (!this.#ground.isFormer(this.queue))
        this.problem = {
          kind: 'missing',
          reason: `the queue ${this.queue} was deleted`,
          advice: 'wait: the daemon declares it again',
        };
      this.#reopenLater();
      return;
    }
    const { fields, properties, content } = message;
    // Our messages have an id. A foreign message is treated as a parcel too.
    const id = String(properties.messageId ?? `unknown.${fields.deliveryTag}`);
    const known = this.#parcels.get(id);
    const delivery = { fields, properties };
    if (known) {
      known.delivery = delivery;
      known.deliveredAt = performance.now();
      if (known.left === 0) this.finished(known);
      return;
    }
    if (this.#heldAt !== undefined) return;
    const newer = problemOfFormat(properties.headers, `a parcel in the queue ${this.queue}`);
    if (newer) {
      this.problem = newer;
      this.#heldAt = performance.now();
      this.#ground.log.error({ problem: newer.reason, advice: newer.advice }, 'a partition waits');
      return;
    }
    this.#dropDone();
    if (content.length === END.length && content.toString() === END) {
      this.#end = delivery;
      this.#endIfEmpty();
    } else if (this.#memory.acknowledged.has(id)) this.#acknowledge(id, delivery);
    else if (this.#hasRoom(content.length)) this.#keep(id, delivery, content);
    else this.#leaveUnread(content);
  }

  /** Whether it may keep another parcel: if it is the only one, always. */
  #hasRoom(bytes: number): boolean {
    if (this.#unread.parcels > 0) return false;
    let sum = bytes;
    for (const parcel of this.#parcels.values()) if (parcel.left > 0) sum += parcel.bytes;
    return sum === bytes || sum <= this.#ground.mostBytes();
  }

  /** AMQP limits deliveries by their number only. A renewed channel brings it again, once what came before is settled. */
  #leaveUnread(content: Buffer): void {
    const { parcels, notifications, bytes } = this.#unread;
    const count = countLines(content);
    this.#ground.depths.delivered(this.queue, count, content.length);
    this.#unread = {
      parcels: parcels + 1,
      notifications: notifications + count,
      bytes: bytes + content.length,
    };
  }

  /** Deletes a former queue once everything in it is settled. */
  #endIfEmpty(): void {
    const end = this.#end;
    const channel = this.#channel;
    if (!end || !channel || this.#parcels.size > 0 || this.#unread.parcels > 0) return;
    this.#end = undefined;
    this.#isFinishing = true;
    // If that fails, the marker has to be delivered again, also where the channel is open still.
    this.#finish(channel, end)
      .catch(() => {
        if (this.#channel === channel) this.#reopenLater();
      })
      .finally(() => {
        this.#isFinishing = false;
      });
  }

  async #finish(channel: Channel, end: Pick<Message, 'fields' | 'properties'>): Promise<void> {
    const { isFormer, refresh, log } = this.#ground;
    // The daemon that wrote the marker writes the new number to the directory next, unless it dies before.
    for (let tries = 0; tries < END_TRIES && !isFormer(this.queue); tries++) {
      if (tries > 0) await sleep(AGAIN_MS, undefined, { ref: false });
      await refresh();
    }
    if (this.#channel !== channel) return;
    if (!isFormer(this.queue)) {
      channel.ack({ ...end, content: EMPTY });
      return;
    }
    if (this.#parcels.size > 0) {
      this.#end = end;
      return;
    }
    log.info({ queue: this.queue }, 'deleted an empty queue of the former number of partitions');
    await channel.deleteQueue(this.queue);
  }

  /**
   * Once new parcels come, none comes again that this channel has not brought yet: another daemon had them meanwhile.
   */
  #dropDone(): void {
    for (const parcel of this.#parcels.values())
      if (!parcel.delivery && parcel.left === 0) this.#parcels.delete(parcel.id);
  }

  #keep(id: string, delivery: Pick<Message, 'fields' | 'properties'>, content: Buffer): void {
    const { depths, settled } = this.#ground;
    const { at } = (delivery.properties.headers ?? {}) as { at?: unknown };
    const count = countLines(content);
    depths.delivered(this.queue, count, content.length);
    const parcel: InHand = {
      id,
      queue: this.queue,
      at: typeof at === 'number' ? at : Date.now(),
      bytes: content.length,
      content,
      firstSeq: 0,
      entries: [],
      left: count - countSettled(settled.get(id), count),
      burying: 0,
      handed: 0,
      delivery,
      deliveredAt: performance.now(),
    };
    this.#parcels.set(id, parcel);
    if (parcel.left > 0) this.#arrived(parcel);
    else this.unpack(parcel);
  }

  /** Reads a parcel's notifications, in the order in which parcels came; done with it when there are none. */
  unpack(parcel: InHand): void {
    const { settled, reserve, log, bury } = this.#ground;
    const { id, content } = parcel;
    if (!content) return;
    parcel.content = undefined;
    const before = settled.get(id);
    const letters: NewDeadLetter[] = [];
    let repetitions = 0;
    let left = 0;
    const lines = readLines(content, (text, place) => {
      if (!isSettled(before, place)) letters.push(unreadableLetter(this.#topic, `unreadable/${id}/${place}`, text));
    });
    const firstSeq = reserve(lines.length);
    parcel.firstSeq = firstSeq;
    parcel.entries = lines.map((line, place): Stored | undefined => {
      if (!line) return undefined;
      const [, eventId, , , , numbering] = line;
      if (this.#memory.marks.isRepetition(eventId, numbering)) repetitions += 1;
      else if (!isSettled(before, place)) {
        left += 1;
        return toStored(line, this.#topic, firstSeq + place);
      }
      return undefined;
    });
    parcel.left = left + letters.length;
    parcel.burying = letters.length;
    if (repetitions > 0)
      log.info(
        { queue: this.queue, notifications: repetitions },
        'dropped duplicates from a batch that was sent again',
      );
    if (letters.length > 0) {
      log.error({ topic: this.#topic, notifications: letters.length }, UNREADABLE);
      void bury(letters).then(() => {
        parcel.left -= letters.length;
        parcel.burying = 0;
        if (parcel.left === 0) this.finished(parcel);
      });
    }
    if (parcel.left === 0) this.finished(parcel);
  }

  /** Returned parcels come again and must not count as repetitions. */
  #forgetMarks({ entries }: InHand): void {
    for (const entry of entries) if (entry) this.#memory.marks.forget(entry.eventId);
  }

  #acknowledge(id: string, delivery: Pick<Message, 'fields' | 'properties'>): void {
    const { acknowledged } = this.#memory;
    this.#ground.settled.delete(id);
    acknowledged.add(id);
    const [oldest] = acknowledged.size > MOST_ACKNOWLEDGED ? acknowledged : [];
    if (oldest !== undefined) acknowledged.delete(oldest);
    try {
      this.#channel?.ack({ ...delivery, content: EMPTY });
    } catch {
      // The channel has just ended: the parcel comes again, and is recognised by its id.
    }
  }
}
