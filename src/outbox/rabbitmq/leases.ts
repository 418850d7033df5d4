/**
 * Leases, for actions that only one daemon may take at a time, such as moving a source's position. A lease is an
 * exclusive queue, so it ends with its connection, however that ends.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel } from 'amqplib';
import { PusherError } from '../../errors.ts';
import { closeSoon, openChannel } from '../../rabbitmq/connection.ts';
import { explain } from '../../rabbitmq/explain.ts';
import { createTurns } from '../turns.ts';
import type { Names } from './names.ts';

export interface LeaseOptions {
  readonly names: Names;
  readonly connection: () => ChannelModel | undefined;
  /** Asks the other daemons for a lease; its holder releases it when it has finished. */
  readonly ask: (what: string) => void;
}

/** How long another daemon may take to release a lease, and the polling interval, in milliseconds. */
const PATIENCE_MS = 10_000;
const LOOK_MS = 20;
/** Delay before a failed release is retried, in milliseconds. */
const AGAIN_MS = 1_000;

export class Leases {
  readonly #options: LeaseOptions;
  /** This daemon's leases and their connections. */
  readonly #held = new Map<string, ChannelModel>();
  /** Declaring and deleting a lease's queue. */
  readonly #turns = createTurns();

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** Whether it is held over the current connection. */
  has(what: string): boolean {
    const connection = this.#options.connection();
    return connection !== undefined && this.#held.get(what) === connection;
  }

  /** Acquires it; waits while another daemon has it. @throws PusherError OUTBOX_UNUSABLE */
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

  /** Acquires it if it is free now. */
  async tryTake(what: string): Promise<boolean> {
    const connection = this.#options.connection();
    if (connection && !this.has(what)) await this.#try(connection, what);
    return this.has(what);
  }

  /** Releases it. */
  async release(what: string): Promise<void> {
    const connection = this.#held.get(what);
    try {
      if (connection === undefined || connection !== this.#options.connection()) return;
      await this.#delete(connection, what);
    } catch (error) {
      if (connection) void this.#deleteLater(connection, what);
      throw error;
    } finally {
      // Not before: whoever acquired it meanwhile would lose it to the deletion, without knowing.
      this.#held.delete(what);
    }
  }

  async #try(connection: ChannelModel, what: string) {
    const leave = await this.#turns(what);
    let channel: Channel | undefined;
    try {
      channel = await openChannel(connection);
      await channel.assertQueue(this.#options.names.lease(what), { exclusive: true, durable: false });
      this.#held.set(what, connection);
      closeSoon(channel);
      return undefined;
    } catch (error) {
      const problem = explain(error);
      // RabbitMQ may declare it late: nobody else would ever get what nobody here knows to hold.
      if (channel && problem.kind !== 'locked') {
        channel.once('close', () => void this.#deleteLater(connection, what));
        closeSoon(channel);
      }
      return problem;
    } finally {
      leave();
    }
  }

  async #delete(connection: ChannelModel, what: string): Promise<void> {
    const channel = await openChannel(connection);
    await channel.deleteQueue(this.#options.names.lease(what));
    closeSoon(channel);
  }

  /** Deletes a lease that its connection may hold unknowingly, however long that takes. */
  async #deleteLater(connection: ChannelModel, what: string): Promise<void> {
    for (let deleted = false; !deleted && connection === this.#options.connection(); ) {
      const leave = await this.#turns(what);
      deleted =
        this.#held.get(what) === connection ||
        (await this.#delete(connection, what).then(
          () => true,
          (error: unknown) => explain(error).kind === 'locked', // Another daemon has it.
        ));
      leave();
      if (!deleted) await sleep(AGAIN_MS, undefined, { ref: false });
    }
  }
}
