/** The queues of the topics: declared once over each connection, and looked at now and then for what they hold. */
import type { Channel, ChannelModel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import { openChannel } from '../../rabbitmq/connection.ts';
import { explain } from '../../rabbitmq/explain.ts';
import type { Depths } from './depths.ts';
import type { Directory } from './directory.ts';
import { type Names, partitionArguments } from './names.ts';

export interface QueuesOptions {
  readonly names: Names;
  readonly partitions: number;
  /** How many bytes each may hold. */
  readonly maxBytes: number;
  readonly directory: Directory;
  readonly depths: Depths;
  readonly connection: () => ChannelModel | undefined;
  readonly log: Log;
}

export class Queues {
  readonly #options: QueuesOptions;
  /** The topics whose queues are there, over the connection that there is now. */
  #ensured = new Map<string, Promise<void>>();
  #declared = new Set<string>();
  readonly #warned = new Set<string>();
  #polling: Channel | undefined;

  constructor(options: QueuesOptions) {
    this.#options = options;
  }

  /** A topic's queues that are written to. */
  current(topic: string): string[] {
    return this.#of(topic, this.#options.partitions);
  }

  /** All queues of a topic. */
  all(topic: string): string[] {
    const { directory, partitions } = this.#options;
    const counts = new Set([...directory.generations(topic), partitions]);
    return [...counts].flatMap((count) => this.#of(topic, count));
  }

  topics(): string[] {
    return [...new Set([...this.#options.directory.topics, ...this.#ensured.keys()])];
  }

  /** There is another connection, or none: what was declared may be gone. */
  reset(): void {
    this.#ensured = new Map();
    this.#declared = new Set();
    this.#polling = undefined;
  }

  /** Sees to it that a topic's queues are there and in the directory. @throws PusherError OUTBOX_UNUSABLE */
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

  /** A queue was deleted: what it held is lost. */
  gone(queue: string): void {
    this.#declared.delete(queue);
    this.#ensured = new Map();
    this.#options.log.error({ queue }, 'a queue of the outbox was deleted, with what it held; it is declared again');
  }

  /** Declares one queue. Where only its length differs from the configuration, it is used as it is. */
  async declare(queue: string): Promise<void> {
    const { connection, maxBytes, log } = this.#options;
    const current = connection();
    if (!current || this.#declared.has(queue)) return;
    const channel = await openChannel(current);
    try {
      await channel.assertQueue(queue, { durable: true, arguments: partitionArguments(maxBytes) });
      await channel.close();
    } catch (error) {
      const { kind, reason } = explain(error);
      if (kind !== 'different' || !reason.includes("'x-max-length-bytes'")) throw error;
      // Its other arguments are compared first only by chance, so all that can be said is that it is there.
      if (!this.#warned.has(queue))
        log.warn({ queue, problem: reason }, 'a queue was made with another length, which RabbitMQ never changes');
      this.#warned.add(queue);
    }
    this.#declared.add(queue);
  }

  /** Asks how many parcels are ready in each queue. */
  async poll(): Promise<void> {
    const { connection, depths } = this.#options;
    const current = connection();
    if (!current) return;
    try {
      this.#polling ??= await openChannel(current, () => {
        this.#polling = undefined;
      });
      for (const topic of this.topics())
        for (const queue of this.all(topic)) {
          const { messageCount } = await this.#polling.checkQueue(queue);
          depths.polled(queue, messageCount);
        }
    } catch {
      // A queue that is gone, or the connection: whoever uses it says so.
      this.#polling = undefined;
    }
  }

  async #ensure(topic: string): Promise<void> {
    const { directory, partitions } = this.#options;
    try {
      const generations = directory.generations(topic);
      if (generations.at(-1) !== partitions)
        await directory.setGenerations(topic, [...generations.filter((count) => count !== partitions), partitions]);
      await Promise.all(this.current(topic).map((queue) => this.declare(queue)));
    } catch (error) {
      if (error instanceof PusherError) throw error;
      const { reason, advice } = explain(error);
      throw new PusherError('OUTBOX_UNUSABLE', `outbox: RabbitMQ: ${reason}; ${advice}`, error);
    }
  }

  #of(topic: string, count: number): string[] {
    return Array.from({ length: count }, (_, index) => this.#options.names.partition(topic, count, index));
  }
}
