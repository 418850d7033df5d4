import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PusherError } from '../errors.ts';
import { parseConfig } from './load.ts';

const SNS = `
  [modules.mod_event_pusher.sns]
    sns_host = "sns.eu-west-1.amazonaws.com"
    region = "eu-west-1"
    account_id = "123456789012"
    credentials = "aws"
`;
const URL_LINE = 'url = "amqp://pusher:secret@mq1/xmpp"';

const parse = (text: string) => parseConfig(SNS + text, '/etc/pusher.toml', { RABBIT: 'from-outside' });
const rabbit = (text: string) => parse(text).tap.rabbitmq ?? assert.fail('there is no tap.rabbitmq');
const mistakes = (text: string): string => {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof PusherError);
    assert.doesNotMatch(error.message, /secret/);
    return error.message.split('\n').slice(1).join('\n').trim();
  }
  return assert.fail('it was accepted');
};

describe('[tap.rabbitmq]', () => {
  it('without [tap.rabbitmq] there is no RabbitMQ tap', () => {
    assert.equal(parse('').tap.rabbitmq, undefined);
    const { tap, ignored } = parse('[modules.mod_event_pusher.rabbit]\npresence_exchange.name = "p"');
    assert.deepEqual([tap.rabbitmq, ignored], [undefined, ['modules.mod_event_pusher.rabbit']]);
  });

  it("[tap.rabbitmq] has MongooseIM's defaults", () => {
    assert.deepEqual(rabbit(`[tap.rabbitmq]\n${URL_LINE}`), {
      url: ['amqp://pusher:secret@mq1/xmpp'],
      queue: 'xmpp-event-pusher',
      presence_exchange: { name: 'presence', type: 'topic', durable: false },
      chat_msg_exchange: {
        ...{ name: 'chat_msg', type: 'topic', durable: false },
        ...{ sent_topic: 'chat_msg_sent', recv_topic: 'chat_msg_recv' },
      },
      groupchat_msg_exchange: {
        ...{ name: 'groupchat_msg', type: 'topic', durable: false },
        ...{ sent_topic: 'groupchat_msg_sent', recv_topic: 'groupchat_msg_recv' },
      },
    });
  });

  const THEIRS = `
    presence_exchange.name ="custom_presence_name"
    presence_exchange.durable = true
    chat_msg_exchange.name = "custom_msg_name"
    chat_msg_exchange.sent_topic = "custom_sent_topic"
    chat_msg_exchange.recv_topic = "custom_recv_topic"
    groupchat_msg_exchange.type = "fanout"
  `;
  const checkTheirs = ({ presence_exchange, chat_msg_exchange, groupchat_msg_exchange }: ReturnType<typeof rabbit>) => {
    assert.deepEqual(presence_exchange, { name: 'custom_presence_name', type: 'topic', durable: true });
    assert.deepEqual(
      [chat_msg_exchange.sent_topic, chat_msg_exchange.recv_topic],
      ['custom_sent_topic', 'custom_recv_topic'],
    );
    assert.equal(groupchat_msg_exchange.type, 'fanout');
  };

  it("accepts a copy of MongooseIM's rabbit section", () => {
    checkTheirs(rabbit(`[tap.rabbitmq]\n${URL_LINE}\n${THEIRS}`));
  });

  it('takes exchanges and address from a whole mongooseim.toml', () => {
    const text = `
      [outgoing_pools.rabbit.event_pusher]
        workers = 1
        [outgoing_pools.rabbit.event_pusher.connection]
          host = "mq1"
          port = 5673
          username = "mim"
          password = "p@ss/word"
          virtual_host = "xmpp"
          reconnect.attempts = 100000
      [modules.mod_event_pusher.rabbit]
        ${THEIRS}
      [tap.rabbitmq]
        queue = "events"`;
    const options = rabbit(text);
    checkTheirs(options);
    assert.deepEqual([options.url, options.queue], [['amqp://mim:p%40ss%2Fword@mq1:5673/xmpp'], 'events']);
    assert.deepEqual(parse(text).ignored, ['outgoing_pools']);
    const bare = rabbit(
      '[outgoing_pools.rabbit.event_pusher]\nconnection.tls.verify_peer = true\n[tap.rabbitmq]\nqueue = "q"',
    );
    assert.deepEqual(bare.url, ['amqps://guest:guest@localhost/%2F']);
  });

  it("prefers [tap.rabbitmq]'s exchanges and address to MongooseIM's", () => {
    const own = rabbit(`
      [outgoing_pools.rabbit.event_pusher.connection]
        host = "mq1"
      [modules.mod_event_pusher.rabbit]
        presence_exchange.name = "theirs"
      [tap.rabbitmq]
        url = "amqp://mq2"
        presence_exchange.name = "ours"`);
    assert.deepEqual([own.url, own.presence_exchange.name], [['amqp://mq2'], 'ours']);
  });

  it('accepts several RabbitMQ addresses, with variables in them', () => {
    const { url } = rabbit('[tap.rabbitmq]\nurl = ["amqps://u:${RABBIT}@mq1", "amqps://u:${RABBIT}@mq2:5671/x"]');
    assert.deepEqual(url, ['amqps://u:from-outside@mq1', 'amqps://u:from-outside@mq2:5671/x']);
  });

  it('lists every mistake in [tap.rabbitmq], without passwords', () => {
    assert.equal(
      mistakes('[tap.rabbitmq]\nqueue = "events"'),
      'tap.rabbitmq.url is required: an `amqp://` or `amqps://` URL with user, password, host, port and vhost; or a list of them',
    );
    for (const url of ['"mq1:5672"', '"http://u:secret@mq1"', '[]', '["amqp://u:secret@mq1", "u:secret@mq2"]', '5'])
      assert.match(mistakes(`[tap.rabbitmq]\nurl = ${url}`), /^tap\.rabbitmq\.url is /, url);
    const text = `
      [tap.rabbitmq]
      ${URL_LINE}
      cert_file = "client.pem"
      queue = "amq.gen"
      prefetch = 5
      presence_exchange.type = "x-random"
      chat_msg_exchange.durable = "yes"
      chat_msg_exchange.send_topic = "x"
      groupchat_msg_exchange = "groupchat_msg"`;
    assert.deepEqual(
      mistakes(text)
        .split('\n')
        .map((line) => line.trim().split(' ').slice(0, 4).join(' ')),
      [
        'tap.rabbitmq.key_file is missing: `cert_file`',
        'tap.rabbitmq.queue is "amq.gen", should',
        'tap.rabbitmq.prefetch is not a',
        'tap.rabbitmq.presence_exchange.type is "x-random", should',
        'tap.rabbitmq.chat_msg_exchange.durable is "yes", should',
        'tap.rabbitmq.chat_msg_exchange.send_topic is not a',
        'tap.rabbitmq.groupchat_msg_exchange is "groupchat_msg", should',
      ],
    );
  });

  it("refuses private and group messages that can't be told apart", () => {
    const text = `[tap.rabbitmq]
      ${URL_LINE}
      chat_msg_exchange = { name = "all", sent_topic = "sent" }
      groupchat_msg_exchange = { name = "all", sent_topic = "sent" }`;
    assert.match(
      mistakes(text),
      /^tap\.rabbitmq\.groupchat_msg_exchange\.sent_topic is the same as chat_msg_exchange's/,
    );
    assert.equal(rabbit(text.replace('"sent" }', '"chat_sent" }')).chat_msg_exchange.sent_topic, 'chat_sent');
  });

  it('refuses tap.rabbitmq as anything but a section', () => {
    assert.match(
      mistakes('[tap]\nrabbitmq = "amqp://u:secret@mq1"'),
      /^tap\.rabbitmq is "amqp:\/\/…@mq1", should be a section/,
    );
  });
});
