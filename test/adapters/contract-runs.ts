/**
 * The contract's part about the adapter's runs: a restored backup, a restart, a stop under load and an older version's
 * queue must lose and repeat nothing; a queue's folder may have foreign files.
 */
import assert from 'node:assert/strict';
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { Collector } from '../support/collector.ts';
import { until } from '../support/process.ts';
import type { Rig } from '../support/rig.ts';
import type { XmppServer } from '../support/server.ts';
import { type Client, connect, message, post, settle } from '../support/xmpp.ts';
import { eventsOf, expectEvents, expectSound, fence, inShort, someone } from './contract.ts';

/** Helpers that depend on the server. */
export interface Own<Server extends XmppServer> {
  /** The folder of the adapter's queue for `localhost`. */
  queueDir(server: Server): string;
  /** Restarts only the adapter, as an operator would. */
  restartAdapter(server: Server): Promise<void>;
  /** Stops the adapter, not the server if that is possible, and starts it again after the change. */
  withoutAdapter(server: Server, change: () => Promise<void>): Promise<void>;
  /** Makes the server reload its configuration, with the same options. */
  reload(server: Server): Promise<void>;
}

const FIXTURES = path.join(import.meta.dirname, '../fixtures');

/** `[{head, 9}]` in Erlang's external format, as a group: preceded by its length and CRC-32. */
function laterSegment(): Buffer {
  const payload = Buffer.from([131, 108, 0, 0, 0, 1, 104, 2, 119, 4, ...Buffer.from('head'), 97, 9, 106]);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(payload.length, 0);
  head.writeUInt32BE(crc32(payload), 4);
  return Buffer.concat([head, payload]);
}

/** A file of the queue as a later release might write it. */
const LATER: Readonly<Record<XmppServer['name'], { name: string; content: Buffer }>> = {
  prosody: { name: '000000000007.log', content: Buffer.from('event-pusher 9\tsource\tepoch\t1\n=\nsomething new\n') },
  ejabberd: { name: '0000000007.seg', content: laterSegment() },
};

/** Sends numbered messages from one user to another until stopped. */
interface Flood {
  stop(): Promise<void>;
  /** The bodies that the recipient received. */
  received(): string[];
  readonly sender: Client;
}

export async function flood(server: XmppServer, tag: string): Promise<Flood> {
  const sender = await connect(server, someone('sender'), 'phone', { available: false });
  const recipient = await connect(server, someone('recipient'), 'phone');
  let going = true;
  const sending = (async () => {
    for (let number = 0; going; number++) {
      // The server may be stopping.
      const sent = await post(sender, { to: recipient.jid, body: `${tag} ${number}.` }).then(
        () => true,
        () => false,
      );
      if (!sent) return;
      if (number % 5 === 4) await sleep(2);
    }
  })();
  return {
    sender,
    async stop() {
      going = false;
      await sending;
    },
    received: () =>
      recipient.received.flatMap((stanza) => (stanza.is('message') ? [stanza.getChildText('body') ?? ''] : [])),
  };
}

export const bodiesOf = (tap: Collector, bare: string) =>
  eventsOf(tap, bare).flatMap((event) => (event.kind === 'message' ? [event.body] : []));

