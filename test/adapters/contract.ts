/**
 * The tap protocol's requirements for adapters, as tests that run unchanged against every XMPP server.
 *
 * Expected events are derived from what the clients did. Each test has its own users and compares only their events, so
 * that tests can share a server. One long list, on purpose: it is the contract, which an adapter's author reads as a
 * whole.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Element, parse } from 'ltx';
import { type CollectedEvent, type Collector, type Fault, startCollector } from '../support/collector.ts';
import { until } from '../support/process.ts';
import type { Rig } from '../support/rig.ts';
import type { StartServer, XmppServer } from '../support/server.ts';
import { type Client, connect, join, message, post, presence, settle, xml } from '../support/xmpp.ts';

let users = 0;
/** A name that is unique to the test. */
export const someone = (name: string) => `${name}${++users}`;

/** A domain with characters that are special somewhere: in JSON, XML, configuration files, formats, patterns, paths. */
export const ODD_HOST = `o'b"r\\i%e~sn&*$(id).example`;

/** An event in one line: `+alice@localhost/phone 1` (online, sessions after it), `chat <from> > <to>: <body>`. */
export function inShort(event: CollectedEvent): string {
  if (event.kind === 'message') return `${event.type} ${event.from} > ${event.to}: ${event.body}`;
  return `${event.present ? '+' : '-'}${event.jid} ${event.sessions}`;
}

const subject = (event: CollectedEvent) => (event.kind === 'presence' ? event.jid : event.from);

export const eventsOf = (tap: Collector, ...bareJids: string[]) =>
  tap.events.filter((event) => bareJids.includes(subject(event).split('/')[0]!));

/** Waits until the events of everything so far have arrived, because a later one has. */
export async function fence(server: XmppServer, tap: Collector): Promise<void> {
  const marker = await connect(server, someone('marker'), 'r');
  await marker.logout();
  await tap.wait(`the events of ${marker.jid}`, () => eventsOf(tap, marker.bare).length === 2, 30_000);
}

/** Waits until these users' events have arrived and no more can follow, then compares them. */
export async function expectEvents(
  server: XmppServer,
  tap: Collector,
  bareJids: string[],
  expected: string[],
): Promise<void> {
  const enough = () => eventsOf(tap, ...bareJids).length >= expected.length;
  await tap.wait(`${expected.length} events of ${bareJids.join(', ')}`, enough, 30_000);
  await fence(server, tap);
  assert.deepEqual(eventsOf(tap, ...bareJids).map(inShort), expected);
}

/** Checks that each session went online and offline alternately and no number is missing. */
export function expectSound(tap: Collector): void {
  tap.check();
  assert.deepEqual(tap.holes, []);
  const online = new Map<string, boolean>();
  for (const event of tap.events) {
    if (event.kind !== 'presence') continue;
    assert.notEqual(online.get(event.jid) ?? false, event.present, `twice the same: ${inShort(event)}`);
    online.set(event.jid, event.present);
  }
}

/** An element without the stream's own namespace. */
function shape(element: Element | string | undefined): unknown {
  if (typeof element !== 'object') return element;
  const { xmlns, ...attrs } = element.attrs;
  return {
    name: element.name,
    xmlns: xmlns === 'jabber:client' ? undefined : xmlns,
    attrs,
    in: element.children.map(shape),
  };
}

