/** Queues of length 1, which hold a last value. */
import type { Channel, ChannelModel, GetMessage } from 'amqplib';
import { PusherError } from '../../errors.ts';
import { closeSoon, openChannel } from '../../rabbitmq/connection.ts';
import { ExplainedError } from '../../rabbitmq/explain.ts';
import { problemOfFormat } from '../../rabbitmq/format.ts';
import { LAST_VALUE } from './names.ts';

/**
 * Declares such a queue and reads its value; undefined when it is empty. No one else may read or write it meanwhile. A
 * daemon killed while reading may have left two values: the newer one counts.
 * @throws PusherError OUTBOX_UNUSABLE when a newer release wrote it
 */
export async function readLast(connection: ChannelModel, queue: string): Promise<unknown> {
  const channel = await openChannel(connection);
  try {
    const newest = await readNewest(channel, queue);
    // Returns the unacknowledged message to the queue.
    await channel.close();
    return newest;
  } catch (error) {
    // Likewise: otherwise the next reader would find the queue empty. A blocked channel may never answer.
    closeSoon(channel);
    throw error;
  }
}

async function readNewest(channel: Channel, queue: string): Promise<unknown> {
  await channel.assertQueue(queue, { durable: true, arguments: LAST_VALUE });
  const messages: GetMessage[] = [];
  for (let next = await channel.get(queue); next; next = await channel.get(queue)) messages.push(next);
  const newest = messages.toSorted((a, b) => timeOf(b) - timeOf(a))[0];
  const problem = problemOfFormat(newest?.properties.headers, `the value in the queue ${queue}`);
  if (problem) {
    const message = `outbox: RabbitMQ: ${problem.reason}; ${problem.advice}`;
    throw new PusherError('OUTBOX_UNUSABLE', message, new ExplainedError(problem));
  }
  for (const message of messages) if (message !== newest) channel.ack(message);
  return newest ? JSON.parse(newest.content.toString()) : undefined;
}

/** Deletes such a queue. */
export async function deleteLast(connection: ChannelModel, queue: string): Promise<void> {
  const channel = await openChannel(connection);
  await channel.deleteQueue(queue);
  closeSoon(channel);
}

const timeOf = ({ properties }: GetMessage): number => {
  const { at } = (properties.headers ?? {}) as { at?: unknown };
  return typeof at === 'number' ? at : 0;
};
