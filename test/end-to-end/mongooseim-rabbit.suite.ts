/**
 * What a MongooseIM 6.8 published to RabbitMQ, as it was recorded, sent through a real RabbitMQ and the whole pipeline, beside
 * what the sns backend of that MongooseIM published for the same scenario.
 */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { Notification } from '../../src/notification/notification.ts';
import { memoryOutbox } from '../../src/outbox/memory.ts';
import { createPusher, type SinkSettings } from '../../src/pusher.ts';
import { createDaemon } from '../support/daemon.ts';
import { until } from '../support/process.ts';
import { openHouse } from '../support/rabbit-outbox.ts';
import {
  chat,
  deliveries,
  messagesIn,
  mongooseOn,
  presence,
  QUEUE,
  type Recorded,
  recording,
  tapOn,
} from '../support/rabbit-tap.ts';
import type { RabbitServer } from '../support/rabbitmq.ts';
import { sharedRabbit } from '../support/shared-rabbit.ts';
import { startStubSns } from '../support/stub-sns.ts';

const TOPICS = { presence: 'user_presence_updated', pm: 'user_message_sent', muc: 'user_messagegroup_sent' };

/** What its sns backend published: `topic message`, with the message's keys in order. */
async function published(): Promise<string[]> {
  const steps = await recording('sns_events.txt');
  return steps.flatMap(({ lines }) =>
    lines.flatMap((line) => {
      const [, topic = '', json] = /^@\S+\s+(\S+)\s+(\{.*\})$/.exec(line) ?? [];
      return json === undefined ? [] : [shown(topic, json)];
    }),
  );
}

const shown = (topic: string, json: string): string => {
  const message = JSON.parse(json) as Record<string, unknown>;
  return `${topic} ${JSON.stringify(Object.fromEntries(Object.entries(message).toSorted()))}`;
};

