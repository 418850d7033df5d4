/** Which messages Prosody's adapter publishes, very large messages, and Prosody's statistics. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { luaString } from '../../src/quote.ts';
import { type Collector, startCollector } from '../support/collector.ts';
import { until } from '../support/process.ts';
import { type Prosody, startProsody } from '../support/prosody.ts';
import { type Client, connect, join, message, post, settle, xml } from '../support/xmpp.ts';
import { eventsOf, expectEvents, fence, ODD_HOST, someone } from './contract.ts';

const to = 'bob@localhost';

const FIREWALL = `
%RATE flood: 2 (burst 1)

::preroute
KIND: message
INSPECT: body#~=^firewall bounces
BOUNCE=not-allowed

KIND: message
INSPECT: body#~=^firewall drops
DROP.

KIND: message
INSPECT: body#~=^flood
LIMIT: flood on $<@from|bare>
BOUNCE=policy-violation (too many)

::deliver
KIND: message
INSPECT: body#~=^dropped on arrival
DROP.
`;

/** A typical filter, which leaves its priority to the server. */
const FILTER = `
local st = require "util.stanza";
for _, kind in ipairs { "bare", "full", "host" } do
	module:hook("pre-message/"..kind, function (event)
		local body = event.stanza:get_child_text("body");
		if body == "filter bounces" then
			event.origin.send(st.error_reply(event.stanza, "modify", "policy-violation"));
			return true;
		elseif body == "filter swallows" then
			return true;
		end
	end);
end
`;

describe('prosody: which messages are published', () => {
  let tap: Collector;
  let server: Prosody;
  let alice: Client;
  before(async () => {
    tap = await startCollector();
    server = await startProsody({
      url: tap.url,
      modules: ['firewall', 'test_filter', 'mam', 'http_openmetrics'],
      files: { 'firewall.pfw': FIREWALL, 'mod_test_filter.lua': FILTER },
      globalSettings:
        'c2s_stanza_size_limit = 8 * 1024 * 1024; statistics = "internal"; statistics_interval = "manual"',
      settings: [
        `VirtualHost ${luaString(ODD_HOST)}`,
        `modules_enabled = { "event_pusher" }; event_pusher_url = "${tap.url}"; event_pusher_secret = "secret"`,
      ].join('\n'),
    });
  });
  beforeEach(async () => {
    alice = await connect(server, someone('alice'), 'phone', { available: false });
  });
  afterEach(() => alice.closeStream());
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await tap[Symbol.asyncDispose]();
  });

  const expect = (...bodies: string[]) =>
    expectEvents(
      server,
      tap,
      [alice.bare],
      bodies.map((body) => `chat ${alice.jid} > ${to}: ${body}`),
    );

  test('delivers the events of a domain with special characters in its name', async () => {
    const client = await connect({ ...server, host: ODD_HOST }, someone('alice'), 'phone', { available: false });
    await message(client, { to, body: 'hello' });
    await expectEvents(server, tap, [client.bare], [`chat ${client.jid} > ${to}: hello`]);
    const [event] = eventsOf(tap, client.bare);
    assert.deepEqual([event?.host, event?.source.split('/')[1]?.split('@')[0]], [ODD_HOST, ODD_HOST]);
    await client.closeStream();
  });

  test('publishes no message that mod_firewall or another module refuses before routing; others without marks', async () => {
    for (const body of [
      'firewall bounces it',
      'firewall drops it',
      'filter bounces',
      'filter swallows',
      'let through',
    ]) {
      await message(alice, { to, body });
    }
    await expect('let through');
    // mod_mam's mark for the sender's own archive must not be published.
    const [event] = eventsOf(tap, alice.bare);
    assert.ok(event?.kind === 'message' && !event.stanza?.includes('stanza-id'), JSON.stringify(event));
  });

  test('publishes of a flood only the messages that a rate limit passes', async () => {
    const ids = Array.from({ length: 30 }, (_, index) => `flood ${index}`);
    for (const id of ids) await post(alice, { to, body: id, id });
    await settle(alice);
    const refused = alice.received.filter(({ attrs }) => attrs.type === 'error').map(({ attrs }) => attrs.id);
    assert.ok(refused.length > 10, `${refused.length} refused`);
    await expect(...ids.filter((id) => !refused.includes(id)));
  });

  test('publishes messages refused later: by a rule on arrival, for nobody, without voice', async () => {
    await message(alice, { to, body: 'dropped on arrival' });
    await expect('dropped on arrival');
    const room = `${someone('room')}@${server.mucHost}`;
    await join(alice, room, 'al');
    const guest = await connect(server, someone('guest'), 'phone', { available: false });
    await join(guest, room, 'guest');
    const item = xml('item', { nick: 'guest', role: 'visitor' });
    await alice.send(
      xml(
        'iq',
        { type: 'set', to: room, id: 'v' },
        xml('query', { xmlns: 'http://jabber.org/protocol/muc#admin' }, item),
      ),
    );
    await until('the voice to be gone', () => alice.received.some((s) => s.is('iq') && s.attrs.id === 'v'));
    await message(guest, { to: room, type: 'groupchat', body: 'without voice' });
    await expectEvents(server, tap, [guest.bare], [`groupchat ${guest.jid} > ${room}: without voice`]);
    await guest.closeStream();
  });

  test('above 3 MiB omits the stanza; an event too large for the tap becomes a hole with its reason', async () => {
    const large = '"'.repeat(600_000);
    for (const body of [large, '"'.repeat(2_200_000), 'after them']) await post(alice, { to, body });
    await settle(alice);
    await expect(large, 'after them');
    const event = eventsOf(tap, alice.bare).find((one) => one.kind === 'message' && one.body === large);
    assert.ok(event?.kind === 'message' && event.stanza === undefined);
    assert.deepEqual(
      tap.holes.map(({ from, to }) => to - from + 1),
      [1],
    );
    assert.match(server.log(), /1 event\(s\) are lost: they are larger than a tap accepts/);
  });

  test("Prosody's statistics count waiting, sent and dropped events", async () => {
    const { boshUrl } = server;
    const read = async () => {
      const text = await (await fetch(new URL('/metrics', boshUrl))).text();
      const of = (name: string) =>
        Number(
          new RegExp(`^prosody_mod_event_pusher__${name}(?:_total)?\\{host="localhost"\\} (\\d+)`, 'm').exec(text)?.[1],
        );
      return { waiting: of('waiting'), sent: of('sent'), dropped: of('dropped') };
    };
    const published = () => tap.events.filter(({ host }) => host === 'localhost').length;
    await fence(server, tap);
    // The adapter counts an event once it has the answer.
    await until('all to be counted', async () => (await read()).waiting === 0);
    assert.deepEqual(await read(), { waiting: 0, sent: published(), dropped: tap.holes.length });
    await tap.refuse();
    await message(alice, { to, body: 'one' });
    await message(alice, { to, body: 'two' });
    assert.equal((await read()).waiting, 2);
    await tap.listen();
    await expect('one', 'two');
    await until('all to be counted', async () => (await read()).waiting === 0);
  });
});
