/** The options of `tap.rabbitmq`; its exchanges are MongooseIM's, with the same options. */
import { z } from 'zod';
import { brokerUrl, option, pairProblems, sectionRules } from './option.ts';

/** RabbitMQ's limits: at most 255 bytes; names that begin with `amq.` are reserved. */
const brokerName = (more = 0) =>
  z.string().refine((name) => name !== '' && Buffer.byteLength(name) <= 255 - more && !name.startsWith('amq.'));
const LONGEST_SUFFIX = 55;

export const rabbitTapOptions = z.strictObject({
  url: option(z.union([brokerUrl.transform((url) => [url]), z.array(brokerUrl).min(1)]), {
    expects: 'an `amqp://` or `amqps://` URL with user, password, host, port and vhost; or a list of them',
    text: "RabbitMQ's address; its last part is the vhost, by default `/`. Nodes of a list are tried in turn. In a whole `mongooseim.toml` the default is that of MongooseIM's pool `outgoing_pools.rabbit.event_pusher`.",
    example: '"amqps://pusher:${RABBITMQ_PASSWORD}@mq1.example.org/xmpp"',
  }),
  queue: option(brokerName(LONGEST_SUFFIX).default('xmpp-event-pusher'), {
    expects: 'a name of at most 200 bytes that does not begin with `amq.`',
    text: "The daemon's queue, which it declares and binds, with a second queue `….sessions` for the count of sessions. All daemons with the same queue share it: one reads at a time.",
  }),
  ca_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM file with certificates',
    text: 'Certificate authorities to trust for `amqps` instead of the public ones. Relative to the configuration file.',
    fallback: 'the public ones',
  }),
  cert_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM certificate',
    text: 'A client certificate; requires `key_file`. A URL without a user then logs in with it (`EXTERNAL`).',
    fallback: 'none',
  }),
  key_file: option(z.string().min(1).optional(), {
    expects: 'the path of a PEM private key',
    text: 'The key of `cert_file`.',
    fallback: 'none',
  }),
});

sectionRules.set(rabbitTapOptions, (section) => pairProblems(section, 'cert_file', 'key_file'));

/** One of MongooseIM's exchanges, with the same options. */
const exchangeOptions = (what: string, name: string) => ({
  name: option(brokerName().default(name), {
    expects: 'a name of at most 255 bytes that does not begin with `amq.`',
    text: `The exchange to which MongooseIM publishes ${what}.`,
  }),
  type: option(z.enum(['topic', 'fanout', 'headers', 'direct']).default('topic'), {
    expects: '"topic", "fanout", "headers" or "direct"',
    text: "Its type. The daemon can't bind to a `direct` one: see [MongooseIM](mongooseim.md#direct-exchanges).",
  }),
  durable: option(z.boolean().default(false), {
    expects: 'true or false',
    text: 'Whether it survives a restart of the broker. Must be the same as in MongooseIM, which otherwise does not start.',
  }),
});

const messageExchangeOptions = (what: string, name: string) =>
  z.strictObject({
    ...exchangeOptions(what, name),
    sent_topic: option(z.string().min(1).default(`${name}_sent`), {
      expects: 'a text that is not empty',
      text: 'End of the routing keys of sent messages, which are published.',
    }),
    recv_topic: option(z.string().min(1).default(`${name}_recv`), {
      expects: 'a text that is not empty',
      text: "End of the routing keys of recipients' copies, which are not published.",
    }),
  });

export const presenceExchangeOptions = z.strictObject(exchangeOptions('presence', 'presence'));
export const chatExchangeOptions = messageExchangeOptions('private messages', 'chat_msg');
export const groupchatExchangeOptions = messageExchangeOptions('group messages', 'groupchat_msg');

export interface RabbitTapOptions extends z.infer<typeof rabbitTapOptions> {
  readonly presence_exchange: z.infer<typeof presenceExchangeOptions>;
  readonly chat_msg_exchange: z.infer<typeof chatExchangeOptions>;
  readonly groupchat_msg_exchange: z.infer<typeof groupchatExchangeOptions>;
}
