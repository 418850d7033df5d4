/** Checks the prerequisites of `[tap.rabbitmq]`, for `check`: connects and compares declarations. Changes nothing. */
import type { Channel, ChannelModel } from 'amqplib';
import { closeConnection, connectOnce, openChannel, shownUrl } from '../../rabbitmq/connection.ts';
import { type BrokerProblem, explain } from '../../rabbitmq/explain.ts';
import { exchangesOf } from './exchanges.ts';
import type { RabbitTapSettings } from './rabbitmq.ts';
import { declareExchange, declareQueue, explainDeclaration, ledgerOf } from './topology.ts';

/** The result of one check: fine, or the problem. */
export interface Examined {
  readonly what: string;
  readonly seen: string;
  readonly problem?: BrokerProblem | undefined;
  /** Advice to a person, although the result is fine. */
  readonly advice?: string | undefined;
}

export async function* examineRabbitTap(settings: RabbitTapSettings): AsyncGenerator<Examined> {
  let open: ChannelModel | undefined;
  for (const url of settings.urls)
    try {
      const connection = await connectOnce(url, settings.tls, 'xmpp-event-pusher (check)');
      yield { what: 'broker', seen: `${shownUrl(url)} takes the login` };
      if (open) await closeConnection(connection);
      open ??= connection;
    } catch (error) {
      const problem = explain(error);
      yield { what: 'broker', seen: `${shownUrl(url)}: ${problem.reason}`, problem };
    }
  if (!open && settings.urls.length > 1) {
    const problem = { kind: 'network', reason: 'no broker of the list is usable', advice: 'see above' } as const;
    yield { what: 'list of brokers', seen: problem.reason, problem };
  }
  if (!open) return;
  try {
    yield* declarations(open, settings);
  } finally {
    await closeConnection(open);
  }
}

async function* declarations(
  connection: ChannelModel,
  { queue, exchanges }: RabbitTapSettings,
): AsyncGenerator<Examined> {
  for (const exchange of exchangesOf(exchanges)) {
    const { name, type } = exchange;
    const what = `exchange "${name}"`;
    const found = await compare(connection, what, {
      find: (channel) => channel.checkExchange(name),
      declare: (channel) => declareExchange(channel, exchange),
    });
    yield { ...found, advice: found.problem || type !== 'direct' ? undefined : DIRECT };
  }
  for (const name of [queue, ledgerOf(queue)])
    yield await compare(connection, `queue "${name}"`, {
      find: (channel) => channel.checkQueue(name),
      declare: (channel) => declareQueue(channel, name),
    });
}

const DIRECT =
  "the daemon can't bind to a direct exchange: make it a topic exchange, or see docs/mongooseim.md on alternate exchanges";

/**
 * Compares existing queues and exchanges with our declarations. It declares only existing ones: that changes nothing,
 * and fails where they differ.
 */
async function compare(
  connection: ChannelModel,
  what: string,
  { find, declare }: Record<'find' | 'declare', (channel: Channel) => Promise<unknown>>,
): Promise<Examined> {
  try {
    await on(connection, find);
  } catch (error) {
    if (explain(error).kind === 'missing') return { what, seen: 'does not exist yet: the daemon creates it' };
    const problem = explainDeclaration(error, what);
    return { what, seen: problem.reason, problem };
  }
  try {
    await on(connection, declare);
    return { what, seen: 'exists, as configured' };
  } catch (error) {
    const problem = explainDeclaration(error, what);
    return { what, seen: problem.reason, problem };
  }
}

/** Runs an operation on a separate channel, because the broker closes the channel of a refused one. */
async function on(connection: ChannelModel, act: (channel: Channel) => Promise<unknown>): Promise<void> {
  const channel = await openChannel(connection);
  await act(channel);
  await channel.close();
}
