/** A connection to RabbitMQ on which a test decides how long things take. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChannelModel } from 'amqplib';

/** @param delays how late the next channels open, in milliseconds; the test may add to it */
export const delayed = (connection: ChannelModel, delays: number[]): ChannelModel =>
  new Proxy(connection, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (name !== 'createChannel' || typeof value !== 'function') return value;
      return async () => {
        await sleep(delays.shift() ?? 0);
        return Reflect.apply(value, target, []) as unknown;
      };
    },
  });
