/** Tests in advance that a broker allows what a program needs. */
import type { Channel } from 'amqplib';
import { blocked, closeConnection, connectOnce, openChannel, openConfirmChannel } from './connection.ts';
import { type BrokerProblem, ExplainedError, explain } from './explain.ts';
import type { TlsSource } from './tls.ts';

/**
 * Connects, then declares, fills, reads and deletes a queue; returns the obstacle, undefined when there is none.
 * @param prefix prefix of the queue's name
 */
export async function probeBroker(url: string, tls: TlsSource, prefix: string): Promise<BrokerProblem | undefined> {
  try {
    const connection = await connectOnce(url, tls, 'xmpp-event-pusher: check');
    try {
      const queue = `${prefix}.check`;
      const arguments_ = { 'x-queue-type': 'quorum', 'x-delivery-limit': 1_000_000_000 };
      const { promise: lost, reject } = Promise.withResolvers<never>();
      lost.catch(() => undefined);
      connection.on('blocked', (reason: string) => reject(new ExplainedError(blocked(reason))));
      const channel = await openConfirmChannel(connection, (error) => reject(error ?? new Error('channel closed')));
      await channel.assertQueue(queue, { durable: true, arguments: arguments_ });
      channel.sendToQueue(queue, Buffer.from('check'), { mandatory: true });
      await Promise.race([channel.waitForConfirms(), lost, late('RabbitMQ does not confirm')]);
      const kept = await returnOften(channel, queue);
      await channel.deleteQueue(queue);
      if (!kept) return DELIVERY_LIMIT;
      const other = await openChannel(connection);
      await other.assertExchange(`${prefix}.daemons`, 'fanout', { durable: true });
    } finally {
      await closeConnection(connection);
    }
    return undefined;
  } catch (error) {
    return explain(error);
  }
}

/** More returns of a message than RabbitMQ 4's default delivery limit of 20. */
const RETURNS = 30;
const DELIVERY_LIMIT: BrokerProblem = {
  kind: 'other',
  reason: 'a policy limits how often a message is delivered (delivery-limit): RabbitMQ would drop what waits for long',
  advice: 'exclude these queues from that policy, or remove its delivery-limit (`rabbitmqctl list_policies` shows it)',
};

/** Takes the message of a queue and returns it; answers whether it is still there after many times. */
async function returnOften(channel: Channel, queue: string): Promise<boolean> {
  for (let time = 0; time < RETURNS; time++) {
    const message = await channel.get(queue);
    if (!message) return false;
    channel.nack(message);
  }
  return (await channel.get(queue, { noAck: true })) !== false;
}

/** How long a confirm may take, in milliseconds. */
const CONFIRM_MS = 10_000;

const late = (what: string): Promise<never> =>
  new Promise((_, reject) => {
    const error = new Error(`${what}: an alarm, or too few of its nodes run`);
    setTimeout(() => reject(error), CONFIRM_MS).unref();
  });
