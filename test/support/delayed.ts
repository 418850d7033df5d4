/** A connection to RabbitMQ on which a test decides how long things take. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel } from 'amqplib';

/**
 * @param delays how late the next channels open, in milliseconds; the test may add to it
 * @param isLate whether the answer to a declaration comes too late
 */
export const delayed = (connection: ChannelModel, delays: number[], isLate = () => false): ChannelModel =>
  new Proxy(connection, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (name !== 'createChannel' || typeof value !== 'function') return value;
      return async () => {
        await sleep(delays.shift() ?? 0);
        const channel = (await Reflect.apply(value, target, [])) as Channel;
        const declare = channel.assertQueue.bind(channel);
        channel.assertQueue = async (...values) => {
          const answer = await declare(...values);
          if (isLate()) throw new Error('RabbitMQ did not answer within 10 s (assertQueue)');
          return answer;
        };
        return channel;
      };
    },
  });
