/** ejabberd's own tests: the queue's robustness, configuration and restarts, https, installation. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, globSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, mock, test } from 'node:test';
import { makeAuthority } from '../support/certificate.ts';
import { type Collector, startCollector } from '../support/collector.ts';
import { commandLine } from '../support/command-line.ts';
import { compileAdapter, type EjabberdServer, startEjabberd } from '../support/ejabberd.ts';
import { until } from '../support/process.ts';
import { useRig } from '../support/rig.ts';
import { connect, message, post, settle } from '../support/xmpp.ts';
import { eventsOf, expectEvents, expectSound, fence, inShort, someone } from './contract.ts';
import { bodiesOf, flood } from './contract-runs.ts';

const segments = ({ queueDir }: EjabberdServer) => globSync(join(queueDir, '*.seg')).toSorted();

/** How many groups a segment has: each with 4 bytes of size, 4 of checksum, and the payload. */
function groups(segment: Buffer): number {
  let count = 0;
  for (let at = 0; at < segment.length; at += 8 + segment.readUInt32BE(at)) count += 1;
  return count;
}

describe('ejabberd', () => {
  const rig = useRig((tap) => startEjabberd({ url: tap.url }));

  describe('what the queue survives', () => {
    let tap: Collector;
    let server: EjabberdServer;
    before(() => {
      ({ tap, server } = rig);
    });

    test('after an incomplete last group the numbers continue and the ledger is right', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      await fence(server, tap);
      await server.kill();
      const last = segments(server).at(-1)!;
      // The beginning of a group, as after a kill during a write.
      await appendFile(last, Buffer.from([0, 0, 1, 0, 1, 2, 3, 4, 131, 108]));
      await server.start();
      await expectEvents(server, tap, [alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
      await server.kill();
      // The zeros that a file system may leave behind after a power failure.
      await appendFile(last, Buffer.alloc(5000));
      await server.start();
      await fence(server, tap);
      expectSound(tap);
    });

    test('survives a segment that was only begun', async () => {
      await server.kill();
      const last = segments(server).at(-1)!;
      const next = String(Number(last.match(/(\d+)\.seg$/)![1]) + 1).padStart(10, '0');
      await writeFile(join(server.queueDir, `${next}.seg`), Buffer.from([0, 0, 0, 99, 1]));
      await server.start();
      await fence(server, tap);
      expectSound(tap);
    });

    test('a damaged segment loses only its damaged part: a hole in the numbers, and a log line', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      await fence(server, tap);
      await tap.refuse();
      for (const body of ['one', 'two', 'three']) {
        await message(alice, { to: 'bob@localhost', body });
        await until('its own group', () => readFileSync(segments(server).at(-1)!, 'latin1').includes(`"${body}"`));
      }
      await server.kill();
      const file = segments(server).at(-1)!;
      const bytes = readFileSync(file);
      bytes.write('TWO', bytes.indexOf('"two"') + 1);
      await writeFile(file, bytes);
      const before = tap.holes.length;
      await server.start();
      await tap.listen();
      await expectEvents(
        server,
        tap,
        [alice.bare],
        [
          `+${alice.jid} 1`,
          `chat ${alice.jid} > bob@localhost: one`,
          `chat ${alice.jid} > bob@localhost: three`,
          `-${alice.jid} 0`,
        ],
      );
      assert.deepEqual(
        tap.holes.slice(before).map(({ from, to }) => to - from + 1),
        [1],
      );
      assert.match(server.log(), /is damaged from byte \d+ to \d+/);
      // The file is kept for inspection.
      await until('the file to be put aside', () => existsSync(file.replace(/seg$/, 'damaged')));
    });

    test("events wait in memory while the queue can't be opened", async () => {
      const kept = `${server.queueDir}.kept`;
      await server.withoutAdapter(async () => {
        renameSync(server.queueDir, kept);
        await writeFile(server.queueDir, 'not a folder');
      });
      const alice = await connect(server, someone('alice'), 'phone');
      await message(alice, { to: 'bob@localhost', body: 'anyway' });
      await until('the log to say so', () => server.log().includes("can't open the queue"));
      // In quick succession, or the adapter finds no folder and creates a new queue.
      renameSync(server.queueDir, `${server.queueDir}.file`);
      renameSync(kept, server.queueDir);
      await alice.logout();
      const expected = [`+${alice.jid} 1`, `chat ${alice.jid} > bob@localhost: anyway`, `-${alice.jid} 0`];
      await expectEvents(server, tap, [alice.bare], expected);
    });

    test('commits a burst of messages in groups, not one by one', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      await fence(server, tap);
      await tap.refuse();
      const messages = 200;
      const before = groups(readFileSync(segments(server).at(-1)!));
      for (let index = 1; index <= messages; index++)
        await post(alice, { to: 'bob@localhost', body: `burst ${index}.` });
      await settle(alice);
      const written = () => readFileSync(segments(server).at(-1)!);
      await until('the last one to be on disk', () => written().includes(`"burst ${messages}."`));
      assert.ok(groups(written()) - before < messages / 2, `${groups(written()) - before} groups`);
      await tap.listen();
      await alice.logout();
      await fence(server, tap);
    });

    test('events wait in memory while the disk is full', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      // The limit applies to all files of the process: the queue's must be by far the largest, so that only it is
      // affected.
      for (let index = 0; index < 10; index++) {
        await message(alice, { to: 'bob@localhost', type: 'groupchat', body: 'x'.repeat(200_000) });
      }
      await fence(server, tap);
      const limit = (bytes: string) => execFileSync('prlimit', ['--pid', String(server.pid), `--fsize=${bytes}`]);
      limit(`${readFileSync(segments(server).at(-1)!).length + 1000}:unlimited`);
      for (let index = 0; index < 20; index++) await post(alice, { to: 'bob@localhost', body: `${index}`.repeat(100) });
      await settle(alice);
      await until('the log to say so', () => server.log().includes("can't write events to disk"));
      limit('unlimited:unlimited');
      await alice.logout();
      const bodies = () => eventsOf(tap, alice.bare).flatMap((event) => (event.kind === 'message' ? [event.body] : []));
      await tap.wait('all of it', () => inShort(tap.events.at(-1)!) === `-${alice.jid} 0`);
      await fence(server, tap);
      assert.deepEqual(
        bodies().slice(10),
        Array.from({ length: 20 }, (_, index) => `${index}`.repeat(100)),
      );
      await until('the log to say so', () => server.log().includes('writing events to disk works again'));
    });

    test('sends an event larger than a batch alone, without its stanza if too large for the daemon', async () => {
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      await tap.refuse();
      // A quotation mark takes eight bytes of an event: two in the body's JSON, six in the stanza's XML.
      const bodies = ['before', '"'.repeat(150_000), 'between', '"'.repeat(400_000), 'after'];
      for (const body of bodies) await post(alice, { to: 'bob@localhost', body });
      await settle(alice);
      await tap.listen();
      await expectEvents(
        server,
        tap,
        [alice.bare],
        bodies.map((body) => `chat ${alice.jid} > bob@localhost: ${body}`),
      );
      const told = eventsOf(tap, alice.bare).filter((event) => event.kind === 'message');
      assert.deepEqual(
        told.map(({ stanza }) => stanza !== undefined),
        [true, true, true, false, true],
      );
      const large = tap.requests.find(({ firstSeq, status }) => status === 200 && firstSeq === told[1]!.seq);
      assert.equal(large?.count, 1);
      await alice.closeStream();
    });

    test('deletes delivered segments, and recovers a large backlog after a kill', async () => {
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      await tap.refuse();
      const body = 'x'.repeat(20_000);
      for (let index = 0; index < 500; index++) {
        await post(alice, { to: 'bob@localhost', body: `${index} ${body}` });
        if (index % 50 === 49) await settle(alice);
      }
      await until('more than one segment', () => segments(server).length > 1);
      await until('the last', () => readFileSync(segments(server).at(-1)!, 'latin1').includes('"499 '));
      await server.kill();
      await server.start();
      await tap.listen();
      const numbers = () =>
        eventsOf(tap, alice.bare).map((event) => event.kind === 'message' && Number.parseInt(event.body, 10));
      await tap.wait('all of it', () => numbers().length === 500);
      assert.deepEqual(
        numbers(),
        Array.from({ length: 500 }, (_, index) => index),
      );
      await fence(server, tap);
      await until('one segment is left', () => segments(server).length === 1);
    });

    test('after a kill during delivery only the other half arrives, and nothing twice', async () => {
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      await fence(server, tap);
      await tap.refuse();
      // Two batches; the first ends in the middle of messages that are one operation on disk.
      const count = 1500;
      for (let index = 0; index < count; index++) await post(alice, { to: 'bob@localhost', body: `half ${index}.` });
      const written = () => readFileSync(segments(server).at(-1)!);
      await until('the last one to be on disk', () => written().includes(`"half ${count - 1}."`));
      const before = groups(written());
      const last = segments(server).at(-1);
      const bodies = () => eventsOf(tap, alice.bare).map((event) => event.kind === 'message' && event.body);
      tap.fault = { kind: 'full', above: tap.events.length };
      await tap.listen();
      await tap.wait('the first batch', () => bodies().length > 0);
      const delivered = bodies().length;
      assert.ok(delivered < count, `${delivered} in the first batch`);
      // A new segment begins with what the daemon has.
      await until('the disk to say so', () => segments(server).at(-1) !== last || groups(written()) > before);
      await server.kill();
      tap.fault = undefined;
      const [{ duplicates }, holes] = [tap, tap.holes.length];
      await server.start();
      await tap.wait('all of it', () => bodies().length === count);
      assert.deepEqual(
        bodies(),
        Array.from({ length: count }, (_, index) => `half ${index}.`),
      );
      await fence(server, tap);
      assert.equal(tap.duplicates, duplicates);
      assert.equal(tap.holes.length, holes);
    });

    test("reads a queue left behind by the adapter's first version", async () => {
      const from = `${someone('alice')}@localhost/phone`;
      const event = (body: string) =>
        JSON.stringify({
          ...{ kind: 'message', at: Date.now(), host: 'localhost', type: 'chat', from, to: 'bob@localhost', body },
          stanza: `<message><body>${body}</body></message>`,
        });
      const [one, two] = ['one', 'two'].map((body) => Buffer.from(event(body)).toString('base64'));
      // Each message was a separate operation.
      const script = (file: string) => `
        Event = fun(Seq, Json) -> {event, Seq, base64:decode(Json)} end,
        Groups = [[{head, 1, <<"ejabberd/localhost/test">>, <<"former">>, 1, 0, []}],
                  [Event(1, "${one}"), Event(2, "${two}"), {next, 3}]],
        Group = fun(Ops) ->
                    Payload = term_to_binary(Ops),
                    <<(byte_size(Payload)):32, (erlang:crc32(Payload)):32, Payload/binary>>
                end,
        ok = file:write_file("${file}", [Group(Ops) || Ops <- Groups]), halt().`;
      await server.withoutAdapter(async () => {
        const left = segments(server);
        const last = left.pop()!;
        await Promise.all(left.map((segment) => rm(segment)));
        execFileSync('erl', ['-noshell', '-eval', script(last)]);
      });
      const events = () => eventsOf(tap, from.split('/')[0]!);
      await tap.wait('what was not delivered', () => events().length > 1);
      await fence(server, tap);
      assert.deepEqual(
        events().map(({ seq, epoch }) => ({ seq, epoch })),
        [1, 2].map((seq) => ({ seq, epoch: 'former' })),
      );
    });

    test('after damage in a running server delivers what is readable, to the tap named by the last reload', async () => {
      await using other = await startCollector();
      const alice = await connect(server, someone('alice'), 'phone', { available: false });
      await tap.refuse();
      // More than the adapter keeps in memory, so that it must read the last ones.
      const body = 'x'.repeat(200_000);
      for (let index = 0; index < 30; index++) {
        await post(alice, { to: 'bob@localhost', body: `${index} ${body}` });
        await settle(alice);
      }
      const last = () => readFileSync(segments(server).at(-1)!, 'latin1');
      await until('all of it', () => last().includes('"29 '));
      await message(alice, { to: 'bob@localhost', body: 'the last' });
      await until('its own group', () => last().includes('"the last"'));
      const file = openSync(segments(server).at(-1)!, 'r+');
      writeSync(file, 'THE', last().indexOf('"the last"') + 1);
      closeSync(file);
      await server.reconfigure({ url: other.url });
      await until('the log to say so', () => /queue: .* is damaged from byte/.test(server.log()));
      await message(alice, { to: 'bob@localhost', body: 'after it' });
      const bodies = () =>
        eventsOf(other, alice.bare).flatMap((event) => (event.kind === 'message' ? [event.body.slice(0, 8)] : []));
      await other.wait('what came after it', () => bodies().at(-1) === 'after it');
      assert.deepEqual(
        bodies().map((text) => text.replace(/ x+$/, '')),
        [...Array.from({ length: 30 }, (_, index) => String(index)), 'after it'],
      );
      await tap.listen();
      await server.reconfigure({ url: tap.url });
    });
  });

  describe('configured and restarted', () => {
    let tap: Collector;
    let server: EjabberdServer;
    before(() => {
      ({ tap, server } = rig);
    });

    test('kicking or removing a user makes the sessions offline', async () => {
      const [kicked, removed] = [someone('kicked'), someone('removed')];
      const one = await connect(server, kicked, 'phone');
      const two = await connect(server, removed, 'phone');
      await server.api('kick_user', { user: kicked, host: 'localhost' });
      await tap.wait('offline', () => eventsOf(tap, one.bare).length === 2);
      await server.api('unregister', { user: removed, host: 'localhost' });
      const expected = [`+${one.jid} 1`, `+${two.jid} 1`, `-${one.jid} 0`, `-${two.jid} 0`];
      await expectEvents(server, tap, [one.bare, two.bare], expected);
    });

    test("JIDs are in ejabberd's normal form, whatever the client writes", async () => {
      const alice = await connect(server, someone('alice'), 'Phone');
      await message(alice, { to: 'BOB@LocalHost/Home', body: 'Hi' });
      await alice.logout();
      const expected = [`+${alice.jid} 1`, `chat ${alice.jid} > bob@localhost/Home: Hi`, `-${alice.jid} 0`];
      await expectEvents(server, tap, [alice.bare], expected);
    });

    for (const [wrong, complaint] of [
      ['url: "ftp://127.0.0.1/v1/events"', /mod_event_pusher->url: (Unsupported scheme|Invalid URL)/],
      ['url: "nonsense"', /mod_event_pusher->url: Empty hostname/],
      ['secret: [a, b]', /mod_event_pusher->secret: Expected string, got list/],
      ['queue_max: 0', /mod_event_pusher->queue_max: Expected positive integer/],
      ['colour: blue', /mod_event_pusher: Unknown option: colour/],
    ] as const) {
      test(`refuses \`${wrong}\`, says what is wrong with it, and continues as before`, async () => {
        await assert.rejects(server.reconfigure({ moduleOptions: [wrong] }), complaint);
        await server.configure({ moduleOptions: undefined });
        await fence(server, tap);
      });
    }

    test('each option has a default and a description', async () => {
      const beam = await compileAdapter();
      const names = (expression: string) => {
        const print = `io:format("~s", [lists:join(",", lists:sort([atom_to_list(element(1, O)) || O <- ${expression}]))]), halt().`;
        return execFileSync('erl', ['-noshell', '-pa', beam, '-eval', print], { encoding: 'utf8' });
      };
      const documented = names('maps:get(opts, mod_event_pusher:mod_doc())');
      assert.equal(documented, 'queue_max,secret,slow_retry,timeout,url');
      assert.equal(names('mod_event_pusher:mod_options(<<"localhost">>)'), documented);
    });

    test('applies new options without a restart, and keeps the sessions', async () => {
      await using other = await startCollector({ secret: 'another' });
      const { length } = tap.holes;
      const alice = await connect(server, someone('alice'), 'phone');
      await fence(server, tap);
      await server.reconfigure({ url: other.url, secret: 'another' });
      await message(alice, { to: 'bob@localhost', body: 'to the other tap' });
      await other.wait('the message', () => eventsOf(other, alice.bare).length === 1);
      const last = tap.events.at(-1)!;
      const [first] = other.events;
      assert.deepEqual([first?.epoch, first?.seq], [last.epoch, last.seq + 1], 'the numbers go on');

      await server.reconfigure({ url: tap.url, secret: 'secret' });
      await alice.logout();
      await fence(server, tap);
      assert.deepEqual(eventsOf(tap, alice.bare).map(inShort), [`+${alice.jid} 1`, `-${alice.jid} 0`]);
      assert.deepEqual(eventsOf(other, alice.bare).map(inShort), [
        `chat ${alice.jid} > bob@localhost: to the other tap`,
      ]);
      // This tap misses the events that the other one got.
      assert.deepEqual(
        tap.holes.slice(length).map(({ from, to }) => [from, to]),
        [[first?.seq, first?.seq]],
      );
    });

    test('restarting only the module loses nothing and keeps the sessions', async () => {
      const alice = await connect(server, someone('alice'), 'phone');
      const resuming = await connect(server, someone('resuming'), 'phone', { smacks: true });
      await tap.refuse();
      await message(alice, { to: 'bob@localhost', body: 'before' });
      await server.api('restart_module', { host: 'localhost', module: 'mod_event_pusher' });
      resuming.cut();
      assert.equal(await resuming.resume(), true);
      await message(alice, { to: 'bob@localhost', body: 'after' });
      await tap.listen();
      await alice.logout();
      await resuming.logout();
      await expectEvents(
        server,
        tap,
        [alice.bare, resuming.bare],
        [
          `+${alice.jid} 1`,
          `+${resuming.jid} 1`,
          `chat ${alice.jid} > bob@localhost: before`,
          `chat ${alice.jid} > bob@localhost: after`,
          `-${alice.jid} 0`,
          `-${resuming.jid} 0`,
        ],
      );
    });
  });

  describe('https', () => {
    let server: EjabberdServer;
    before(() => {
      ({ server } = rig);
    });

    test('verifies the certificate and its name, with the authorities of ca_file', async () => {
      const dir = await mkdtemp(join(tmpdir(), 'adapter-tls-'));
      try {
        const { file: ca, certify } = await makeAuthority(dir);
        const taken: string[] = [];
        const tap = https.createServer(await certify('DNS:localhost'), (request, response) => {
          let body = '';
          request.setEncoding('utf8').on('data', (text: string) => {
            body += text;
          });
          request.on('end', () => {
            taken.push(body);
            response.end('{"accepted":1,"duplicates":0,"rejected":[]}');
          });
        });
        await new Promise<void>((resolve) => tap.listen(0, '127.0.0.1', resolve));
        const { port } = tap.address() as AddressInfo;
        // One change at a time: between two changes of one reload, the adapter would send with only the first one
        // applied.
        await server.reconfigure({ url: `https://127.0.0.1:${port}/v1/events` });
        const alice = await connect(server, someone('alice'), 'phone');
        // The adapter's own line; the text around the cause depends on OTP's version.
        const refused = (why: string) => new RegExp(`/v1/events: no connection \\(.*${why}`).test(server.log());
        await until('the authority to be refused', () => refused('unknown_ca'));

        await server.reconfigure({ settings: `ca_file: "${ca}"` });
        await until('the name to be refused', () => refused('hostname_check_failed'));
        assert.deepEqual(taken, []);

        await server.reconfigure({ url: `https://localhost:${port}/v1/events` });
        await until('the events', () => taken.join().includes(alice.jid));
        tap.closeAllConnections();
        await new Promise((resolve) => tap.close(resolve));
      } finally {
        await rm(dir, { recursive: true, force: true });
      }
    });
  });
});

