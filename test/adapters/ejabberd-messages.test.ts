/**
 * Which messages ejabberd's adapter publishes: all that the server lets its own users send, in any way, and no others.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Collector, startCollector } from '../support/collector.ts';
import { connectComponent } from '../support/component.ts';
import { type EjabberdServer, ejabberdEbin, startEjabberd } from '../support/ejabberd.ts';
import { compileErlang } from '../support/erlang.ts';
import { until } from '../support/process.ts';
import { type Client, connect, message, xml } from '../support/xmpp.ts';
import { eventsOf, expectEvents, ODD_HOST, someone } from './contract.ts';

let ids = 0;

/** Sends a request and waits for its result. */
async function request(client: Client, ...children: ReturnType<typeof xml>[]): Promise<void> {
  const id = `request${++ids}`;
  await client.send(xml('iq', { type: 'set', id }, ...children));
  const answer = () => client.received.find((stanza) => stanza.is('iq') && stanza.attrs.id === id);
  await until('the result', () => answer() !== undefined);
  assert.equal(answer()?.attrs.type, 'result', String(answer()));
}

const COMPONENT = { name: 'gateway.localhost', secret: 'hush' };

/** The message with which a component sends a message in a user's name. */
const privileged = (inner: string, to = 'localhost') => `
  <message from='${COMPONENT.name}' to='${to}'><privilege xmlns='urn:xmpp:privilege:NS'>
  <forwarded xmlns='urn:xmpp:forward:0'>${inner}</forwarded></privilege></message>`;

