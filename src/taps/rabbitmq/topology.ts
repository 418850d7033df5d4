/**
 * The tap's declarations: MongooseIM's exchanges exactly as it declares them, our queue, and the ledger's.
 *
 * RabbitMQ never changes what exists: a declaration that differs is refused. MongooseIM does not start when an exchange
 * differs from what it wants, and does not declare them again when a broker lost them. So they are declared as
 * configured, with each new connection, and never otherwise.
 */
import type { Channel, ChannelModel } from 'amqplib';
import { openChannel } from '../../rabbitmq/connection.ts';
import { type BrokerProblem, ExplainedError, explain } from '../../rabbitmq/explain.ts';
import { bindingsOf, type Exchange, type Exchanges, exchangesOf } from './exchanges.ts';

export interface Topology {
  readonly queue: string;
  readonly exchanges: Exchanges;
  /** Temporary queues, for a reader that takes nothing from others. */
  readonly temporary?: boolean | undefined;
}

/**
 * A quorum queue that one consumer reads at a time, in order. RabbitMQ 4 would drop messages after twenty deliveries,
 * and 3.10 treats -1, RabbitMQ 4's value for no limit, as no delivery at all.
 */
const QUEUE = {
  durable: true,
  arguments: { 'x-queue-type': 'quorum', 'x-single-active-consumer': true, 'x-delivery-limit': 1_000_000_000 },
};

const TEMPORARY = { durable: false, exclusive: true, autoDelete: true };

/** The ledger's queue, with the counts of sessions. */
export const ledgerOf = (queue: string): string => `${queue}.sessions`;

/** @throws ExplainedError when something is declared differently, or the user lacks a permission */
export async function declare(connection: ChannelModel, { queue, exchanges, temporary }: Topology): Promise<void> {
  for (const name of [ledgerOf(queue), queue])
    await attempt(connection, `queue "${name}"`, (channel) => declareQueue(channel, name, temporary));
  for (const exchange of exchangesOf(exchanges))
    await attempt(connection, `exchange "${exchange.name}"`, (channel) => declareExchange(channel, exchange));
  for (const { exchange, key } of bindingsOf(exchanges))
    await attempt(connection, `binding of the queue "${queue}" to the exchange "${exchange}"`, (channel) =>
      channel.bindQueue(queue, exchange, key),
    );
}

/** Declares one of our queues. */
export const declareQueue = (channel: Channel, name: string, temporary = false) =>
  channel.assertQueue(name, temporary ? TEMPORARY : QUEUE);

/** Declares an exchange as MongooseIM does. */
export const declareExchange = (channel: Channel, { name, type, durable }: Exchange) =>
  channel.assertExchange(name, type, { durable, autoDelete: false });

/** Uses a separate channel each, because RabbitMQ closes the channel of a refused declaration. */
async function attempt(
  connection: ChannelModel,
  what: string,
  act: (channel: Channel) => Promise<unknown>,
): Promise<void> {
  const channel = await openChannel(connection);
  try {
    await act(channel);
  } catch (error) {
    throw new ExplainedError(explainDeclaration(error, what), error);
  }
  await channel.close();
}

/** Explains a refused declaration. */
export function explainDeclaration(error: unknown, what: string): BrokerProblem {
  const problem = explain(error);
  const reason = `${what}: ${problem.reason}`;
  if (problem.kind !== 'different') return { ...problem, reason };
  const advice = what.startsWith('exchange')
    ? 'configure it as in MongooseIM, which does not start while it differs; if both are right, stop MongooseIM, delete the exchange, and start the daemon first'
    : 'set another name as `queue`, or delete that queue when it is empty';
  return { kind: 'different', reason, advice };
}