export function runsContract<Server extends XmppServer>(rig: Rig<Server>, own: Own<Server>): void {
  describe('runs of the adapter', () => {
    let tap: Collector;
    let server: Server;
    before(() => {
      ({ tap, server } = rig);
    });

    test("delivers once what version 0.1.0 left, with offline events for its online sessions; keeps a later version's file", async () => {
      await server.stop();
      const dir = own.queueDir(server);
      await rm(dir, { recursive: true, force: true });
      // The events that it left are old.
      tap.anyTime = true;
      await cp(path.join(FIXTURES, '0.1.0', server.name, left[server.name]), dir, { recursive: true });
      const later = path.join(dir, LATER[server.name].name);
      await writeFile(later, LATER[server.name].content);
      await server.start();
      const told = () => eventsOf(tap, 'alice@localhost', 'bob@localhost').map(inShort);
      await tap.wait('all of it', () => told().length >= 28);
      tap.anyTime = false;
      await fence(server, tap);
      const messages = told().filter((line) => line.startsWith('chat '));
      assert.equal(new Set(messages).size, 24);
      assert.equal(messages.length, 24);
      assert.deepEqual(
        told().filter((line) => !line.startsWith('chat ')),
        ['+alice@localhost/phone 1', '+bob@localhost/phone 1', '-bob@localhost/phone 0', '-alice@localhost/phone 0'],
      );
      expectSound(tap);
      await server.kill();
      await server.start();
      await fence(server, tap);
      assert.equal(told().length, 28, 'nothing comes again');
      assert.deepEqual(await readFile(later), LATER[server.name].content);
      assert.match(server.log(), /was written by a later release \(version 9 of the file, this one reads up to \d\)/);
    });

    test('uses no number twice after restoring a backup, so all messages arrive', async () => {
      const user = someone('alice');
      const to = 'bob@localhost';
      const send = async (what: string, count: number) => {
        const alice = await connect(server, user, 'phone', { available: false });
        for (let number = 0; number < count; number++) await message(alice, { to, body: `${what} ${number}` });
        await alice.closeStream();
      };
      const backup = path.join(server.dir, '..', `${path.basename(server.dir)}-backup`);
      try {
        await send('before', 5);
        await server.stop();
        await cp(own.queueDir(server), backup, { recursive: true });
        await server.start();
        await send('lost', 20);
        await server.stop();
        await rm(own.queueDir(server), { recursive: true });
        await cp(backup, own.queueDir(server), { recursive: true });
        await server.start();
        await send('after', 10);
        const numbered = (what: string, count: number) => Array.from({ length: count }, (_, n) => `${what} ${n}`);
        const all = [...numbered('before', 5), ...numbered('lost', 20), ...numbered('after', 10)];
        await tap.wait('all of it', () => bodiesOf(tap, `${user}@localhost`).length >= all.length);
        await fence(server, tap);
        assert.deepEqual(bodiesOf(tap, `${user}@localhost`), all);
      } finally {
        await rm(backup, { recursive: true, force: true });
      }
    });

    for (const [what, count] of [
      ['all of a batch', undefined],
      ['the first two of a batch', 2],
    ] as const) {
      test(`after restoring a snapshot, if the daemon knows ${what} that was never sent, logs an error and resends all once under a new epoch`, async () => {
        const alice = await connect(server, someone('alice'), 'phone', { available: false });
        await message(alice, { to: 'bob@localhost', body: 'before' });
        await tap.wait('the first', () => bodiesOf(tap, alice.bare).length === 1);
        await tap.refuse();
        const bodies = Array.from({ length: 5 }, (_, number) => `message ${number}`);
        for (const body of bodies) await post(alice, { to: 'bob@localhost', body });
        await settle(alice);
        const answered = tap.requests.length;
        tap.fault = { kind: 'known', ...(count === undefined ? {} : { count }), times: 1 };
        await tap.listen();
        await tap.wait('the answer', () => tap.requests.length > answered);
        await tap.wait('all of it', () => bodiesOf(tap, alice.bare).length >= 1 + bodies.length);
        await fence(server, tap);
        // The daemon accepted the events that it did not know before the others were resent.
        assert.deepEqual(bodiesOf(tap, alice.bare).toSorted(), ['before', ...bodies]);
        const epochs = eventsOf(tap, alice.bare).map(({ epoch }) => epoch);
        assert.notEqual(epochs[0], epochs.at(-1));
        await until('the log to say so', () => /backup or snapshot/.test(server.log()));
        await alice.closeStream();
      });
    }

    test('publishes each received message once, through restarts, reloads and stops under load', async () => {
      const one = await flood(server, 'restarted');
      for (let round = 0; round < 2; round++) {
        const before = one.received().length;
        await until('some messages', () => one.received().length > before + 50);
        await (round % 2 === 0 ? own.restartAdapter(server) : own.reload(server));
      }
      const more = one.received().length;
      await until('some messages', () => one.received().length > more + 50);
      await server.stop();
      await one.stop();
      await server.start();
      await fence(server, tap);
      const published = bodiesOf(tap, one.sender.bare);
      assert.deepEqual(published, [...new Set(published)], 'nothing twice');
      const missing = one.received().filter((body) => !published.includes(body));
      assert.deepEqual(missing, []);
    });

    test("logs foreign files in the queue's folder once and keeps them", async () => {
      const dir = own.queueDir(server);
      const strangers = ['backup.seg', '0000000099.seg.bak', 'notes.txt', 'µ.log', '000000000001.log.old'];
      const before = server.log().length;
      await own.withoutAdapter(server, async () => {
        for (const file of strangers) await writeFile(path.join(dir, file), 'not yours');
        await mkdir(path.join(dir, '0000009999.seg'), { recursive: true });
        await mkdir(path.join(dir, '000000009999.log'), { recursive: true });
      });
      const alice = await connect(server, someone('alice'), 'phone');
      await alice.logout();
      await expectEvents(server, tap, [alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
      const log = server.log().slice(before);
      assert.equal(log.split('backup.seg').length - 1, 1, log);
      const there = await readdir(dir);
      for (const file of strangers) assert.ok(there.includes(file), file);
      for (const file of [...strangers, '0000009999.seg', '000000009999.log']) {
        await rm(path.join(dir, file), { recursive: true });
      }
    });
  });
}

/** The queue's folder in each server's fixture. */
const left = { ejabberd: 'event_pusher/localhost', prosody: 'event_pusher' } as const;
