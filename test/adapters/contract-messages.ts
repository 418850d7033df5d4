/**
 * The contract's part about messages: the text of the right element, stanzas of any depth and size, and no message that
 * the server refused to its own user.
 */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { Element } from 'ltx';
import type { Collector } from '../support/collector.ts';
import { until } from '../support/process.ts';
import type { Rig } from '../support/rig.ts';
import type { XmppServer } from '../support/server.ts';
import { type Client, connect, message, settle, xml } from '../support/xmpp.ts';
import { eventsOf, expectEvents, someone } from './contract.ts';

const to = 'bob@localhost';
const chat = (client: Client, body: string) => `chat ${client.jid} > ${to}: ${body}`;

/** Children of a message, and the text to expect. */
const BODIES: readonly (readonly [text: string, ...children: Element[]])[] = [
  ['after a foreign one', xml('body', { xmlns: 'urn:foo' }, 'foreign'), xml('body', {}, 'after a foreign one')],
  ['See  now', xml('body', {}, 'See ', xml('a', { href: 'https://example.org' }, 'this link'), ' now')],
  ['', xml('body', {}, xml('a', {}, 'only inside'))],
  ['the first', xml('body', {}, 'the first'), xml('body', { 'xml:lang': 'de' }, 'der zweite')],
  [
    'not the one inside',
    xml('x', { xmlns: 'urn:x' }, xml('body', { xmlns: 'jabber:client' }, 'inside')),
    xml('body', {}, 'not the one inside'),
  ],
  [
    'not the formatted one',
    xml(
      'html',
      { xmlns: 'http://jabber.org/protocol/xhtml-im' },
      xml('body', { xmlns: 'http://www.w3.org/1999/xhtml' }, xml('p', {}, 'formatted')),
    ),
    xml('body', {}, 'not the formatted one'),
  ],
  ['named', xml('body', { xmlns: 'jabber:client' }, 'named')],
  ['with a prefix', xml('c:body', { 'xmlns:c': 'jabber:client' }, 'with a prefix')],
  ['not the prefixed one', xml('f:body', { 'xmlns:f': 'urn:foo' }, 'foreign'), xml('body', {}, 'not the prefixed one')],
  ['around it', xml('body', {}, 'around', xml('body', {}, 'inside'), ' it')],
];

/** Nested elements. */
function nested(depth: number): Element {
  let element = xml('deep');
  for (let level = 1; level < depth; level++) element = xml('deep', {}, element);
  element.attrs.xmlns = 'urn:deep';
  return element;
}

let requests = 0;

/** Blocks an address, also for the user's own messages (XEP-0191). */
async function block(client: Client, jid: string): Promise<void> {
  const id = `block${++requests}`;
  const item = xml('block', { xmlns: 'urn:xmpp:blocking' }, xml('item', { jid }));
  await client.send(xml('iq', { type: 'set', id }, item));
  await until('the block', () =>
    client.received.some((s) => s.is('iq') && s.attrs.id === id && s.attrs.type === 'result'),
  );
}

/** @param rig with a server that has block lists */
export function messagesContract(rig: Rig<XmppServer>): void {
  describe('messages', () => {
    let tap: Collector;
    let server: XmppServer;
    let alice: Client;
    before(() => {
      ({ tap, server } = rig);
    });
    const login = async () => {
      alice = await connect(server, someone('alice'), 'phone', { available: false });
    };
    const expect = (...bodies: string[]) =>
      expectEvents(
        server,
        tap,
        [alice.bare],
        bodies.map((body) => chat(alice, body)),
      );

    test("the text is the direct text of the first body in the stream's namespace", async () => {
      await login();
      for (const [, ...children] of BODIES) await message(alice, { to, extra: children });
      await message(alice, { to, extra: [xml('body', { xmlns: 'urn:foo' }, 'only a foreign one')] });
      await expect(...BODIES.map(([text]) => text));
      await alice.closeStream();
    });

    test('a message of 400,000 tabs arrives', async () => {
      await login();
      await message(alice, { to, body: '\t'.repeat(400_000) });
      await expect('\t'.repeat(400_000));
      await alice.closeStream();
    });

    test('sends a stanza nested 500 deep, omits a deeper one, and the server survives', async () => {
      await login();
      tap.anyStanza = true;
      // The message itself counts as the first level.
      for (const depth of [500, 501, 3_000]) {
        await message(alice, { to: 'nobody@localhost', body: `${depth}`, extra: [nested(depth - 1)] });
      }
      await settle(alice);
      const messages = () => eventsOf(tap, alice.bare).filter((event) => event.kind === 'message');
      await tap.wait('the messages', () => messages().length === 3);
      tap.anyStanza = false;
      assert.deepEqual(
        messages().map(({ body, stanza }) => [body, stanza?.includes('<deep')]),
        [
          ['500', true],
          ['501', undefined],
          ['3000', undefined],
        ],
      );
      await alice.closeStream();
    });

    test("publishes no message that the sender's own block list refuses, but one that the recipient's refuses", async () => {
      await login();
      const bob = await connect(server, someone('bob'), 'phone', { available: false });
      await block(alice, 'blocked@localhost');
      await block(bob, alice.bare);
      await message(alice, { to: 'blocked@localhost', body: 'refused' });
      await message(alice, { to: bob.bare, body: 'not wanted' });
      await expectEvents(server, tap, [alice.bare], [`chat ${alice.jid} > ${bob.bare}: not wanted`]);
      await alice.closeStream();
      await bob.closeStream();
    });
  });
}
