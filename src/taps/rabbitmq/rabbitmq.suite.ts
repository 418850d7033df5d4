import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../../../test/support/process.ts';
import {
  chat,
  EXCHANGES,
  messagesIn,
  mongooseOn,
  presence,
  QUEUE,
  type Recorded,
  tapOn,
} from '../../../test/support/rabbit-tap.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { PusherError } from '../../errors.ts';
import { isMalformed, type MalformedEvent, type NewEvent } from '../../event.ts';
import { closeConnection, connectOnce, openChannel } from '../../rabbitmq/connection.ts';
import { tapContract } from '../contract.ts';
import type { Receipt, Receive } from '../tap.ts';
import { openLedger } from './ledger.ts';
import { fingerprintOf } from './reader.ts';
import { Sessions } from './sessions.ts';
import { declareQueue, ledgerOf } from './topology.ts';

let rabbit: RabbitServer;
before(async () => {
  rabbit = await sharedRabbit();
});

tapContract('the RabbitMQ tap', async () => {
  const vhost = await rabbit.vhost();
  const mongoose = await mongooseOn(rabbit, vhost);
  const tap = tapOn(rabbit, vhost);
  return {
    tap,
    queue: `${QUEUE}@${vhost}`,
    async hand({ events }) {
      const before = tap.state().problem;
      for (const event of events) {
        const { jid, present, at } = event as { jid: string; present: boolean; at: number };
        const message = presence(jid ?? '', present, { timestamp: at * 1_000 });
        await mongoose.publish(typeof event === 'object' ? message : { ...message, body: JSON.stringify(event) });
      }
      let empty = false;
      await until('the acknowledgement, or why there is none', async () => {
        const { at, problem } = tap.state();
        empty = (await messagesIn(rabbit, vhost)) === 0;
        return empty || at === undefined || (problem !== undefined && before === undefined);
      });
      return empty ? 'acknowledged' : undefined;
    },
    dispose: async () => mongoose[Symbol.asyncDispose](),
  };
});

const RECEIPT: Receipt = { accepted: 0, duplicates: 0, rejected: [] };

/** Whoever takes what a tap hands on. */
function collect() {
  const events: (NewEvent | MalformedEvent)[] = [];
  const collected = {
    events,
    /** What it does before it takes a batch. */
    before: async () => {},
    receive: (async ({ events: more }) => {
      await collected.before();
      events.push(...more);
      return RECEIPT;
    }) satisfies Receive,
    /** Each event of presence, as `phone+ 1`: resource, what happened, and the user's sessions then. */
    presence: () =>
      events.flatMap((event) => {
        if (isMalformed(event) || event.kind !== 'presence') return [];
        return [`${event.jid.replace(/.*\//, '')}${event.present ? '+' : '-'} ${event.sessions}`];
      }),
    bodies: () => events.flatMap((event) => (!isMalformed(event) && event.kind === 'message' ? [event.body] : [])),
  };
  return collected;
}

/** Cuts every connection to the broker. */
const cutAll = () => rabbit.nodes[0]?.evaluate('rabbit_networking:close_all_connections("of the test").');
const phone = (present: boolean) => presence('alice@localhost/phone', present);
const laptop = (present: boolean) => presence('alice@localhost/laptop', present);
const numbered = (from: number, to: number): Recorded[] =>
  Array.from({ length: to - from }, (_, n) => chat('alice@localhost/phone', 'bob@localhost', `${from + n}`));

