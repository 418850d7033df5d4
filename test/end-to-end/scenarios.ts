/**
 * What people do on an XMPP server, and what a subscriber must receive: the same for every server with an adapter.
 * Expectations are computed from what the clients did, never from the daemon's output.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createDaemon, type Daemon, SECRET, TOPICS } from '../support/daemon.ts';
import { until } from '../support/process.ts';
import type { StartServer, XmppServer } from '../support/server.ts';
import { type Received, type Sns, startSns } from '../support/sns.ts';
import { connect, join, message, post, presence, type ResumableClient, xml } from '../support/xmpp.ts';

type Line = readonly [topic: keyof typeof TOPICS, body: Record<string, unknown>];

const online = (user: string): Line => ['presence', { user_id: user, present: true }];
const offline = (user: string): Line => ['presence', { user_id: user, present: false }];
const pm = (from: string, to: string, text: string): Line => [
  'pm',
  { to_user_id: to, message: text, from_user_id: from },
];
const muc = (from: string, room: string, text: string): Line => [
  'muc',
  { to_user_id: room, message: text, from_user_id: from },
];

export function scenarios(name: string, startServer: StartServer): void {
  describe(`${name}, end to end`, { timeout: 240_000 }, () => {
    let sns: Sns;
    let daemon: Daemon;
    let server: XmppServer;
    let fences = 0;

    before(async () => {
      sns = await startSns(Object.values(TOPICS));
      daemon = await createDaemon(sns, { here: true });
      await daemon.start();
      server = await startServer({ url: daemon.tapUrl, secret: SECRET, resumeSeconds: 2 });
    });
    after(async () => {
      await server?.[Symbol.asyncDispose]();
      await daemon?.[Symbol.asyncDispose]();
      await sns?.[Symbol.asyncDispose]();
    });

    /**
     * Waits until everything so far is published: once a new message has arrived, everything before it is committed,
     * and the outbox is empty.
     */
    async function settled(): Promise<void> {
      const text = `fence ${++fences}`;
      const fence = await connect(server, 'fence', `f${fences}`, { available: false });
      await message(fence, { to: 'fence@localhost', body: text });
      await fence.closeStream();
      const here = async () => {
        await sns.receive(0);
        return sns.received.some(({ body }) => body.message === text);
      };
      await until('the fence to arrive', here, 30_000, 50);
      await until('the outbox to be empty', async () => {
        const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
        const depths = [...metrics.matchAll(/outbox_notifications\{[^}]*\} (\d+)/g)];
        return depths.every(([, depth]) => depth === '0');
      });
      await sns.receive(0);
    }

    /** The notifications about these users, one line each, in order of arrival within each topic. */
    const about = (...users: string[]): Received[] =>
      sns.received.filter(({ body }) => users.includes(String(body.user_id ?? body.from_user_id)));

    /** Asserts that exactly these notifications arrived about these users, in this order within each topic. */
    async function arrived(users: string[], expected: readonly Line[]): Promise<void> {
      await settled();
      for (const [kind, topic] of Object.entries(TOPICS)) {
        const got = about(...users).filter((received) => received.topic === topic);
        const wanted = expected.filter(([line]) => line === kind);
        assert.deepEqual(
          got.map(({ body }) => JSON.stringify(body)),
          wanted.map(([, body]) => JSON.stringify(body)),
        );
      }
    }

    it('publishes a login and a logout', async () => {
      const client = await connect(server, 'login', 'phone');
      await client.logout();
      await arrived(['login@localhost'], [online('login@localhost'), offline('login@localhost')]);
    });

    it('publishes offline after a killed connection', async () => {
      const client = await connect(server, 'killed', 'phone');
      client.cut();
      await until('its end', async () => {
        await sns.receive(0);
        return about('killed@localhost').length >= 2;
      });
      await arrived(['killed@localhost'], [online('killed@localhost'), offline('killed@localhost')]);
    });

    it('publishes offline for a session that is cut and expires, and nothing for one that is resumed', async () => {
      const expires = await connect(server, 'expires', 'phone', { smacks: true });
      const resumes = await connect(server, 'resumes', 'phone', { smacks: true });
      resumes.cut();
      assert.equal(await resumes.resume(), true, 'the server takes the session up again');
      expires.cut();
      await until('the session to expire', async () => {
        await sns.receive(0);
        return about('expires@localhost').length >= 2;
      });
      await message(resumes, { to: 'expires@localhost', body: 'still here' });
      await arrived(['expires@localhost'], [online('expires@localhost'), offline('expires@localhost')]);
      await arrived(
        ['resumes@localhost'],
        [online('resumes@localhost'), pm('resumes@localhost', 'expires@localhost', 'still here')],
      );
      await resumes.logout();
    });

    it("publishes a user's presence over two devices", async () => {
      const phone = await connect(server, 'two', 'phone');
      const laptop = await connect(server, 'two', 'laptop');
      await phone.logout();
      await message(laptop, { to: 'nobody@localhost', body: 'still online' });
      await laptop.logout();
      await arrived(
        ['two@localhost'],
        [online('two@localhost'), offline('two@localhost'), pm('two@localhost', 'nobody@localhost', 'still online')],
      );
    });

    it('publishes private messages to a bare, a full and the own address, in order, with any text', async () => {
      const alice = await connect(server, 'alice', 'phone');
      const bob = await connect(server, 'bob', 'laptop');
      const texts = [
        'Hello, Bob',
        'Grüße, 世界 👩‍👩‍👧‍👦',
        '"quoted" \\ back\\slash',
        'line\nbreak\ttab',
        '<b>&amp;</b>',
        '',
        ' ',
      ];
      for (const text of texts) await post(alice, { to: 'bob@localhost', body: text });
      await message(alice, { to: bob.jid, body: 'to your laptop' });
      await message(alice, { to: 'alice@localhost', body: 'note to self' });
      await message(bob, { to: 'ALICE@LOCALHOST/phone', body: 'in capitals' });
      await arrived(
        ['alice@localhost'],
        [
          online('alice@localhost'),
          ...texts.map((text) => pm('alice@localhost', 'bob@localhost', text)),
          pm('alice@localhost', 'bob@localhost', 'to your laptop'),
          pm('alice@localhost', 'alice@localhost', 'note to self'),
        ],
      );
      await arrived(
        ['bob@localhost'],
        [online('bob@localhost'), pm('bob@localhost', 'alice@localhost', 'in capitals')],
      );
      await alice.logout();
      await bob.logout();
    });

    it('publishes one notification for a message in a room, with the real sender; a private message to an occupant is a pm', async () => {
      const room = `tea@${server.mucHost}`;
      const users = ['una', 'duo', 'tres'];
      const clients: ResumableClient[] = [];
      for (const user of users) {
        const client = await connect(server, user, 'phone');
        await join(client, room, `nick of ${user}`);
        clients.push(client);
      }
      const [una, duo] = clients as [ResumableClient, ResumableClient];
      await message(una, { to: room, type: 'groupchat', body: 'Hi, everyone!' });
      await message(duo, { to: `${room}/nick of una`, body: 'psst' });
      await arrived(
        users.map((user) => `${user}@localhost`),
        [
          ...users.map((user) => online(`${user}@localhost`)),
          muc('una@localhost', room, 'Hi, everyone!'),
          pm('duo@localhost', room, 'psst'),
        ],
      );
      for (const client of clients) await client.logout();
    });

    it('publishes nothing for a message without a body or of another type, or a change of status', async () => {
      const client = await connect(server, 'quiet', 'phone');
      await message(client, {
        to: 'bob@localhost',
        extra: [xml('active', { xmlns: 'http://jabber.org/protocol/chatstates' })],
      });
      await message(client, { to: 'bob@localhost', type: 'normal', body: 'normal' });
      await message(client, { to: 'bob@localhost', type: 'headline', body: 'headline' });
      await presence(client, undefined, xml('show', {}, 'away'));
      await arrived(['quiet@localhost'], [online('quiet@localhost')]);
      await client.logout();
    });

    it('publishes everything in order while the daemon is killed repeatedly', async () => {
      await daemon.stop();
      await daemon.start({ here: false });
      const writers = await Promise.all(['wa', 'wb', 'wc'].map((user) => connect(server, user, 'phone')));
      const wanted = new Map(writers.map(({ bare }) => [bare, [] as string[]]));
      const rounds = 4;
      for (let round = 1; round <= rounds; round++) {
        for (let n = 0; n < 25; n++)
          for (const writer of writers) {
            const text = `${round}.${n}`;
            await post(writer, { to: 'bob@localhost', body: text });
            wanted.get(writer.bare)?.push(text);
          }
        await daemon.kill();
        for (const writer of writers) {
          await message(writer, { to: 'bob@localhost', body: `${round}.away` });
          wanted.get(writer.bare)?.push(`${round}.away`);
        }
        await daemon.start({ here: round === rounds });
      }
      await settled();
      for (const [user, texts] of wanted) {
        const got = about(user).map(({ body }) => String(body.message));
        const first = [...new Set(got.filter((text) => text !== 'undefined'))];
        assert.deepEqual(first, texts, `first arrivals of ${user}`);
      }
      for (const writer of writers) await writer.logout();
    });

    it('stopping the server while the daemon is away makes each session offline once, and loses nothing', async () => {
      const client = await connect(server, 'stopped', 'phone');
      await settled();
      await daemon.stop();
      await message(client, { to: 'bob@localhost', body: 'before the stop' });
      await server.stop();
      await server.start();
      await daemon.start();
      await arrived(
        ['stopped@localhost'],
        [
          online('stopped@localhost'),
          pm('stopped@localhost', 'bob@localhost', 'before the stop'),
          offline('stopped@localhost'),
        ],
      );
    });

    it('sessions of a server killed while the daemon is away go offline at the next start, once', async () => {
      const clients = [];
      for (let n = 0; n < 5; n++) clients.push(await connect(server, `lost${n}`, 'phone'));
      const users = clients.map(({ bare }) => bare);
      await settled();
      await daemon.stop();
      await message(clients[0] as ResumableClient, { to: 'bob@localhost', body: 'last words' });
      // A kill of the server may cost the adapter the last 50 ms.
      const written = Date.now() + 500;
      await until('the adapter to have it on disk', () => Date.now() > written);
      await server.kill();
      await server.start();
      await daemon.start();
      await settled();
      for (const user of users) {
        const got = about(user).filter(({ topic }) => topic === TOPICS.presence);
        assert.deepEqual(
          got.map(({ body }) => body.present),
          [true, false],
          `presence of ${user}`,
        );
      }
      assert.ok(sns.received.some(({ body }) => body.message === 'last words'));
    });

    it('with presence = "session" publishes one notification for every session', async () => {
      await daemon.stop();
      await daemon.configure({ sns: 'presence = "session"' });
      await daemon.start();
      const phone = await connect(server, 'each', 'phone');
      const laptop = await connect(server, 'each', 'laptop');
      await phone.logout();
      await laptop.logout();
      const user = 'each@localhost';
      await arrived([user], [online(user), online(user), offline(user), offline(user)]);
    });
  });
}
