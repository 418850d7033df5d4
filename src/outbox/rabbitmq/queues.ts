/** The topics' queues: declared once over each connection, and polled for their depths. */
import type { Channel, ChannelModel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import { closeSoon, openChannel } from '../../rabbitmq/connection.ts';
import { explain } from '../../rabbitmq/explain.ts';
import type { PartitionConsumer } from './consumer.ts';
import type { Depths } from './depths.ts';
import type { Directory } from './directory.ts';
import { type Names, partitionArguments } from './names.ts';
import { END } from './parcel.ts';

export interface QueuesOptions {
  readonly names: Names;
  readonly partitions: number;
  /** Size limit of each, in bytes. */
  readonly maxBytes: number;
  readonly directory: Directory;
  readonly depths: Depths;
  readonly connection: () => ChannelModel | undefined;
  /** This daemon's consumers of a queue. */
  readonly consumers: (queue: string) => readonly Pick<PartitionConsumer, 'isIdle' | 'unconsumed'>[];
  /** The set of queues, or of those that are read, has changed. */
  readonly changed: () => void;
  readonly write: (queue: string, lines: readonly string[]) => Promise<void>;
  readonly log: Log;
}

/** Delay before a deleted queue is declared again, in milliseconds. */
const DELETED_MS = 1_000;
/** After so many polls an empty former queue gets another end marker. */
const IDLE_POLLS = 3;
/** Timeout of a poll, after which the next one may begin, in milliseconds. */
const POLL_PATIENCE_MS = 3_000;

export class Queues {
  readonly #options: QueuesOptions;
  /** The topics whose queues were declared over the current connection. */
  #ensured = new Map<string, Promise<void>>();
  #declared = new Set<string>();
  readonly #declaring = new Map<string, Promise<void>>();
  /** Queues whose consumers wait until they are declared. */
  readonly #wanted = new Map<string, PromiseWithResolvers<void>>();
  readonly #problems = new Map<string, string>();
  readonly #warned = new Set<string>();
  /** How many polls in a row found each former queue empty and without an end marker. */
  readonly #idle = new Map<string, number>();
  /** When each queue was found deleted. */
  readonly #deletedAt = new Map<string, number>();
  /** Cache of names by topic and number of partitions, because each is a hash. */
  readonly #names = new Map<string, Map<number, readonly string[]>>();
  /** The last poll: what it answers must not be counted beside what changes meanwhile. */
  polling: Promise<void> = Promise.resolve();
  /** Deadline of the last poll, in milliseconds of `performance.now()`. */
  #pollingUntil = 0;

  constructor(options: QueuesOptions) {
    this.#options = options;
  }

  /** A topic's queues that are written to. */
  current(topic: string): readonly string[] {
    return this.#of(topic, this.#options.partitions);
  }

  /** All queues of a topic. */
  all(topic: string): string[] {
    return this.#options.directory.generations(topic).flatMap((count) => this.#of(topic, count));
  }

  /** The queues of a topic that are read from: those of a former number of partitions first, until they are empty. */
  readable(topic: string): readonly string[] {
    const [oldest] = this.#options.directory.generations(topic);
    return oldest === undefined ? [] : this.#of(topic, oldest);
  }

  /** Whether a queue gets no new messages. */
  isFormer(queue: string): boolean {
    const { directory } = this.#options;
    return directory.topics.some((topic) =>
      directory
        .generations(topic)
        .slice(0, -1)
        .some((count) => this.#of(topic, count).includes(queue)),
    );
  }

  topics(): string[] {
    return [...new Set([...this.#options.directory.topics, ...this.#ensured.keys()])];
  }

  /** Why a topic's queues can't be had at the moment; undefined when all can. */
  get problem(): string | undefined {
    const [problem] = this.#problems.values();
    return problem;
  }

  /** The connection changed or is lost: declared queues may be gone. */
  reset(): void {
    this.#idle.clear();
    this.#ensured = new Map();
    this.#declared = new Set();
    this.#pollingUntil = 0;
  }

  /** Ensures that a topic's queues exist and are in the directory. @throws PusherError OUTBOX_UNUSABLE */
  ensure(topic: string): Promise<void> {
    const known = this.#ensured.get(topic);
    if (known) return known;
    const ensured = this.#ensured;
    const ensuring = this.#ensure(topic).catch((error: unknown) => {
      ensured.delete(topic);
      throw error;
    });
    ensured.set(topic, ensuring);
    return ensuring;
  }

  /**
   * A queue was deleted, and its content lost. It is declared again only after its consumers were notified: RabbitMQ
   * 3.10 would count them as consumers of the new one, and they would get nothing.
   */
  gone(queue: string): void {
    this.#declared.delete(queue);
    if (this.isFormer(queue)) return;
    this.#ensured = new Map();
    this.#deletedAt.set(queue, performance.now());
    this.#unconsumed(queue);
    this.#options.log.error({ queue }, 'a queue of the outbox was deleted, with its content; declaring it again');
  }

  /** A queue can't be consumed because it is missing: it is declared again before the next try. */
  missing(queue: string): void {
    this.#declared.delete(queue);
  }

  /**
   * Declares one queue, never twice at a time: RabbitMQ 3.10 answers a second declaration before the queue is ready,
   * and closes the connection of a consumer that comes then. A queue that differs only in its length is used as it is.
   */
  declare(queue: string): Promise<void> {
    const known = this.#declaring.get(queue);
    if (known) return known;
    const declaring = this.#declare(queue).finally(() => this.#declaring.delete(queue));
    this.#declaring.set(queue, declaring);
    return declaring;
  }

  /**
   * Declares a queue that is to be consumed. It may be of a former number of partitions, and deleted at any moment by a
   * daemon that knows the new number: declared again, it would never go. So the number must not change meanwhile.
   */
  declareToConsume(queue: string): Promise<void> {
    if (!this.#options.connection() || this.#declared.has(queue)) return Promise.resolve();
    const wanted = this.#wanted.get(queue) ?? Promise.withResolvers<void>();
    this.#wanted.set(queue, wanted);
    if (this.#wanted.size === 1) void this.#declareWanted();
    return wanted.promise;
  }

  /** Declares together what consumers wait for when the directory is read: its lease is held once for all. */
  async #declareWanted(): Promise<void> {
    const take = () => {
      const all = [...this.#wanted];
      this.#wanted.clear();
      return all;
    };
    try {
      await this.#options.directory.read(async () => {
        await Promise.all(take().map(([queue, { resolve, reject }]) => this.declare(queue).then(resolve, reject)));
      });
    } catch (error) {
      for (const [, { reject }] of take()) reject(error);
    }
  }

  async #declare(queue: string): Promise<void> {
    const { connection, maxBytes, log } = this.#options;
    const current = connection();
    if (performance.now() - (this.#deletedAt.get(queue) ?? Number.NEGATIVE_INFINITY) < DELETED_MS)
      throw new PusherError('OUTBOX_UNUSABLE', `outbox: the queue ${queue} was deleted; declaring it again`);
    if (!current || this.#declared.has(queue) || this.isFormer(queue)) return;
    try {
      await declareWith(current, queue, maxBytes);
    } catch (error) {
      const { kind, reason } = explain(error);
      const [, length] = /'x-max-length-bytes'.*but current is (?:the value )?'(\d+)'/.exec(reason) ?? [];
      if (kind !== 'different' || length === undefined) throw error;
      // RabbitMQ reports only the first difference: declared with this length, everything else must match.
      await declareWith(current, queue, Number(length));
      if (!this.#warned.has(queue))
        log.warn(
          { queue, problem: reason },
          'a queue exists with a different length limit, which RabbitMQ never changes',
        );
      this.#warned.add(queue);
    }
    this.#declared.add(queue);
  }

  /**
   * Polls how many parcels are ready in each queue, one poll at a time. RabbitMQ may never answer for a queue that is
   * being deleted, which blocks the channel.
   */
  poll(): void {
    if (performance.now() >= this.#pollingUntil) this.polling = this.#poll();
  }

  async #poll(): Promise<void> {
    const { connection } = this.#options;
    const current = connection();
    if (!current) return;
    this.#pollingUntil = performance.now() + POLL_PATIENCE_MS;
    try {
      const channel = await openChannel(current);
      const late = setTimeout(() => closeSoon(channel), POLL_PATIENCE_MS);
      await this.#ask(channel).finally(() => clearTimeout(late));
      await this.#askFormer();
      closeSoon(channel);
    } catch {
      // The queue or the connection is gone: its users report that.
    } finally {
      this.#pollingUntil = 0;
    }
  }

  async #ask(channel: Channel): Promise<void> {
    const { depths } = this.#options;
    for (const topic of this.topics())
      for (const queue of this.all(topic)) {
        if (this.isFormer(queue)) continue;
        const { messageCount, consumerCount } = await channel.checkQueue(queue);
        depths.polled(queue, messageCount);
        if (consumerCount === 0) this.#unconsumed(queue);
      }
  }

  #unconsumed(queue: string): void {
    for (const consumer of this.#options.consumers(queue)) consumer.unconsumed();
  }

  /** Finds out which queues of former numbers of partitions are gone. */
  async #askFormer(): Promise<void> {
    const { connection, directory, depths, changed, consumers } = this.#options;
    for (const topic of directory.topics)
      for (const count of directory.generations(topic).slice(0, -1)) {
        let gone = 0;
        for (const queue of this.#of(topic, count)) {
          const current = connection();
          if (!current) return;
          const ready = await countReady(current, queue);
          depths.polled(queue, ready ?? 0);
          if (ready === undefined) gone += 1;
          else if (ready === 0 && consumers(queue).some(({ isIdle }) => isIdle)) this.#endAgain(queue);
          else this.#idle.delete(queue);
        }
        if (gone < count) continue;
        await directory.dropGeneration(topic, count);
        changed();
      }
  }

  /**
   * Writes an end marker to an empty former queue that has none: a daemon that got it long before the directory had the
   * new number did not know it for one.
   */
  #endAgain(queue: string): void {
    const polls = (this.#idle.get(queue) ?? 0) + 1;
    this.#idle.set(queue, polls);
    // If it fails, the queue is gone, or the next connection tries again.
    if (polls === IDLE_POLLS) this.#options.write(queue, [END]).catch(() => undefined);
  }

  async #ensure(topic: string): Promise<void> {
    const { directory, partitions, changed } = this.#options;
    try {
      const isNew = () => directory.generations(topic).at(-1) !== partitions;
      if (isNew()) await directory.read();
      // In the directory when they are ready: other daemons consume what stands there.
      await Promise.all(this.current(topic).map((queue) => this.declare(queue)));
      // Last: who reads an end marker waits only so long for the directory to say the same.
      if (isNew()) await this.#end(topic);
      if (isNew()) await directory.addGeneration(topic, partitions);
      // Another daemon may have changed it meanwhile.
      this.#refuseFormer(directory.generations(topic).slice(0, -1));
      this.#problems.delete(topic);
      changed();
    } catch (error) {
      const fault = faultOf(error);
      this.#problems.set(topic, fault.message);
      throw fault;
    }
  }

  /** Writes an end marker to each queue of a topic's former number of partitions. */
  async #end(topic: string): Promise<void> {
    const { directory, partitions, write, log } = this.#options;
    const former = directory.generations(topic);
    this.#refuseFormer(former);
    const last = former.at(-1);
    if (last !== undefined) {
      log.info(
        { topic, before: last, now: partitions },
        'the number of partitions changed: sending what waits in the former queues first',
      );
      await Promise.all(this.#of(topic, last).map((queue) => write(queue, [END])));
    }
  }

  #refuseFormer(former: readonly number[]): void {
    const { partitions } = this.#options;
    if (former.includes(partitions))
      throw new PusherError(
        'OUTBOX_UNUSABLE',
        `outbox: the queues of an earlier change from outbox.partitions = ${partitions} are not empty yet: start with ${former.at(-1)} until they are`,
      );
  }

  #of(topic: string, count: number): readonly string[] {
    const known = this.#names.get(topic)?.get(count);
    if (known) return known;
    const queues = Array.from({ length: count }, (_, index) => this.#options.names.partition(topic, count, index));
    const ofTopic = this.#names.get(topic) ?? new Map<number, readonly string[]>();
    this.#names.set(topic, ofTopic.set(count, queues));
    return queues;
  }
}

async function declareWith(connection: ChannelModel, queue: string, maxBytes: number): Promise<void> {
  const channel = await openChannel(connection);
  await channel.assertQueue(queue, { durable: true, arguments: partitionArguments(maxBytes) });
  closeSoon(channel);
}

/** Parcels ready in a queue; undefined when no queue has that name. */
async function countReady(connection: ChannelModel, queue: string): Promise<number | undefined> {
  const channel = await openChannel(connection);
  try {
    const { messageCount } = await channel.checkQueue(queue);
    closeSoon(channel);
    return messageCount;
  } catch (error) {
    if (explain(error).kind === 'missing') return undefined;
    throw error;
  }
}

function faultOf(error: unknown): PusherError {
  if (error instanceof PusherError) return error;
  const { reason, advice } = explain(error);
  return new PusherError('OUTBOX_UNUSABLE', `outbox: RabbitMQ: ${reason}; ${advice}`, error);
}