describe('ejabberd: installed into a running server', () => {
  test('installs into a running server with open sessions, and again after an absence', async () => {
    await using tap = await startCollector();
    await using server = await startEjabberd({ url: tap.url, adapter: false, precompiled: false });
    const modules = join(server.dir, '.ejabberd-modules');
    const options = ['--to', modules, '--url', tap.url, '--secret', 'secret'];
    const install = await commandLine({ mock }, 'adapter', 'install', 'ejabberd', ...options);
    assert.equal(install.code, 0, install.output);
    assert.equal(await server.api('module_check', { module: 'mod_event_pusher' }), 0, server.log());

    const alice = await connect(server, someone('alice'), 'phone');
    await connect(server, someone('silent'), 'phone', { available: false });
    assert.equal(await server.api('module_install', { module: 'mod_event_pusher' }), 0, server.log());
    await expectEvents(server, tap, [alice.bare], [`+${alice.jid} 1`]);
    await message(alice, { to: 'bob@localhost', body: 'seen' });
    const leaves = await connect(server, someone('leaves'), 'phone');
    await fence(server, tap);

    const resumes = await connect(server, someone('resumes'), 'phone', { smacks: true });
    await fence(server, tap);

    assert.equal(await server.api('module_uninstall', { module: 'mod_event_pusher' }), 0, server.log());
    await leaves.logout();
    resumes.cut();
    assert.equal(await resumes.resume(), true);
    const comes = await connect(server, someone('comes'), 'phone');
    assert.equal(await server.api('module_install', { module: 'mod_event_pusher' }), 0, server.log());
    await fence(server, tap);
    await alice.logout();
    await resumes.logout();
    await expectEvents(
      server,
      tap,
      [alice.bare, leaves.bare, comes.bare, resumes.bare],
      [
        `+${alice.jid} 1`,
        `chat ${alice.jid} > bob@localhost: seen`,
        `+${leaves.jid} 1`,
        `+${resumes.jid} 1`,
        `-${leaves.jid} 0`,
        `+${comes.jid} 1`,
        `-${alice.jid} 0`,
        `-${resumes.jid} 0`,
      ],
    );
    expectSound(tap);

    // A newer version: all of its modules change.
    const log = join(modules, 'sources/mod_event_pusher/src/event_pusher_log.erl');
    await writeFile(log, readFileSync(log, 'utf8').replace('"mod_event_pusher "', '"mod_event_pusher (newer) "'));
    const sent = await flood(server, 'upgraded');
    await until('some messages', () => sent.received().length > 50);
    const upgraded = await server.api('module_upgrade', { module: 'mod_event_pusher' });
    assert.equal(upgraded, 0, server.log());
    const before = sent.received().length;
    await until('some more', () => sent.received().length > before + 50);
    await sent.stop();
    await sent.sender.logout();
    await fence(server, tap);
    const published = bodiesOf(tap, sent.sender.bare);
    assert.deepEqual(published, [...new Set(published)], 'nothing twice');
    assert.deepEqual(
      sent.received().filter((body) => !published.includes(body)),
      [],
      'nothing is missing that was sent during the upgrade',
    );
    expectSound(tap);
    await tap.refuse();
    await (await connect(server, someone('later'), 'phone')).logout();
    await until('the newer log line', () => server.log().includes("mod_event_pusher (newer) localhost: can't deliver"));
    await tap.listen();
  });
});
