/** MongooseIM's adapter beyond the recordings, on the stand-in: failures, and unusual input. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import {
  type CollectedMessage,
  type CollectedPresence,
  type Collector,
  type Fault,
  startCollector,
} from '../support/collector.ts';
import { atom, binary, type MongooseIm, map, raw, startMongooseIm, tuple } from '../support/mongooseim.ts';
import { openSession } from '../support/mongooseim-session.ts';
import { until } from '../support/process.ts';
import { someone } from './contract.ts';

describe('MongooseIM', () => {
  let tap: Collector;
  let server: MongooseIm;
  before(async () => {
    tap = await startCollector();
    tap.anyStanza = true;
    const domains = { localhost: 'localhost', 'one.example': 'shared: type', 'two.example': 'shared: type' };
    server = await startMongooseIm({ url: tap.url, handoverMs: 300, domains });
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await tap?.[Symbol.asyncDispose]();
  });

  const of = (bare: string) =>
    tap.events.filter((event) => (event.kind === 'presence' ? event.jid : event.from).startsWith(bare));
  const presence = (bare: string) =>
    of(bare)
      .filter((event): event is CollectedPresence => event.kind === 'presence')
      .map(({ present, jid, sessions }) => `${present ? '+' : '-'}${jid} ${sessions}`);
  const messages = (bare: string) => of(bare).filter((event): event is CollectedMessage => event.kind === 'message');
  const user = (name: string, domain = 'localhost') => `${someone(name)}@${domain}`;
  const open = (bare: string, resource = 'r') => openSession(server, `${bare}/${resource}`);
  const arrived = (bare: string, count: number) =>
    tap.wait(`${count} events of ${bare}`, () => of(bare).length >= count);

  it("waits for the end of a killed process's census before it starts another", async () => {
    const started = await server.call('mongoose_standin', 'start_after', atom('a_census'), raw('"/no/such/claims"'));
    assert.equal(started, 'true');
  });

  it('replaces invalid UTF-8 in a text', async () => {
    const alice = user('alice');
    const session = await open(alice);
    await session.message('bob@localhost', Buffer.from([0x61, 0xff, 0x02, 0x22, 0xc3, 0x5c, 0x00, 0xf0, 0x9f, 0x92]));
    await session.message('bob@localhost', `\u{1f600} "quoted" \\ \n\t`);
    await arrived(alice, 3);
    const [odd, fine] = messages(alice);
    assert.equal(odd?.body, 'a\ufffd\ufffd"\ufffd\\\ufffd\ufffd\ufffd\ufffd');
    assert.equal(fine?.body, '\u{1f600} "quoted" \\ \n\t');
  });

  it('omits a stanza that is too large or too deep, and sends the rest', async () => {
    const alice = user('alice');
    const session = await open(alice);
    const process = raw(`"${session.pid}"`);
    const large = raw(`{copies,${binary('x')},2000000}`);
    await server.call('mongoose_live', 'send', process, binary('bob@localhost'), binary('chat'), large);
    await server.call('mongoose_live', 'send_deep', process, binary('bob@localhost'), raw('600'));
    await arrived(alice, 3);
    for (const { body, stanza } of messages(alice)) {
      assert.notEqual(body, '');
      assert.equal(stanza, undefined);
    }
  });

  it('runs one process for each host type, and events have their own domain', async () => {
    const [one, two] = [user('ann', 'one.example'), user('ben', 'two.example')];
    const [first, second] = [await open(one), await open(two)];
    await first.message(two, 'hello');
    await arrived(one, 2);
    await arrived(two, 1);
    const sources = new Set([...of(one), ...of(two)].map(({ source }) => source));
    assert.equal(sources.size, 1);
    assert.match([...sources].join(), /^mongooseim\/shared: type\//);
    assert.deepEqual([...new Set(of(one).map(({ host }) => host))], ['one.example']);
    assert.deepEqual([...new Set(of(two).map(({ host }) => host))], ['two.example']);
    // A domain added while the server runs.
    const more = { localhost: 'localhost', 'one.example': 'shared: type', 'late.example': 'shared: type' };
    const pairs = Object.entries(more).map(([domain, type]) => `{${binary(domain)},${binary(type)}}`);
    await server.call('mongoose_standin', 'set_domains', raw(`[${pairs.join()}]`));
    const late = user('lea', 'late.example');
    await open(late);
    await arrived(late, 1);
    await Promise.all([first.end(), second.end()]);
  });

  it('accepts a presence that arrives before the session is known', async () => {
    const alice = user('alice');
    await server.call('mongoose_live', 'open_at_once', binary(`${alice}/fast`));
    await open(alice, 'next');
    await arrived(alice, 2);
    assert.deepEqual(presence(alice), [`+${alice}/fast 1`, `+${alice}/next 2`]);
  });

  it('ends a session that waited for a resumption when its user logs in again', async () => {
    const alice = user('alice');
    const session = await open(alice);
    await session.end('{shutdown,resumed}');
    const anew = await open(alice);
    await arrived(alice, 3);
    await anew.end();
    await arrived(alice, 4);
    assert.deepEqual(presence(alice), [`+${alice}/r 1`, `-${alice}/r 0`, `+${alice}/r 1`, `-${alice}/r 0`]);
  });

  it('never raises, and logs no message, whatever a hook is called with', async () => {
    const odd = '#{mongoose_acc => true, stanza => #{type => <<"chat">>, body => <<"a secret word">>}}';
    for (let count = 0; count < 3; count++)
      await server.call('gen_hook', 'run_fold', atom('user_send_message'), binary('localhost'), raw(odd), map({}));
    for (const hook of ['user_available', 'unset_presence', 'user_terminate', 'sm_register_connection']) {
      const params = map({ jid: atom('none'), c2s_data: atom('none'), reason: atom('none') });
      await server.call('gen_hook', 'run_fold', atom(hook), binary('localhost'), raw('#{}'), params);
    }
    const raised = await server.call('gen_hook', 'raised');
    assert.equal(raised, '[]');
    await until('the line in the log', () => server.log().includes('a hook handler failed'));
    assert.doesNotMatch(server.log(), /secret word/);
    assert.equal(server.log().split('a hook handler failed').length, 2, server.log());
  });

  it('reports the remaining sessions if modules stop before sessions, as until 6.2', async () => {
    const alice = user('alice');
    await open(alice);
    await arrived(alice, 1);
    await server.call('mongoose_standin', 'stop_listeners');
    await server.stopModule();
    await tap.wait('its end', () => presence(alice).length === 2);
    assert.deepEqual(presence(alice), [`+${alice}/r 1`, `-${alice}/r 0`]);
  });
});

describe('MongooseIM: what the queue survives', () => {
  it('a kill while the daemon is away loses nothing, and sessions end', async () => {
    await using tap = await startCollector();
    await using server = await startMongooseIm({ url: tap.url });
    const alice = await openSession(server, 'alice@localhost/phone');
    await tap.wait('online', () => tap.events.length === 1);
    await tap.refuse();
    for (let n = 0; n < 200; n++) await alice.message('bob@localhost', `${n}`);
    // A group gathers for 50 ms.
    await new Promise((resolve) => setTimeout(resolve, 500));
    await server.kill();
    await server.start();
    await openSession(server, 'alice@localhost/phone');
    await tap.listen();
    await tap.wait('all of it', () => tap.events.length === 203);
    const bodies = tap.events.flatMap((event) => (event.kind === 'message' ? [event.body] : []));
    assert.deepEqual(
      bodies,
      Array.from({ length: 200 }, (_, n) => `${n}`),
    );
    const told = tap.events.flatMap((event) => (event.kind === 'presence' ? [event.present] : []));
    assert.deepEqual(told, [true, false, true]);
    assert.deepEqual(tap.holes, []);
  });

  it('a full queue drops the newest events, logs it, and leaves a hole', async () => {
    await using tap = await startCollector();
    await using server = await startMongooseIm({ url: tap.url, queueMax: 10 });
    await tap.refuse();
    const alice = await openSession(server, 'alice@localhost/phone');
    for (let n = 0; n < 50; n++) await alice.message('bob@localhost', `${n}`);
    await until('the line in the log', () => /\d events dropped/.test(server.log()));
    await tap.listen();
    await tap.wait('what was kept', () => tap.events.length === 10);
    // Until the adapter has the answer, its queue is full.
    const inbox = tuple(atom('event_pusher_mongooseim'), binary('localhost'));
    await until('it to be empty', async () => (await server.call('event_pusher_inbox', 'held_of', inbox)) === '0');
    await alice.end();
    await tap.wait('the end', () => tap.events.length === 11);
    assert.deepEqual(
      tap.holes.map(({ from, to }) => to - from + 1),
      [41],
    );
  });

  it('everything arrives, once and in order, whatever the tap answers', async () => {
    await using tap = await startCollector();
    await using server = await startMongooseIm({ url: tap.url });
    const alice = await openSession(server, 'alice@localhost/phone');
    await tap.wait('online', () => tap.events.length === 1);
    const faults: Fault[] = [
      { kind: 'status', status: 401 },
      { kind: 'page' },
      { kind: 'lost-answer' },
      { kind: 'too-large', above: 3 },
    ];
    let sent = 0;
    for (const fault of faults) {
      tap.fault = fault;
      const requests = tap.requests.length;
      for (const end = sent + 20; sent < end; sent++) await alice.message('bob@localhost', `${sent}`);
      await tap.wait('a request that meets it', () => tap.requests.length > requests);
      tap.fault = undefined;
      await tap.wait('what was sent', () => tap.events.length === 1 + sent);
    }
    const bodies = tap.events.flatMap((event) => (event.kind === 'message' ? [event.body] : []));
    assert.deepEqual(
      bodies,
      Array.from({ length: sent }, (_, n) => `${n}`),
    );
    assert.deepEqual(tap.holes, []);
  });

  it('an answer lost on a connection in use repeats nothing under another number', async () => {
    await using tap = await startCollector();
    await using server = await startMongooseIm({ url: tap.url });
    const alice = await openSession(server, 'alice@localhost/phone');
    await tap.wait('online', () => tap.events.length === 1);
    await alice.message('bob@localhost', 'first');
    await tap.wait('the first', () => tap.events.length === 2);
    tap.fault = { kind: 'lost-answer', once: true };
    await alice.message('bob@localhost', 'second');
    await tap.wait('the repetition', () => tap.duplicates === 1);
    await alice.message('bob@localhost', 'third');
    await tap.wait('the third', () => tap.events.some((event) => event.kind === 'message' && event.body === 'third'));
    assert.deepEqual(
      tap.events.map(({ epoch, seq }) => [epoch, seq]),
      [1, 2, 3, 4].map((seq) => [tap.events[0]?.epoch, seq]),
    );
    assert.doesNotMatch(server.log(), /backup or snapshot/);
  });

  it("sessions live on through repeated crashes of the adapter's process", async () => {
    await using tap = await startCollector();
    await using server = await startMongooseIm({ url: tap.url });
    const alice = await openSession(server, 'alice@localhost/phone');
    await tap.wait('online', () => tap.events.length === 1);
    for (const process of ['mod_xmpp_event_pusher', 'event_pusher_watch', 'event_pusher_cluster']) {
      const name = atom(`${process}_localhost`);
      const pid = await server.call('erlang', 'whereis', name);
      await server.call('mongoose_standin', 'kill', raw(`"${pid}"`));
      await until(
        'it to be back',
        async () => !['undefined', pid].includes(await server.call('erlang', 'whereis', name)),
      );
    }
    const other = await openSession(server, 'alice@localhost/laptop');
    await tap.wait('a second', () => tap.events.length === 2);
    await alice.kill();
    await tap.wait('the end of a killed one', () => tap.events.length === 3);
    await other.end();
    await tap.wait('the last end', () => tap.events.length === 4);
    const told = tap.events.map((event) => (event.kind === 'presence' ? `${event.jid} ${event.sessions}` : ''));
    const [phone, laptop] = ['alice@localhost/phone', 'alice@localhost/laptop'];
    assert.deepEqual(told, [`${phone} 1`, `${laptop} 2`, `${phone} 1`, `${laptop} 0`]);
  });
});