/** @param rig with `resumeSeconds` and `answerSeconds` of a few seconds */
export function sessionsContract(rig: Rig<XmppServer>): void {
  describe('sessions and messages', () => {
    let tap: Collector;
    let server: XmppServer;
    before(() => {
      ({ tap, server } = rig);
    });

    const expect = (bareJids: string[], expected: string[]) => expectEvents(server, tap, bareJids, expected);

    test('a login and a logout each make one event', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      await alice.logout();
      await expect([alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
    });

    test('a session that never sends presence makes no event', async () => {
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      await alice.closeStream();
      await expect([alice.bare], []);
    });

    test('a broken connection makes the session offline', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      alice.cut();
      await expect([alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
    });

    test('a stream closed without unavailable presence makes the session offline', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      await alice.closeStream();
      await expect([alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
    });

    test('a session cut and resumed makes no event', async () => {
      const alice = await connect(server, someone('alice'), 'phone', { smacks: true });
      alice.cut();
      assert.equal(await alice.resume(), true);
      await message(alice, { to: 'bob@localhost', body: 'still here' });
      await alice.logout();
      await expect(
        [alice.bare],
        [`+${alice.jid} 1`, `chat ${alice.jid} > bob@localhost: still here`, `-${alice.jid} 0`],
      );
    });

    test('a session cut and never resumed goes offline after its timeout', async () => {
      const alice = await connect(server, someone('alice'), 'phone', { smacks: true });
      alice.cut();
      await expect([alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
    });

    test('counts the sessions of two devices', async () => {
      const user = someone('alice');
      const phone = await connect(server, user, 'phone');
      const laptop = await connect(server, user, 'laptop');
      await presence(phone, 'unavailable');
      await presence(laptop, 'unavailable');
      await expect([phone.bare], [`+${phone.jid} 1`, `+${laptop.jid} 2`, `-${phone.jid} 1`, `-${laptop.jid} 0`]);
      await phone.closeStream();
      await laptop.closeStream();
    });

    test('a session can become unavailable and available again', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      await presence(alice, 'unavailable');
      await presence(alice, 'unavailable');
      await presence(alice);
      await alice.logout();
      await expect([alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`, `+${alice.jid} 1`, `-${alice.jid} 0`]);
    });

    test('a session replaced by another one of the same resource goes offline', async () => {
      const user = someone('alice');
      await connect(server, user, 'phone');
      const second = await connect(server, user, 'phone');
      await second.logout();
      const { jid } = second;
      await expect([second.bare], [`+${jid} 1`, `-${jid} 0`, `+${jid} 1`, `-${jid} 0`]);
    });

    test('presence updates and directed presence make no events', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      const to = 'bob@localhost';
      await presence(alice, undefined, xml('show', {}, 'away'), xml('priority', {}, '5'));
      await presence(alice, undefined, xml('priority', {}, '-1'));
      await alice.send(xml('presence', { to }));
      await alice.send(xml('presence', { to, type: 'unavailable' }));
      await alice.send(xml('presence', { to, type: 'subscribe' }));
      await alice.logout();
      await expect([alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
    });

    test('publishes private messages to a bare and a full address, to oneself, to another domain, to nobody', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      const bob = await connect(server, someone('bob'), 'laptop');
      await message(alice, { to: bob.bare, body: 'one', id: 'm1' });
      await message(alice, { to: bob.jid, body: 'two' });
      await message(alice, { to: alice.bare, body: 'three' });
      await message(alice, { to: 'carol@elsewhere.invalid', body: 'four' });
      await message(alice, { to: 'nobody@localhost', body: 'five' });
      await message(bob, { to: alice.jid, body: 'six' });
      await expect(
        [alice.bare, bob.bare],
        [
          `+${alice.jid} 1`,
          `+${bob.jid} 1`,
          `chat ${alice.jid} > ${bob.bare}: one`,
          `chat ${alice.jid} > ${bob.jid}: two`,
          `chat ${alice.jid} > ${alice.bare}: three`,
          `chat ${alice.jid} > carol@elsewhere.invalid: four`,
          `chat ${alice.jid} > nobody@localhost: five`,
          `chat ${bob.jid} > ${alice.jid}: six`,
        ],
      );
      const [one] = eventsOf(tap, alice.bare).filter((event) => event.kind === 'message');
      assert.equal(one?.stanza_id, 'm1');
      await alice.logout();
      await bob.logout();
    });

    test('a room of three makes one event for a message, from the sender, not the occupant', async () => {
      const room = `${someone('room')}@${server.mucHost}`;
      const clients: Client[] = [];
      for (const nick of ['ann', 'ben', 'cem']) {
        const client = await connect(server, someone(nick), 'phone');
        await join(client, room, nick);
        clients.push(client);
      }
      const [ann, ben, cem] = clients as [Client, Client, Client];
      await message(ann, { to: room, type: 'groupchat', body: 'hello all' });
      const hasIt = (client: Client) =>
        client.received.some((s) => s.is('message') && s.getChildText('body') === 'hello all');
      await until('everybody has it', () => clients.every(hasIt));
      await message(ben, { to: `${room}/ann`, body: 'hello ann' });
      await message(cem, { to: room, type: 'groupchat', extra: [xml('subject', {}, 'a subject')] });
      await expect(
        [ann.bare, ben.bare, cem.bare],
        [
          ...clients.map((client) => `+${client.jid} 1`),
          `groupchat ${ann.jid} > ${room}: hello all`,
          `chat ${ben.jid} > ${room}/ann: hello ann`,
        ],
      );
      for (const client of clients) await client.logout();
    });

    test('a message without a body, or of another type, makes no event; one with an empty body does', async () => {
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      const to = 'bob@localhost';
      await message(alice, { to, extra: [xml('composing', { xmlns: 'http://jabber.org/protocol/chatstates' })] });
      await message(alice, { to, type: 'normal', body: 'normal' });
      await message(alice, { to, type: 'headline', body: 'headline' });
      await message(alice, { to, type: 'error', body: 'error' });
      await alice.send(xml('message', { to }, xml('body', {}, 'no type')));
      await message(alice, { to, body: '' });
      await expect([alice.bare], [`chat ${alice.jid} > ${to}: `]);
      await alice.closeStream();
    });

    test('the event has the stanza as its recipient gets it, with any content', async () => {
      const nasty = `<a> & "b" 'c' \\ \n\t é😀`;
      const alice = await connect(server, someone('alice'), `<a> & "b" 'c' \\ é`, { available: false });
      const bob = await connect(server, someone('bob'), 'phone');
      const carol = await connect(server, someone('carol'), `d'or & "e" \\`);
      const stanzas = [
        xml('message', { to: bob.jid, type: 'chat' }, xml('body', {}, 'plain')),
        xml('message', { to: carol.jid, type: 'chat', id: nasty }, xml('body', {}, nasty)),
        xml('message', { to: bob.jid, type: 'chat', id: 'm', 'xml:lang': 'de' }, xml('body', {}, nasty)),
        xml('message', { to: bob.jid, type: 'chat', odd: nasty }, xml('body', {}, '')),
        xml('message', { to: carol.jid, type: 'chat' }, xml('body', { 'xml:lang': 'de' }, 'a body with an attribute')),
        xml(
          'message',
          { to: bob.jid, type: 'chat', id: 'n' },
          xml('body', {}, nasty),
          xml('request', { xmlns: 'urn:xmpp:receipts' }),
          xml('x', { xmlns: 'urn:example:x', 'xmlns:p': 'urn:example:p', 'p:q': nasty }, xml('y', {}, nasty), nasty),
        ),
      ];
      for (const stanza of stanzas) await alice.send(stanza);
      await tap.wait('the messages', () => eventsOf(tap, alice.bare).length === stanzas.length);
      const messages = ({ received }: Client) => received.filter((stanza) => stanza.is('message'));
      await until('them to have come', () => messages(bob).length + messages(carol).length === stanzas.length);
      const told = eventsOf(tap, alice.bare).filter((event) => event.kind === 'message');
      assert.deepEqual(
        told.map(({ from, to }) => [from, to]),
        stanzas.map(({ attrs }) => [alice.jid, attrs.to]),
      );
      for (const one of [bob, carol]) {
        const toOne = told.filter(({ to }) => to === one.jid).map(({ stanza }) => parse(stanza ?? ''));
        assert.deepEqual(toOne.map(shape), messages(one).map(shape));
      }
      await alice.closeStream();
      await bob.logout();
      await carol.logout();
    });

    test('any text arrives unchanged', async () => {
      const texts = [
        'quotes " and \' and \\ and \\n',
        'line\nbreak\ttab',
        '<body> & ]]> &amp; &#x41;',
        'Grüße, 日本語, עברית, 😀👩‍👩‍👧',
        'a\u2028b\u0085c\u007fd\ufffde',
        'é'.repeat(20_000),
        ' ',
      ];
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      for (const body of texts) await post(alice, { to: 'bob@localhost', body });
      await settle(alice);
      await expect(
        [alice.bare],
        texts.map((body) => `chat ${alice.jid} > bob@localhost: ${body}`),
      );
      await alice.closeStream();
    });

    for (const via of ['websocket', 'bosh'] as const) {
      test(`publishes presence and messages of a client over ${via}`, async () => {
        const user = someone('alice');
        const one = await connect(server, user, 'one', { via });
        const two = await connect(server, user, 'two', { via });
        await message(one, { to: two.jid, body: `hello over ${via} 😀` });
        await one.logout();
        await two.closeStream();
        await expect(
          [one.bare],
          [
            `+${one.jid} 1`,
            `+${two.jid} 2`,
            `chat ${one.jid} > ${two.jid}: hello over ${via} 😀`,
            `-${one.jid} 1`,
            `-${two.jid} 0`,
          ],
        );
      });
    }

    test('a WebSocket that closes without a close frame makes the session offline', async () => {
      const alice = await connect(server, someone('alice'), 'web', { via: 'websocket' });
      alice.cut();
      await expect([alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
    });

    /** Sends messages while the tap misbehaves, repairs the tap, and expects all messages in order. */
    async function through(fault: Fault, misbehaved: () => boolean, count = 5): Promise<void> {
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      const bodies = Array.from({ length: count }, (_, index) => `message ${index}`);
      tap.fault = fault;
      try {
        for (const body of bodies) await post(alice, { to: 'bob@localhost', body });
        await settle(alice);
        await tap.wait(`the tap to misbehave: ${fault.kind}`, misbehaved, 30_000);
      } finally {
        tap.fault = undefined;
      }
      await expect(
        [alice.bare],
        bodies.map((body) => `chat ${alice.jid} > bob@localhost: ${body}`),
      );
      await alice.closeStream();
    }

    const answers = (status: number) => tap.requests.filter((request) => request.status === status).length;

    test('keeps and resends a batch after a 503', () =>
      through({ kind: 'status', status: 503, retryAfter: 1 }, () => answers(503) > 1));

    test('keeps and resends a batch after an unknown status', () =>
      through({ kind: 'status', status: 500 }, () => answers(500) > 1));

    for (const status of [400, 401, 403]) {
      test(`keeps, logs and resends a batch after a ${status}`, async () => {
        await through({ kind: 'status', status }, () => answers(status) > 1);
        await until('the log line', () => server.log().includes(String(status)));
      });
    }

    test("keeps, logs and resends a batch after a 200 that is not the daemon's", async () => {
      const before = answers(200);
      await through({ kind: 'page' }, () => answers(200) > before + 1);
      await until('the log line', () => server.log().includes("status 200, but not the daemon's answer"));
    });

    test('reads an answer in pieces and without its length to the end', async () => {
      const [before, { duplicates }] = [answers(200), tap];
      await through({ kind: 'pieces' }, () => answers(200) > before);
      assert.equal(tap.duplicates, duplicates, 'nothing is sent again');
    });

    test('waits for the answer after 100 Continue and 102 Processing', async () => {
      const [before, { duplicates }] = [answers(200), tap];
      await through({ kind: 'interim' }, () => answers(200) > before);
      assert.equal(tap.duplicates, duplicates, 'nothing is sent again');
    });

    test('sends smaller batches after a 413', () =>
      through({ kind: 'too-large', above: 3 }, () => answers(413) > 0, 100));

    test('resends a batch without an answer', () => {
      const unanswered = answers(0);
      return through({ kind: 'hang' }, () => answers(0) > unanswered);
    });

    test('resends events under the same numbers after a lost answer', () => {
      const { duplicates } = tap;
      return through({ kind: 'lost-answer' }, () => tap.duplicates > duplicates);
    });

    test('resends events under the same numbers after an answer lost once, on a connection in use', async () => {
      await fence(server, tap);
      const { duplicates } = tap;
      await through({ kind: 'lost-answer', once: true }, () => tap.duplicates > duplicates);
      assert.doesNotMatch(server.log(), /backup or snapshot/);
    });

    test('logs the reason of a refused event, not its text, and delivers the others', async () => {
      await through({ kind: 'reject', index: 0, reason: 'no such moon phase' }, () =>
        server.log().includes('no such moon phase'),
      );
      assert.ok(!server.log().includes('message 0'));
    });

    test('delivers everything later and in order after refused connections', async () => {
      await tap.refuse();
      const user = someone('alice');
      const phone = await connect(server, user, 'phone');
      const laptop = await connect(server, user, 'laptop');
      await message(phone, { to: laptop.jid, body: 'anybody there?' });
      await phone.logout();
      await laptop.logout();
      await tap.listen();
      await expect(
        [phone.bare],
        [
          `+${phone.jid} 1`,
          `+${laptop.jid} 2`,
          `chat ${phone.jid} > ${laptop.jid}: anybody there?`,
          `-${phone.jid} 1`,
          `-${laptop.jid} 0`,
        ],
      );
    });

    test('over all tests no number is missing, and no session goes online or offline twice', () => expectSound(tap));
  });
}

export function endsContract(rig: Rig<XmppServer>): void {
  describe('the server ends and begins', () => {
    let tap: Collector;
    let server: XmppServer;
    before(() => {
      ({ tap, server } = rig);
    });

    test('stopping the server sends one offline event for each open session', async () => {
      const user = someone('alice');
      const clients = [
        await connect(server, user, 'tcp'),
        await connect(server, user, 'smacks', { smacks: true }),
        await connect(server, user, 'websocket', { via: 'websocket' }),
        await connect(server, user, 'bosh', { via: 'bosh' }),
        await connect(server, user, 'hibernating', { smacks: true }),
      ];
      clients.at(-1)!.cut();
      const jids = clients.map((client) => client.jid);
      const told = () => eventsOf(tap, clients[0]!.bare).map(inShort);
      await server.stop();
      await server.start();
      await tap.wait('five offline', () => told().length >= 10, 30_000);
      await fence(server, tap);
      assert.deepEqual(
        told().slice(0, 5),
        jids.map((jid, index) => `+${jid} ${index + 1}`),
      );
      // The server chooses the order of the ends, but the counts must go down to 0.
      const [ended, counts] = [0, 1].map((part) =>
        told()
          .slice(5)
          .map((line) => line.split(' ')[part]!),
      );
      assert.deepEqual(ended!.toSorted(), jids.map((jid) => `-${jid}`).toSorted());
      assert.deepEqual(counts, ['4', '3', '2', '1', '0']);
    });

    test('a kill with 50 open sessions makes each offline once, before any session of the next start is online', async () => {
      const sessions: Client[] = [];
      for (let index = 0; index < 25; index++) {
        const user = someone('user');
        for (const resource of ['a', 'b']) sessions.push(await connect(server, user, resource));
      }
      const ended = await connect(server, someone('gone'), 'r');
      await ended.logout();
      await fence(server, tap);
      const seen = tap.events.length;
      await server.kill();
      await server.start();
      const [first] = sessions;
      const returned = await connect(server, first!.bare.split('@')[0]!, 'a');
      await returned.logout();
      await fence(server, tap);
      const offline = tap.events.slice(seen, seen + 50);
      assert.deepEqual(offline.map(subject).sort(), sessions.map(({ jid }) => jid).sort());
      const told = (bare: string) =>
        eventsOf(tap, bare).map(
          (event) => event.kind === 'presence' && `${event.present ? '+' : '-'}${event.sessions}`,
        );
      const states = ['+1', '+2', '-1', '-0'];
      for (const { bare } of sessions) {
        assert.deepEqual(told(bare), bare === returned.bare ? [...states, '+1', '-0'] : states);
      }
    });

    test('a second kill right afterwards sends nothing twice', async () => {
      await server.kill();
      await server.start();
      await fence(server, tap);
      expectSound(tap);
    });

    test('delivers everything in order after stops and kills of the server without a tap', async () => {
      await tap.refuse();
      const text = 'before the stop: "\\ \n \u007f \u2028 😀';
      const alice = await connect(server, someone('alice'), 'phone');
      await message(alice, { to: 'bob@localhost', body: text });
      await server.stop();
      await server.start();
      const carol = await connect(server, someone('carol'), 'phone');
      await message(carol, { to: 'bob@localhost', body: 'after it' });
      await server.stop();
      await server.start();
      await server.kill();
      await tap.listen();
      await server.start();
      await expectEvents(
        server,
        tap,
        [alice.bare, carol.bare],
        [
          `+${alice.jid} 1`,
          `chat ${alice.jid} > bob@localhost: ${text}`,
          `-${alice.jid} 0`,
          `+${carol.jid} 1`,
          `chat ${carol.jid} > bob@localhost: after it`,
          `-${carol.jid} 0`,
        ],
      );
      const epochs = eventsOf(tap, alice.bare, carol.bare).map(({ epoch }) => epoch);
      assert.equal(new Set(epochs).size, 2, 'each run has its own numbers, and what it left keeps them');
      expectSound(tap);
    });
  });
}

export function fullQueueContract(startServer: StartServer): void {
  describe('a full queue', { concurrency: false }, () => {
    const [queueMax, logSeconds] = [10, 4];
    let tap: Collector;
    let server: XmppServer;
    before(async () => {
      tap = await startCollector();
      server = await startServer({ url: tap.url, queueMax, logSeconds });
    });
    after(async () => {
      await server?.[Symbol.asyncDispose]();
      await tap[Symbol.asyncDispose]();
    });

    test('a full queue drops the newest events, logs it, leaves a hole, and counts sessions correctly', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      const leaving = await connect(server, someone('leaving'), 'phone');
      await fence(server, tap);
      // Until the adapter has the answer, the last batch counts as waiting.
      await settle(alice);
      await tap.refuse();
      for (let index = 1; index <= 15; index++) await post(alice, { to: 'bob@localhost', body: `${index}` });
      await settle(alice);
      await leaving.logout();
      await until('the log to say so', () => /drop/i.test(server.log()));
      await tap.listen();
      const kept = () => eventsOf(tap, alice.bare).filter((event) => event.kind === 'message');
      await tap.wait('ten messages', () => kept().length >= 10, 30_000);
      await fence(server, tap);
      const bodies = Array.from({ length: 10 }, (_, index) => `${index + 1}`);
      assert.deepEqual(
        kept().map((event) => event.body),
        bodies,
      );
      assert.deepEqual(
        tap.holes.map((hole) => hole.to - hole.from + 1),
        [6],
        'five messages and an offline are missing from the numbers',
      );
      await server.kill();
      await server.start();
      await fence(server, tap);
      const dropped = `-${leaving.jid} 0`;
      assert.ok(!tap.events.map(inShort).includes(dropped), 'an offline that was dropped is not made up later');
      assert.equal(eventsOf(tap, alice.bare).map(inShort).at(-1), `-${alice.jid} 0`);
    });

    test('events lost by a full queue at the end of a run or before its first event show as a hole in the next run', async () => {
      const send = async (client: Client, count: number) => {
        for (let number = 0; number < count; number++) await post(client, { to: 'bob@localhost', body: `${number}` });
        await settle(client);
      };
      const login = () => connect(server, someone('alice'), 'phone', { available: false });
      const first = await login();
      await fence(server, tap);
      await settle(first);
      await tap.refuse();
      const [events, holes] = [tap.events.length, tap.holes.length];
      await send(first, queueMax + 4);
      await server.stop();
      await server.start();
      await send(await login(), 2);
      await server.stop();
      await tap.listen();
      await server.start();
      await tap.wait('what the queue held', () => tap.events.length === events + queueMax);
      await fence(server, tap);
      await send(await login(), 2);
      await fence(server, tap);
      const lost = tap.holes.slice(holes).map(({ from, to }) => [from, to]);
      assert.deepEqual(lost, [[2, 1 + 4 + 2]], 'the daemon takes the first number of an epoch for no hole');
      assert.equal(tap.events[events + queueMax]?.seq, 1);
    });

    // In real time: the adapters' own timers run in the server.
    test('logs a full queue at once, then once a period with the number of dropped events', async () => {
      const [burst, bursts] = [7, 3];
      const alice = await connect(server, someone('alice'), 'phone');
      const send = async (count: number) => {
        for (let index = 0; index < count; index++) await post(alice, { to: 'bob@localhost', body: `${index}` });
        await settle(alice);
      };
      await fence(server, tap);
      await settle(alice);
      await tap.refuse();
      await send(queueMax);
      const [begun, logged] = [Date.now(), server.log().length];
      const lines = () =>
        server
          .log()
          .slice(logged)
          .matchAll(/(\d+) event(?:s|\(s\)) dropped/g);
      const told = () => [...lines()].map(([, count]) => Number(count));
      const sum = () => told().reduce((sum, count) => sum + count, 0);
      await send(burst);
      await until('the first line', () => told().length > 0);
      for (let more = 1; more < bursts; more++) {
        // ejabberd's adapter checks once a second whether there is anything to log.
        await sleep(1_500);
        await send(burst);
      }
      await until('the last line', () => sum() >= bursts * burst);
      assert.equal(sum(), bursts * burst);
      const most = 1 + Math.floor((Date.now() - begun) / (logSeconds * 1_000));
      assert.ok(told().length <= most, `${told().length} lines where ${most} may be`);
    });
  });
}