describe('ejabberd: which messages are published', () => {
  let tap: Collector;
  let server: EjabberdServer;
  before(async () => {
    const filter = await compileErlang([join(import.meta.dirname, 'erlang/mod_test_filter.erl')], [ejabberdEbin!]);
    tap = await startCollector();
    const modules = ['mod_blocking: {}', 'mod_privacy: {}', 'mod_test_filter: {}'];
    server = await startEjabberd({ url: tap.url, beams: [filter], modules, component: COMPONENT });
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await tap[Symbol.asyncDispose]();
  });

  const expect = (client: Client, expected: string[]) => expectEvents(server, tap, [client.bare], expected);

  test('delivers the events of domains with any characters in their names, without a locale', async () => {
    const file = join(server.dir, 'ejabberd.yml');
    const hosts = ['日本語.example', ODD_HOST];
    const listed = JSON.stringify(['localhost', ...hosts]);
    await writeFile(file, (await readFile(file, 'utf8')).replace('hosts: [localhost]', `hosts: ${listed}`));
    await server.api('reload_config');
    for (const host of hosts) {
      const [from, to] = [`${someone('alice')}@${host}`, 'bob@localhost'];
      await server.api('send_message', { type: 'chat', from, to, subject: '', body: 'こんにちは' });
      await expectEvents(server, tap, [from], [`chat ${from} > ${to}: こんにちは`]);
      const [event] = eventsOf(tap, from);
      assert.deepEqual([event?.host, event?.source.split('/')[1]], [host, host]);
      assert.ok((await readdir(join(server.queueDir, '..'))).includes(host));
    }
  });

  test("does not publish a message that the sender's own block list refuses", async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const item = xml('item', { jid: 'blocked@localhost' });
    await request(alice, xml('block', { xmlns: 'urn:xmpp:blocking' }, item));
    await message(alice, { to: 'blocked@localhost', body: 'refused' });
    await message(alice, { to: 'bob@localhost', body: 'let through' });
    await expect(alice, [`chat ${alice.jid} > bob@localhost: let through`]);
  });

  test("does not publish a message that the sender's own privacy list refuses", async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const rule = xml('item', { type: 'jid', value: 'blocked@localhost', action: 'deny', order: '1' }, xml('message'));
    const xmlns = 'jabber:iq:privacy';
    // A rule without a kind of stanza applies to all kinds.
    rule.children = [];
    await request(alice, xml('query', { xmlns }, xml('list', { name: 'mine' }, rule)));
    await request(alice, xml('query', { xmlns }, xml('active', { name: 'mine' })));
    await message(alice, { to: 'blocked@localhost', body: 'refused' });
    await message(alice, { to: 'bob@localhost', body: 'let through' });
    await expect(alice, [`chat ${alice.jid} > bob@localhost: let through`]);
  });

  test('does not publish a message that another module refuses before routing, in any hook', async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    for (const body of ['dropped when sent', 'denied', 'dropped when routed', 'let through']) {
      await message(alice, { to: 'bob@localhost', body });
    }
    await expect(alice, [`chat ${alice.jid} > bob@localhost: let through`]);
  });

  test("publishes a message that the recipient's block list refuses, since the sender's server accepted it", async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const bob = await connect(server, someone('bob'), 'phone', { available: false });
    await request(bob, xml('block', { xmlns: 'urn:xmpp:blocking' }, xml('item', { jid: alice.bare })));
    await message(alice, { to: bob.bare, body: 'not wanted' });
    await expect(alice, [`chat ${alice.jid} > ${bob.bare}: not wanted`]);
  });

  test("publishes a message sent by the server's API in a user's name, with the bare address", async () => {
    const alice = await connect(server, someone('alice'), 'phone');
    const to = 'bob@localhost';
    await server.api('send_message', { type: 'chat', from: alice.bare, to, subject: '', body: 'one' });
    await server.api('send_message', { type: 'chat', from: alice.jid, to, subject: '', body: 'two' });
    const stanza = `<message type='chat' to='${to}'><body>three</body></message>`;
    await server.api('send_stanza', { from: alice.jid, to, stanza });
    await server.api('send_message', { type: 'headline', from: alice.bare, to, subject: '', body: 'no chat' });
    await server.api('send_message', { type: 'chat', from: 'localhost', to, subject: '', body: 'the server' });
    await alice.logout();
    await expect(alice, [
      `+${alice.jid} 1`,
      ...['one', 'two', 'three'].map((body) => `chat ${alice.bare} > ${to}: ${body}`),
      `-${alice.jid} 0`,
    ]);
    assert.deepEqual(eventsOf(tap, 'localhost'), []);
  });

  test('does not publish a message that the API sends to a session', async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const stanza = `<message type='chat' from='${alice.jid}' to='bob@localhost'><body>to the client</body></message>`;
    await server.api('send_stanza_c2s', {
      user: alice.bare.split('@')[0],
      host: 'localhost',
      resource: 'phone',
      stanza,
    });
    await until('the stanza', () => alice.received.some((received) => received.is('message')));
    await expect(alice, []);
  });

  test("publishes a privileged component's message in a user's name, with the bare address", async () => {
    const [alice, bob] = [someone('alice'), someone('bob')].map((user) => `${user}@localhost`) as [string, string];
    await using component = await connectComponent(server.componentPort, COMPONENT.name, COMPONENT.secret);
    await until('the privilege', () => component.received().includes('urn:xmpp:privilege:'));
    // The namespace's version depends on the release.
    const [, namespace] = /urn:xmpp:privilege:(\d)/.exec(component.received()) ?? [];
    const chat = (from: string, body: string) =>
      `<message xmlns='jabber:client' type='chat' from='${from}' to='${bob}'><body>${body}</body></message>`;
    const send = (stanza: string) => component.send(stanza.replace('privilege:NS', `privilege:${namespace}`));
    send(privileged(chat(alice, 'one')));
    send(privileged(chat('mallory@elsewhere.example', 'not of this host')));
    send(chat(`${COMPONENT.name}`, 'in its own name').replace(" xmlns='jabber:client'", ''));
    send(privileged(chat(alice, 'two').replace("'chat'", "'headline'")));
    send(privileged(chat(alice, 'three')));
    await tap.wait('the last one', () => eventsOf(tap, alice).length >= 2);
    await expectEvents(server, tap, [alice], [`chat ${alice} > ${bob}: one`, `chat ${alice} > ${bob}: three`]);
    assert.deepEqual(eventsOf(tap, 'mallory@elsewhere.example', COMPONENT.name), []);
  });

  test("a session's message after the API's has the full address, and vice versa", async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const to = 'bob@localhost';
    for (const body of ['one', 'two']) {
      await message(alice, { to, body });
      await server.api('send_message', { type: 'chat', from: alice.bare, to, subject: '', body: `${body} by the API` });
    }
    await expect(
      alice,
      ['one', 'two'].flatMap((body) => [
        `chat ${alice.jid} > ${to}: ${body}`,
        `chat ${alice.bare} > ${to}: ${body} by the API`,
      ]),
    );
  });
});
