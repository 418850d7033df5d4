/**
 * Leases: what only one daemon may do at a time, such as move a source's position. A lease is a queue that one connection
 * has for itself, so it ends with that connection, however it ends.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import { closeSoon, openChannel } from '../../rabbitmq/connection.ts';
import { explain } from '../../rabbitmq/explain.ts';
import type { Names } from './names.ts';

export interface LeaseOptions {
  readonly names: Names;
  readonly connection: () => ChannelModel | undefined;
  /** Asks the other daemons for a lease: whoever has it gives it back when it is done with it. */
  readonly ask: (what: string) => void;
}

/** How long another daemon may take to give a lease back, and how often that is looked at, in milliseconds. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 20;

export class Leases {
  readonly #options: LeaseOptions;
  /** What this daemon holds, over which connection. */
  readonly #held = new Map<string, ChannelModel>();

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** Whether it is held over the connection that there is now. */
  has(what: string): boolean {
    const connection = this.#options.connection();
    return connection !== undefined && this.#held.get(what) === connection;
  }

  /** Waits until this daemon has it. @throws PusherError OUTBOX_UNUSABLE */
  async take(what: string): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!this.has(what)) {
      const connection = this.#options.connection();
      if (!connection) throw new PusherError('OUTBOX_UNUSABLE', 'outbox: not connected to RabbitMQ');
      const problem = await this.#try(connection, what);
      if (!problem) continue;
      if (problem.kind !== 'locked' || performance.now() > deadline)
        throw new PusherError('OUTBOX_UNUSABLE', `outbox: RabbitMQ: ${problem.reason}; ${problem.advice}`);
      this.#options.ask(what);
      await sleep(LOOK_MS);
    }
  }

  /** Takes it if it is free now. */
  async tryTake(what: string): Promise<boolean> {
    const connection = this.#options.connection();
    if (connection && !this.has(what)) await this.#try(connection, what);
    return this.has(what);
  }

  /** Gives it back. */
  async release(what: string): Promise<void> {
    const connection = this.#held.get(what);
    this.#held.delete(what);
    if (connection === undefined || connection !== this.#options.connection()) return;
    const channel = await openChannel(connection);
    await channel.deleteQueue(this.#options.names.lease(what));
    closeSoon(channel);
  }

  async #try(connection: ChannelModel, what: string) {
    try {
      const channel = await openChannel(connection);
      await channel.assertQueue(this.#options.names.lease(what), { exclusive: true, durable: false });
      this.#held.set(what, connection);
      closeSoon(channel);
      return undefined;
    } catch (error) {
      return explain(error);
    }
  }
}
