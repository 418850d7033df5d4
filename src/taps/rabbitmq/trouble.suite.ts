/** What the RabbitMQ tap does when the broker, or what is declared there, is not as it should be. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { until } from '../../../test/support/process.ts';
import { EXCHANGES, messagesIn, mongooseOn, presence, QUEUE, tapOn } from '../../../test/support/rabbit-tap.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { closeConnection, connectOnce, openChannel, openConfirmChannel } from '../../rabbitmq/connection.ts';
import { FORMAT } from '../../rabbitmq/format.ts';
import type { Receipt, Tap } from '../tap.ts';
import { examineRabbitTap } from './examine.ts';
import type { RabbitTapSettings } from './rabbitmq.ts';
import { ledgerOf } from './topology.ts';

const RECEIPT: Receipt = { accepted: 0, duplicates: 0, rejected: [] };

describe('the RabbitMQ tap in trouble', () => {
  let rabbit: RabbitServer;
  before(async () => {
    rabbit = await sharedRabbit();
  });

  /** Starts a tap; answers how many events it took. */
  async function start(tap: Tap): Promise<() => number> {
    let taken = 0;
    await tap.start(async ({ events }) => {
      taken += events.length;
      return RECEIPT;
    });
    return () => taken;
  }

  /** On a channel of one's own, for what the broker may refuse. */
  async function onChannel<T>(vhost: string, act: (channel: Awaited<ReturnType<typeof openChannel>>) => Promise<T>) {
    const connection = await connectOnce(rabbit.url(vhost));
    try {
      return await act(await openChannel(connection));
    } finally {
      await closeConnection(connection);
    }
  }

  const isThere = (vhost: string, check: Parameters<typeof onChannel<unknown>>[1]) =>
    onChannel(vhost, check).then(
      () => true,
      () => false,
    );

  const online = presence('alice@localhost/phone', true);
  const publish = async (vhost: string) => {
    const connection = await connectOnce(rabbit.url(vhost));
    const channel = await openConfirmChannel(connection);
    channel.publish(online.exchange, online.routing_key, Buffer.from(online.body));
    await channel.waitForConfirms();
    await closeConnection(connection);
  };

  it('declares the exchanges like MongooseIM, which can therefore start after the daemon', async () => {
    const vhost = await rabbit.vhost();
    const { presence: exchange } = EXCHANGES;
    const tap = tapOn(rabbit, vhost, { exchanges: { ...EXCHANGES, presence: { ...exchange, durable: false } } });
    await start(tap);
    const declare = (durable: boolean) =>
      onChannel(vhost, (channel) => channel.assertExchange('presence', 'topic', { durable, autoDelete: false }));
    await declare(false);
    await assert.rejects(declare(true), /inequivalent arg 'durable'/);
    await tap.stop();
  });

  it('reports both declarations of an exchange that was declared differently, and continues once it is fixed', async () => {
    const vhost = await rabbit.vhost();
    const transient = () =>
      onChannel(vhost, (channel) => channel.assertExchange('chat_msg', 'topic', { durable: false }));
    await transient();
    const tap = tapOn(rabbit, vhost);
    const taken = await start(tap);
    const { reason = '', advice = '' } = tap.state().problem ?? {};
    assert.match(reason, /exchange "chat_msg".*'durable'.*received 'true' but current is 'false'/);
    assert.match(advice, /as in MongooseIM, which does not start while it differs/);
    await transient();
    await onChannel(vhost, (channel) => channel.deleteExchange('chat_msg'));
    await until('no problem', () => tap.state().problem === undefined);
    await publish(vhost);
    await until('the event', () => taken() === 1);
    await tap.stop();
  });

  it('reports both declarations of a queue that was declared differently', async () => {
    const vhost = await rabbit.vhost();
    await onChannel(vhost, (channel) => channel.assertQueue(QUEUE, { durable: true }));
    const tap = tapOn(rabbit, vhost);
    await start(tap);
    const { reason = '', advice = '' } = tap.state().problem ?? {};
    assert.match(reason, /queue "events".*inequivalent arg 'x-.*received.*current is/);
    assert.match(advice, /another name as `queue`/);
    await tap.stop();
  });

  it('reports wrong credentials, a missing vhost, and an unreachable broker, but starts', async () => {
    const vhost = await rabbit.vhost();
    const problemWith = async (url: string) => {
      const tap = tapOn(rabbit, vhost, { urls: [url] });
      await start(tap);
      const { problem } = tap.state();
      await tap.stop();
      assert.ok(problem?.advice);
      assert.doesNotMatch(problem.reason, /wrong/);
      return problem.reason;
    };
    assert.match(await problemWith(rabbit.url(vhost, { login: 'guest:wrong' })), /login was refused/i);
    assert.match(await problemWith(rabbit.url('missing')), /vhost/);
    assert.match(await problemWith('amqp://127.0.0.1:1/'), /ECONNREFUSED/);
  });

  it("names the user's missing permissions", async () => {
    const vhost = await rabbit.vhost();
    await rabbit.user('reader', 'secret', vhost, ['^events', '.*', '.*']);
    const tap = tapOn(rabbit, vhost, { urls: [rabbit.url(vhost, { login: 'reader:secret' })] });
    const taken = await start(tap);
    assert.match(tap.state().problem?.reason ?? '', /exchange "presence".*(configure)/);
    // What docs/mongooseim.md says that it needs, and no more.
    const [queues, exchanges] = ['events(\\.sessions)?', 'presence|chat_msg|groupchat_msg'];
    const both = `^(${exchanges}|${queues})$`;
    await rabbit.user('reader', 'secret', vhost, [both, `^(${queues}|amq\\.default)$`, both]);
    await until('no problem', () => tap.state().problem === undefined);
    await publish(vhost);
    await until('the event', () => taken() === 1);
    await until('its acknowledgement', async () => (await messagesIn(rabbit, vhost)) === 0);
    await tap.stop();
  });

  it('check examines it without changing anything', async () => {
    const vhost = await rabbit.vhost();
    const settings = { urls: [rabbit.url(vhost)], queue: QUEUE, exchanges: EXCHANGES };
    const check = async (given: RabbitTapSettings = settings) => {
      const found = [];
      for await (const { what, seen, problem, advice } of examineRabbitTap(given))
        found.push(`${what}: ${problem ? `FAIL ${problem.reason}` : seen}${advice ? ` (${advice.slice(0, 30)})` : ''}`);
      return found;
    };
    const names = [
      'exchange "presence"',
      'exchange "chat_msg"',
      'exchange "groupchat_msg"',
      'queue "events"',
      'queue "events.sessions"',
    ];
    const broker = `broker: amqp://127.0.0.1:${rabbit.nodes[0]?.port}/${vhost} takes the login`;
    const nothing = [broker, ...names.map((name) => `${name}: does not exist yet: the daemon creates it`)];
    assert.deepEqual(await check(), nothing);
    assert.deepEqual(await check(), nothing);
    const tap = tapOn(rabbit, vhost);
    await start(tap);
    assert.deepEqual(await check(), [broker, ...names.map((name) => `${name}: exists, as configured`)]);
    await tap.stop();
    const presence = { ...EXCHANGES.presence, type: 'fanout' } as const;
    const chat = { ...EXCHANGES.chat, name: 'straight', type: 'direct' } as const;
    const other = await check({ ...settings, exchanges: { ...EXCHANGES, presence, chat } });
    assert.match(other[1] ?? '', /^exchange "presence": FAIL .*'type'.*received 'fanout' but current is 'topic'/);
    assert.match(other[2] ?? '', /^exchange "straight": does not exist yet.*\(the daemon can't bind to a d/);
    const down = ['amqp://127.0.0.1:1/', rabbit.url(vhost, { login: 'guest:wrong' })];
    const refused = await check({ ...settings, urls: down });
    assert.match(refused[0] ?? '', /^broker: FAIL .*ECONNREFUSED/);
    assert.match(refused[1] ?? '', /^broker: FAIL .*refused/i);
    assert.match(refused[2] ?? '', /^list of brokers: FAIL no broker/);
    assert.equal(refused.length, 3);
  });

  it('recreates and binds its queue after it is deleted', async () => {
    const vhost = await rabbit.vhost();
    const tap = tapOn(rabbit, vhost);
    const taken = await start(tap);
    await publish(vhost);
    await until('an event', () => taken() === 1);
    await onChannel(vhost, (channel) => channel.deleteQueue(QUEUE));
    await until('the queue again', () => isThere(vhost, (channel) => channel.checkQueue(QUEUE)));
    await until('no problem', () => tap.state().problem === undefined);
    await publish(vhost);
    await until('the next event', () => taken() === 2);
    await tap.stop();
  });

  it('starts over after the ledger is deleted', async () => {
    const vhost = await rabbit.vhost();
    const tap = tapOn(rabbit, vhost);
    const taken = await start(tap);
    await publish(vhost);
    await until('an event', () => taken() === 1);
    await onChannel(vhost, (channel) => channel.deleteQueue(ledgerOf(QUEUE)));
    await rabbit.nodes[0]?.evaluate('rabbit_networking:close_all_connections("of the test").');
    await publish(vhost);
    await until('the next event', () => taken() >= 2);
    await tap.stop();
  });

  it('continues when its vhost is deleted and added again', async () => {
    const vhost = await rabbit.vhost();
    const tap = tapOn(rabbit, vhost);
    const taken = await start(tap);
    await publish(vhost);
    await until('the first event', () => taken() === 1);
    await rabbit.nodes[0]?.evaluate(`rabbit_vhost:delete(<<"${vhost}">>, <<"test">>).`);
    await until('it to be said', () => /add_vhost/.test(tap.state().problem?.advice ?? ''));
    await rabbit.addVhost(vhost);
    await until('no problem', () => tap.state().problem === undefined);
    await publish(vhost);
    await until('the next event', () => taken() === 2);
    await tap.stop();
  });

  it("declares exchanges again after each reconnection, because a broker's restart loses non-durable ones", async () => {
    const vhost = await rabbit.vhost();
    const { presence: exchange } = EXCHANGES;
    const tap = tapOn(rabbit, vhost, { exchanges: { ...EXCHANGES, presence: { ...exchange, durable: false } } });
    const taken = await start(tap);
    await onChannel(vhost, (channel) => channel.deleteExchange('presence'));
    await rabbit.nodes[0]?.evaluate('rabbit_networking:close_all_connections("of the test").');
    await until('the exchange', () => isThere(vhost, (channel) => channel.checkExchange('presence')));
    await until('no problem', () => tap.state().problem === undefined);
    // It would fail if nobody had declared the exchange.
    await publish(vhost);
    await until('the event', () => taken() === 1);
    await until('its acknowledgement', async () => (await messagesIn(rabbit, vhost)) === 0);
    await tap.stop();
  });

  it('holds events back while an alarm blocks the count of sessions', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const tap = tapOn(rabbit, vhost);
    await mongoose.publish(online, online);
    await rabbit.alarm(true);
    await tap.start(async () => RECEIPT);
    await until('the problem', () => /memory/.test(tap.state().problem?.reason ?? ''));
    await rabbit.alarm(false);
    await until('its end', async () => (await messagesIn(rabbit, vhost)) === 0);
    await until('no problem', () => tap.state().problem === undefined);
    await tap.stop();
  });

  it('leaves events in the queue while a newer release counts sessions, and continues when it can read them', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    await mongoose.publish(online, online);
    const ledger = ledgerOf(QUEUE);
    await onChannel(vhost, async (channel) => {
      channel.sendToQueue(ledger, Buffer.from('x'), { headers: { v: FORMAT + 1 } });
      await channel.checkQueue(ledger);
    });
    const tap = tapOn(rabbit, vhost);
    const taken = await start(tap);
    await until('it to be said', () => /format .* a newer release wrote/.test(tap.state().problem?.reason ?? ''));
    assert.equal(await messagesIn(rabbit, vhost), 2);
    assert.equal(await messagesIn(rabbit, vhost, ledger), 2);
    await tap.stop();
    assert.equal(taken(), 0);
    await onChannel(vhost, (channel) => channel.purgeQueue(ledger));
    await start(tap);
    await until('the events', async () => (await messagesIn(rabbit, vhost)) === 0);
    await tap.stop();
  });
});
