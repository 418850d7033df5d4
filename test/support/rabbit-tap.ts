/** What MongooseIM publishes, for tests of the RabbitMQ tap: by itself, or as it was recorded. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { closeConnection, connectOnce, openConfirmChannel } from '../../src/rabbitmq/connection.ts';
import type { Exchanges } from '../../src/taps/rabbitmq/exchanges.ts';
import { type RabbitTapSettings, rabbitTap } from '../../src/taps/rabbitmq/rabbitmq.ts';
import { declare } from '../../src/taps/rabbitmq/topology.ts';
import type { RabbitServer } from './rabbitmq.ts';

/** MongooseIM's defaults, durable. */
export const EXCHANGES: Exchanges = {
  presence: { name: 'presence', type: 'topic', durable: true },
  chat: { name: 'chat_msg', type: 'topic', durable: true, sentTopic: 'chat_msg_sent', recvTopic: 'chat_msg_recv' },
  groupchat: {
    name: 'groupchat_msg',
    type: 'topic',
    durable: true,
    sentTopic: 'groupchat_msg_sent',
    recvTopic: 'groupchat_msg_recv',
  },
};

export const QUEUE = 'events';

/** A tap on a vhost, with MongooseIM's defaults. */
export const tapOn = (rabbit: RabbitServer, vhost: string, more: Partial<RabbitTapSettings> = {}) =>
  rabbitTap({ urls: [rabbit.url(vhost)], queue: QUEUE, exchanges: EXCHANGES, ...more });

/** A delivery as it was recorded. */
export interface Recorded {
  readonly exchange: string;
  readonly routing_key: string;
  readonly body: string;
}

/** MongooseIM on a vhost: its exchanges are declared, and our queue is bound to them. */
export interface MongooseIM extends AsyncDisposable {
  publish(...messages: readonly Recorded[]): Promise<void>;
}

export async function mongooseOn(rabbit: RabbitServer, vhost: string): Promise<MongooseIM> {
  const connection = await connectOnce(rabbit.url(vhost));
  await declare(connection, { queue: QUEUE, exchanges: EXCHANGES });
  const channel = await openConfirmChannel(connection);
  return {
    async publish(...messages) {
      // As it does: transient, without any property.
      for (const { exchange, routing_key: key, body } of messages) channel.publish(exchange, key, Buffer.from(body));
      await channel.waitForConfirms();
    },
    [Symbol.asyncDispose]: () => closeConnection(connection),
  };
}

/** A change of presence as MongooseIM publishes it. */
export const presence = (jid: string, present: boolean, more: object = {}): Recorded => ({
  exchange: 'presence',
  routing_key: jid.replace(/\/.*/s, ''),
  body: JSON.stringify({ user_id: jid, present, ...more }),
});

/** A private message as MongooseIM publishes it. */
export const chat = (from: string, to: string, message: string): Recorded => ({
  exchange: 'chat_msg',
  routing_key: `${from.replace(/\/.*/s, '')}.chat_msg_sent`,
  body: JSON.stringify({ to_user_id: to, from_user_id: from, message }),
});

/** Messages in a queue, whether handed out or not. */
export async function messagesIn(rabbit: RabbitServer, vhost: string, queue = QUEUE): Promise<number> {
  const name = `rabbit_misc:r(<<"${vhost}">>, queue, <<"${queue}">>)`;
  const total = 'ra:leader_query(amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_total/1)';
  return Number(
    await rabbit.nodes[0]?.evaluate(`{ok, Q} = rabbit_amqqueue:lookup(${name}), {ok, {_, N}, _} = ${total}, N.`),
  );
}

/** The steps of a recording of MongooseIM (test/fixtures/mongooseim-rabbit), each with what was delivered in it. */
export async function recording(name: string): Promise<{ step: string; lines: string[] }[]> {
  const file = fileURLToPath(new URL(`../fixtures/mongooseim-rabbit/${name}`, import.meta.url));
  const steps: { step: string; lines: string[] }[] = [];
  for (const line of (await readFile(file, 'utf8')).split('\n'))
    if (line.startsWith('#')) steps.push({ step: line.replace(/^#+ /, ''), lines: [] });
    else if (line !== '') steps.at(-1)?.lines.push(line);
  return steps;
}

/** All deliveries of a recording of its rabbit backend. */
export async function deliveries(name: string): Promise<Recorded[]> {
  const steps = await recording(name);
  return steps.flatMap(({ lines }) =>
    lines.filter((line) => line.startsWith('{"t"')).map((line) => JSON.parse(line) as Recorded),
  );
}