describe("MongooseIM's rabbit backend", () => {
  let rabbit: RabbitServer;
  before(async () => {
    rabbit = await sharedRabbit();
  });

  /** A sink that keeps all notifications, in order. */
  const collect = (taken: Notification[], mode: 'user' | 'session'): SinkSettings => ({
    presence: mode,
    topics: TOPICS,
    sink: {
      limits: () => ({ maxEntries: 10, maxBytes: 262_144 }),
      async publish(_, entries) {
        taken.push(...entries);
        return entries.map(() => undefined);
      },
    },
  });

  /** Sends messages through RabbitMQ and a pusher; settles with what it published, in order. */
  async function replay(messages: readonly Recorded[], mode: 'user' | 'session'): Promise<Notification[]> {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const taken: Notification[] = [];
    const sink = collect(taken, mode);
    await using pusher = await createPusher({ outbox: memoryOutbox(), sink, taps: [tapOn(rabbit, vhost)] });
    await mongoose.publish(...messages);
    await until('all of them', async () => {
      const waiting = pusher.state().outbox.topics.reduce((sum, { depth }) => sum + depth, 0);
      return waiting === 0 && (await messagesIn(rabbit, vhost)) === 0;
    });
    assert.deepEqual(await pusher.deadLetters.counts(), []);
    return taken;
  }

  it('with presence = "session" publishes exactly what the sns backend of MongooseIM did', async () => {
    const ours = await replay(await deliveries('rabbit_events.txt'), 'session');
    const theirs = await published();
    assert.equal(theirs.length, 73);
    assert.deepEqual(ours.map(({ topic, message }) => shown(topic, message)).toSorted(), theirs.toSorted());
  });

  it('publishes the same with RabbitMQ as the outbox of two daemons, of which the reading one stops', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    await using house = await openHouse(rabbit.url(vhost));
    const taken: Notification[] = [];
    const create = async (daemon: string) =>
      createPusher({
        outbox: await house.open({ daemon }),
        sink: collect(taken, 'session'),
        taps: [tapOn(rabbit, vhost)],
      });
    await using first = await create('a');
    await using second = await create('b');
    const messages = await deliveries('rabbit_events.txt');
    await mongoose.publish(...messages.slice(0, messages.length / 2));
    await until('some of them', () => taken.length > 0);
    const reads = () => [first, second].find((each) => each.state().taps.some(({ note }) => /^reads/.test(note ?? '')));
    await until('a reader', () => reads() !== undefined);
    await reads()?.stop();
    await mongoose.publish(...messages.slice(messages.length / 2));
    const theirs = await published();
    await until('all of them', () => taken.length >= theirs.length);
    await until('the acknowledgements', async () => (await messagesIn(rabbit, vhost)) === 0);
    assert.deepEqual(taken.map(({ topic, message }) => shown(topic, message)).toSorted(), theirs.toSorted());
  });

  it("keeps MongooseIM's order", async () => {
    const messages = await deliveries('rabbit_events.txt');
    const bodies = messages.flatMap(({ routing_key: key, body }) =>
      key.startsWith('alice@localhost.chat_msg_sent') ? [JSON.parse(body).message as string] : [],
    );
    const ours = (await replay(messages, 'session')).filter(
      ({ topic, orderKey }) => topic === TOPICS.pm && orderKey === 'alice@localhost',
    );
    assert.deepEqual(
      ours.map(({ message }) => JSON.parse(message).message),
      bodies,
    );
  });

  /** The last that was published of each user's presence. */
  const statuses = (list: readonly Notification[]): Record<string, boolean> => {
    const found: Record<string, boolean> = {};
    for (const { message } of list.filter(({ topic }) => topic === TOPICS.presence)) {
      const { user_id, present } = JSON.parse(message) as { user_id: string; present: boolean };
      found[user_id] = present;
    }
    return found;
  };

  /** What a recording holds up to the end of a step. */
  async function upTo(name: string, last: string): Promise<Recorded[]> {
    const steps = await recording(name);
    const index = steps.findIndex(({ step }) => step === last);
    assert.ok(index >= 0, last);
    const lines = steps.slice(0, index + 1).flatMap((step) => step.lines);
    return lines.map((line) => JSON.parse(line) as Recorded);
  }

  it('with presence = "user" the state of each user is right after two devices and takeovers', async () => {
    for (const [last, alice] of [
      ['alice/laptop goes unavailable (phone stays)', true],
      ['alice/laptop disconnects gracefully without unavailable (phone stays)', true],
      ['alice/phone unavailable, still connected', false],
      ['a new connection takes over the resource alice/phone (conflict)', true],
      ['alice/phone closes the stream gracefully', false],
    ] as const)
      assert.equal(
        statuses(await replay(await upTo('rabbit_events.txt', last), 'user'))['alice@localhost'],
        alice,
        last,
      );
    const all = statuses(await replay(await deliveries('rabbit_events.txt'), 'user'));
    assert.deepEqual(
      Object.values(all),
      Object.keys(all).map(() => false),
    );
  });

  it("each user's state is right after takeovers in either order, and after the server's stop", async () => {
    const conflicts = await recording('rabbit_conflict.txt');
    const takeovers = conflicts.filter(({ step }) => step.startsWith('takeover'));
    assert.ok(takeovers.length >= 20);
    const { step: last = '' } = takeovers.at(-1) ?? {};
    assert.deepEqual(statuses(await replay(await upTo('rabbit_conflict.txt', last), 'user')), {
      'alice@localhost': true,
    });
    const metadata = statuses(await replay(await deliveries('rabbit_metadata.txt'), 'user'));
    assert.deepEqual(
      Object.values(metadata),
      Object.keys(metadata).map(() => false),
    );
    const stopped = await upTo('rabbit_server_stop.txt', 'server process gone after 4s');
    assert.deepEqual(statuses(await replay(stopped, 'user')), { 'alice@localhost': false, 'bob@localhost': false });
  });

  it('treats a resumed session as gone, because MongooseIM reports only that', async () => {
    const messages = await upTo('rabbit_resume.txt', 'eve sends a chat after resuming');
    assert.deepEqual(statuses(await replay(messages, 'user')), { 'eve@localhost': false });
  });

  it('only one daemon reads, and the next one continues after its kill', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const taken: { topic: string; message: string }[] = [];
    await using stub = await startStubSns({
      accepted: ({ message }, { topicArn }) => void taken.push({ topic: topicArn.split(':').at(-1) ?? '', message }),
    });
    const sns = { url: stub.url, region: 'eu-west-1', accountId: '123456789012' };
    const rest = `
      [tap.rabbitmq]
        url = "${rabbit.url(vhost)}"
        queue = "${QUEUE}"
        presence_exchange.durable = true
        chat_msg_exchange.durable = true
        groupchat_msg_exchange.durable = true`;
    await using first = await createDaemon(sns, { rest });
    await using second = await createDaemon(sns, { rest, here: true });
    await first.start();
    await second.start();
    const from = 'alice@localhost/phone';
    const chats = (start: number) => Array.from({ length: 200 }, (_, n) => chat(from, 'bob@localhost', `${start + n}`));
    await mongoose.publish(presence(from, true), presence('alice@localhost/laptop', true), ...chats(0));
    const bodies = () =>
      new Set(
        taken.flatMap(({ topic, message }) => (topic === TOPICS.pm ? [JSON.parse(message).message as string] : [])),
      );
    await until('some of them', () => bodies().size > 50);
    await first.kill();
    await mongoose.publish(presence(from, false), ...chats(200));
    await until('what is not in the outbox of the first', () => bodies().has('399'));
    await first.start();
    await until('all of them', () => bodies().size === 400);
    await until('the acknowledgement', async () => (await messagesIn(rabbit, vhost)) === 0);
    const online = taken
      .filter(({ topic }) => topic === TOPICS.presence)
      .map(({ message }) => JSON.parse(message).present);
    assert.ok(online.length > 0 && online.every(Boolean), `${online}`);
    const metrics = await (await fetch(`${second.adminUrl}/metrics`)).text();
    assert.match(metrics, /^xmpp_event_pusher_tap_waiting_events\{tap="rabbitmq"\} \d+$/m);
    const status = await second.command('status');
    assert.match(status.output, /rabbitmq +0 +amqp:\/\/127\.0\.0\.1:\d+\/\S+ queue events {2}(reads|stands by)/);
    const check = await second.command('check');
    assert.match(check.output, /ok +tap\.rabbitmq queue "events": exists, as configured/);
    assert.doesNotMatch(check.output + first.output() + second.output(), /guest:guest/);
  });

  it('each invalid message becomes a dead letter, unchanged', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const outbox = memoryOutbox();
    await using pusher = await createPusher({ outbox, taps: [tapOn(rabbit, vhost)] });
    const { exchange, routing_key } = presence('alice@localhost/phone', true);
    await mongoose.publish({ exchange, routing_key, body: '' }, { exchange, routing_key, body: '{"user_id":5}' });
    await until(
      'both',
      async () => (await pusher.deadLetters.counts()).reduce((sum, { count }) => sum + count, 0) === 2,
    );
    const letters = (await pusher.deadLetters.find({}, 10)).map(({ detail, content }) => [
      detail,
      content.kind === 'raw' && (content.event as { body: string; routing_key: string }),
    ]);
    const raw = (body: string) => ({ exchange, routing_key, content_encoding: undefined, body });
    assert.deepEqual(
      letters.toSorted(([a], [b]) => String(a).localeCompare(String(b))),
      [
        ['is empty, should be a JSON object', raw('')],
        ['user_id: should be a JID; present: should be true or false', raw('{"user_id":5}')],
      ],
    );
  });

  it('publishes presence once for a user with two devices', async () => {
    const [phone, laptop] = ['alice@localhost/phone', 'alice@localhost/laptop'] as const;
    const messages = [presence(phone, true), presence(laptop, true), presence(phone, false), presence(laptop, false)];
    const ours = await replay(messages, 'user');
    assert.deepEqual(
      ours.map(({ message }) => message),
      [true, false].map((present) => JSON.stringify({ user_id: 'alice@localhost', present })),
    );
  });
});