describe('the RabbitMQ tap', () => {
  it('reads sent messages in order, skips copies for recipients, and empties the queue', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const taken = collect();
    const tap = tapOn(rabbit, vhost);
    await tap.start(taken.receive);
    const copy = { ...chat('alice@localhost/phone', 'bob@localhost', 'x'), routing_key: 'bob@localhost.chat_msg_recv' };
    await mongoose.publish(...numbered(0, 1_500).flatMap((message) => [message, copy]));
    await until('all of them', () => taken.events.length >= 1_500);
    assert.deepEqual(
      taken.bodies(),
      Array.from({ length: 1_500 }, (_, n) => `${n}`),
    );
    await until('their acknowledgement', async () => (await messagesIn(rabbit, vhost)) === 0);
    await tap.stop();
  });

  it('reads everything of a fanout exchange, and skips what users did not send', async () => {
    const vhost = await rabbit.vhost();
    const taken = collect();
    const tap = tapOn(rabbit, vhost, {
      exchanges: { ...EXCHANGES, chat: { ...EXCHANGES.chat, name: 'all', type: 'fanout' } },
    });
    await tap.start(taken.receive);
    const connection = await connectOnce(rabbit.url(vhost));
    const channel = await openChannel(connection);
    const { body } = chat('alice@localhost/phone', 'bob@localhost', 'hello');
    for (const topic of ['chat_msg_recv', 'chat_msg_sent'])
      channel.publish('all', `x@localhost.${topic}`, Buffer.from(body));
    await until('one of two', () => taken.events.length > 0);
    await until('both acknowledged', async () => (await messagesIn(rabbit, vhost)) === 0);
    assert.deepEqual(taken.bodies(), ['hello']);
    await closeConnection(connection);
    await tap.stop();
  });

  it('counts sessions through a stop, a lost connection, and a takeover by another daemon', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const [one, two] = [collect(), collect()];
    const [first, second] = [tapOn(rabbit, vhost), tapOn(rabbit, vhost)];
    await first.start(one.receive);
    await mongoose.publish(phone(true), laptop(true));
    await until('both devices', () => one.presence().length === 2);
    await first.stop();
    await first.start(one.receive);
    await second.start(two.receive);
    await mongoose.publish(laptop(false), laptop(true));
    await until('the laptop again', () => one.presence().length === 4);
    await until('their acknowledgement', async () => (await messagesIn(rabbit, vhost)) === 0);
    await first.stop();
    await mongoose.publish(phone(false), phone(true), phone(true), phone(false));
    await until('the other daemon', () => two.presence().length === 4);
    await until('their acknowledgement', async () => (await messagesIn(rabbit, vhost)) === 0);
    await cutAll();
    await using again = await mongooseOn(rabbit, vhost);
    await again.publish(phone(false), laptop(false));
    await until('the last of them', () => two.presence().length === 6);
    await second.stop();
    assert.deepEqual(one.presence(), ['phone+ 1', 'laptop+ 2', 'laptop- 1', 'laptop+ 2']);
    assert.deepEqual(two.presence(), ['phone- 1', 'phone+ 2', 'phone+ 3', 'phone- 2', 'phone- 1', 'laptop- 0']);
  });

  it('counts redelivered events once if its connection is lost during a commit', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const taken = collect();
    let cut = false;
    taken.before = async () => {
      if (!cut) await cutAll();
      cut = true;
    };
    const tap = tapOn(rabbit, vhost);
    await tap.start(taken.receive);
    await mongoose.publish(phone(true), phone(true)).catch(() => {});
    await until('both, twice', () => taken.presence().length === 4);
    await using other = await mongooseOn(rabbit, vhost);
    await other.publish(phone(false), phone(false));
    await until('its end', () => taken.presence().length === 6);
    assert.deepEqual(taken.presence(), ['phone+ 1', 'phone+ 2', 'phone+ 1', 'phone+ 2', 'phone- 1', 'phone- 0']);
    await tap.stop();
  });

  it('counts exactly with two daemons that lose their connections repeatedly', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const model = new Sessions();
    const last = new Map<string, boolean>();
    const changes = Array.from({ length: 3_000 }, (_, n): Recorded => {
      const jid = `user${(n * 7) % 13}@localhost/${(n * 5) % 3 === 0 ? 'phone' : 'laptop'}`;
      const present = (n * 2_654_435_761) % 4_294_967_296 < 2_400_000_000;
      last.set(jid.replace(/\/.*/, ''), model.change(jid, present) > 0);
      return presence(jid, present, { n });
    });
    await mongoose.publish(...changes);
    const status = new Map<string, boolean>();
    let taken = 0;
    let cuts = 0;
    const receive: Receive = async ({ events }) => {
      for (const event of events)
        if (!isMalformed(event) && event.kind === 'presence')
          status.set(event.jid.replace(/\/.*/, ''), (event.sessions ?? 0) > 0);
      // Often enough before a batch is kept, and after it.
      if (taken++ % 3 === 1) {
        cuts++;
        cutAll()?.catch(() => {});
      }
      await sleep(taken % 20);
      return RECEIPT;
    };
    const taps = [tapOn(rabbit, vhost), tapOn(rabbit, vhost)];
    for (const tap of taps) await tap.start(receive);
    await until('the end', async () => (await messagesIn(rabbit, vhost)) === 0);
    for (const tap of taps) await tap.stop();
    assert.ok(cuts >= 2, `${cuts} cuts`);
    assert.deepEqual(status, last);
    const connection = await connectOnce(rabbit.url(vhost));
    const { sessions } = await openLedger(connection, ledgerOf(QUEUE), () => {});
    assert.deepEqual(new Map(sessions.entries()), new Map(model.entries()));
    await closeConnection(connection);
  });

  it('skips redelivered presence that was counted, and passes on messages', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const hello = chat('alice@localhost/phone', 'bob@localhost', 'hello');
    await mongoose.publish(phone(true), hello, laptop(true));
    // As a daemon that counted the first one and ended before it acknowledged anything.
    const connection = await connectOnce(rabbit.url(vhost));
    const channel = await openChannel(connection);
    const seen: string[] = [];
    await channel.consume(QUEUE, (message) => message && seen.push(fingerprintOf(message)));
    await until('the messages', () => seen.length === 3);
    const ledger = await openLedger(connection, ledgerOf(QUEUE), () => {});
    await ledger.append([['alice@localhost/phone', 1]], seen.slice(0, 1));
    await closeConnection(connection);
    const taken = collect();
    const tap = tapOn(rabbit, vhost);
    await tap.start(taken.receive);
    await until('the others', () => taken.events.length === 2);
    assert.deepEqual([taken.presence(), taken.bodies()], [['laptop+ 2'], ['hello']]);
    await tap.stop();
  });

  it("returns events to the queue in order if they can't be kept, for another daemon", async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const [full, other] = [collect(), collect()];
    full.before = async () => {
      throw new PusherError('OUTBOX_FULL', 'the outbox is full');
    };
    const [first, second] = [tapOn(rabbit, vhost, { giveUpMs: 0 }), tapOn(rabbit, vhost)];
    await first.start(full.receive);
    await second.start(other.receive);
    await mongoose.publish(...numbered(0, 100));
    await until('the other daemon', () => other.bodies().length === 100);
    assert.deepEqual(
      other.bodies(),
      Array.from({ length: 100 }, (_, n) => `${n}`),
    );
    await Promise.all([first.stop(), second.stop()]);
  });

  it('a dry run takes nothing from other readers, and leaves nothing behind', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const [real, dry] = [collect(), collect()];
    const [tap, looking] = [tapOn(rabbit, vhost), tapOn(rabbit, vhost, { temporary: true })];
    await tap.start(real.receive);
    await looking.start(dry.receive);
    await mongoose.publish(phone(true), ...numbered(0, 3));
    for (const { presence, bodies } of [real, dry]) {
      await until('all of them', () => bodies().length === 3);
      assert.deepEqual(presence(), ['phone+ 1']);
    }
    await Promise.all([tap.stop(), looking.stop()]);
    const queues = await rabbit.nodes[0]?.evaluate(`length(rabbit_amqqueue:list(<<"${vhost}">>)).`);
    assert.equal(queues, '2');
  });

  it('keeps the ledger short', async () => {
    const vhost = await rabbit.vhost();
    const connection = await connectOnce(rabbit.url(vhost));
    await declareQueue(await openChannel(connection), 'ledger');
    const ledger = await openLedger(connection, 'ledger', () => {}, 1_000);
    for (let n = 0; n < 100; n++) {
      ledger.sessions.change(`user${n % 10}@localhost/r`, true);
      await ledger.append(
        [[`user${n % 10}@localhost/r`, ledger.sessions.count(`user${n % 10}@localhost/r`)]],
        [`${n}`],
      );
    }
    const length = await messagesIn(rabbit, vhost, 'ledger');
    assert.ok(length < 30, `${length} records`);
    await closeConnection(connection);
    const next = await connectOnce(rabbit.url(vhost));
    const read = await openLedger(next, 'ledger', () => {});
    assert.deepEqual([read.sessions.size, read.sessions.ofUser('user3@localhost'), read.seen.length], [10, 10, 100]);
    await closeConnection(next);
  });

  it('reports the backlog, the reading daemon, and the address', async () => {
    const vhost = await rabbit.vhost();
    await using mongoose = await mongooseOn(rabbit, vhost);
    const taken = collect();
    const { promise, resolve } = Promise.withResolvers<void>();
    taken.before = () => promise;
    const tap = tapOn(rabbit, vhost);
    await mongoose.publish(phone(true), ...numbered(0, 4));
    await tap.start(taken.receive);
    await until('the depth', () => tap.state().waiting === 5 && tap.state().note !== 'stands by');
    const { at, note, problem } = tap.state();
    assert.deepEqual([at, problem], [`amqp://127.0.0.1:${rabbit.nodes[0]?.port}/${vhost} queue ${QUEUE}`, undefined]);
    assert.equal(note, 'reads; 1 session online');
    const other = tapOn(rabbit, vhost);
    await other.start(taken.receive);
    await until('the other one', () => other.state().note === 'stands by');
    resolve();
    await until('nothing waits', () => tap.state().waiting === 0);
    await Promise.all([tap.stop(), other.stop()]);
  });
});
