/**
 * The contract's part about answers: an adapter drops an event only if the daemon itself calls it too large, reads no
 * more of an answer than necessary, and sends nothing unless the certificate is the tap's.
 */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeAuthority } from '../support/certificate.ts';
import { type Collector, startCollector } from '../support/collector.ts';
import { until } from '../support/process.ts';
import type { Rig } from '../support/rig.ts';
import type { StartServer, XmppServer } from '../support/server.ts';
import { type Client, connect, post, settle } from '../support/xmpp.ts';
import { eventsOf, expectEvents, fence, someone } from './contract.ts';

/** Answers with status 200, to a batch of any size, that are not the daemon's. */
const ODD_ANSWERS = [
  '',
  'null',
  '[]',
  '{}',
  '"accepted"',
  '{"accepted":"1","duplicates":0,"rejected":[]}',
  '{"accepted":-1,"duplicates":0,"rejected":[]}',
  '{"accepted":5000,"duplicates":0,"rejected":[]}',
  '{"accepted":{"accepted":1},"duplicates":[],"rejected":{}}',
  '{"accepted":0,"duplicates":0,"rejected":[]}',
  '{"accepted":0,"duplicates":0,"rejected":["all"]}',
  '{"accepted":0,"duplicates":0,"rejected":[{"index":1000,"reason":"beyond"}]}',
  `${'['.repeat(30_000)}`,
];

const chat = (client: Client, body: string) => `chat ${client.jid} > bob@localhost: ${body}`;

/** The most that the operating system buffers of an answer that nobody reads, with room to spare. */
const BUFFERED = 32_000_000;

/** @param rig with a `slowRetrySeconds` of less than a second */
export function answersContract(rig: Rig<XmppServer>): void {
  describe('answers', () => {
    let tap: Collector;
    let server: XmppServer;
    let alice: Client;
    let earlier: { requests: number; holes: number; log: number };
    before(async () => {
      ({ tap, server } = rig);
      alice = await connect(server, someone('alice'), 'phone', { available: false });
      earlier = { requests: tap.requests.length, holes: tap.holes.length, log: server.log().length };
    });

    const sent: string[] = [];
    /** Sends messages and expects all messages sent so far, and no others. */
    async function send(...bodies: string[]): Promise<void> {
      for (const body of bodies) await post(alice, { to: 'bob@localhost', body });
      sent.push(...bodies);
      await settle(alice);
    }
    const expectAll = () =>
      expectEvents(
        server,
        tap,
        [alice.bare],
        sent.map((body) => chat(alice, body)),
      );
    const holes = () => tap.holes.slice(earlier.holes);
    const log = () => server.log().slice(earlier.log);
    const single = () =>
      tap.requests.slice(earlier.requests).filter(({ status, count }) => status === 413 && count === 1).length;

    test('loses nothing if a proxy answers 413, even for a single event', async () => {
      tap.fault = { kind: 'proxy-413' };
      await send(...Array.from({ length: 30 }, (_, index) => `through a proxy ${index}`));
      await tap.wait('two attempts with a single event', () => single() >= 2, 30_000);
      tap.fault = undefined;
      await expectAll();
      assert.deepEqual(holes(), []);
    });

    test('an event to which the daemon answers 413 becomes a logged hole, and all others are delivered', async () => {
      tap.fault = { kind: 'too-large-event', body: 'enormous' };
      await send('before it', 'enormous', 'after it');
      sent.splice(sent.indexOf('enormous'), 1);
      await expectAll();
      tap.fault = undefined;
      assert.deepEqual(
        holes().map(({ from, to }) => to - from + 1),
        [1],
      );
      await until('the log to say so', () => /too large/.test(log()));
    });

    test('an answer of an unexpected shape loses nothing and raises no error', async () => {
      const bodies = [...ODD_ANSWERS];
      tap.fault = { kind: 'bodies', bodies };
      await send('oddly answered');
      await tap.wait('all these answers', () => bodies.length === 0, 30_000);
      await expectAll();
      assert.doesNotMatch(log(), /traceback|attempt to |badmatch|function_clause|case_clause|CRASH REPORT/i);
    });

    for (const where of ['head', 'body', 'chunks'] as const) {
      test(`reads an answer whose ${where} never ends up to a limit, and retries`, async () => {
        const fault = { kind: 'endless' as const, where, ended: 0, mostBytes: 0 };
        tap.fault = fault;
        await send(`with an endless ${where}`);
        await tap.wait('the adapter to hang up twice', () => fault.ended >= 2, 30_000);
        tap.fault = undefined;
        await expectAll();
        // The server's memory would say less: it depends on when garbage is collected.
        assert.ok(fault.mostBytes < BUFFERED, `it took ${fault.mostBytes} bytes`);
      });
    }

    test('events sent during odd answers arrive once', async () => {
      await fence(server, tap);
      assert.equal(eventsOf(tap, alice.bare).length, sent.length);
      await alice.closeStream();
    });
  });
}

export function certificatesContract(startServer: StartServer): void {
  describe('certificates for addresses', { concurrency: false }, () => {
    let dir: string;
    before(async () => {
      dir = await mkdtemp(join(tmpdir(), 'adapter-tls-'));
      // Readable for the server's user.
      await chmod(dir, 0o755);
    });
    after(() => rm(dir, { recursive: true, force: true }));

    test('accepts a certificate for an IP address only if it lists the address as such; refused events leave holes in any run', async () => {
      const { file, certify } = await makeAuthority(dir);
      const tapOf = async (name: string) => startCollector({ tls: await certify(name) });
      await using good = await tapOf('IP:127.0.0.1');
      await using bad = await tapOf('IP:127.0.0.2');
      await using worse = await tapOf('DNS:127.0.0.1');
      const refused = /certificate|hostname_check_failed|bad_cert/i;
      await chmod(file, 0o644);
      await using server = await startServer({ url: bad.url, trust: file });
      const user = someone('alice');
      const alice = await connect(server, user, 'phone', { available: false });
      for (const body of ['enormous', 'for the right one']) await post(alice, { to: 'bob@localhost', body });
      await settle(alice);
      await until('the log to say why not', () => refused.test(server.log()));
      await server.stop();
      server.setTap({ url: worse.url });
      const before = server.log().length;
      await server.start();
      await until('the log to say why not', () => refused.test(server.log().slice(before)));
      await server.stop();
      assert.deepEqual([...bad.requests, ...worse.requests], []);
      server.setTap({ url: good.url });
      good.fault = { kind: 'too-large-event', body: 'enormous' };
      await server.start();
      const sent = [chat(alice, 'for the right one')];
      await expectEvents(server, good, [alice.bare], sent);

      // Lost so far: the first event of an earlier run. Now the last one of this run, and the first after that.
      const again = await connect(server, user, 'laptop', { available: false });
      const singles = () => good.requests.filter(({ status, count }) => status === 413 && count === 1).length;
      for (const body of ['enormous', 'enormous', 'a', 'b', 'enormous', 'c', 'd']) {
        const before = singles();
        await post(again, { to: 'bob@localhost', body });
        if (body === 'enormous') await good.wait('it to be refused', () => singles() > before, 30_000);
        else sent.push(chat(again, body));
      }
      await expectEvents(server, good, [alice.bare], sent);
      assert.equal(
        good.holes.reduce((sum, { from, to }) => sum + to - from + 1, 0),
        4,
      );
    });
  });
}
