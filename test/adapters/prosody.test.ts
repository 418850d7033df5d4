/** Prosody's own tests: its module loader, https, and its queue of files. */
import assert from 'node:assert/strict';
import { appendFile, chmod, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { makeCertificate } from '../support/certificate.ts';
import { type Collector, startCollector } from '../support/collector.ts';
import { until } from '../support/process.ts';
import { type Prosody, startProsody } from '../support/prosody.ts';
import { type Client, connect, message, post, settle } from '../support/xmpp.ts';
import { eventsOf, expectEvents, expectSound, fence, inShort, someone } from './contract.ts';

describe('prosody: the module', () => {
  let tap: Collector;
  let server: Prosody;
  before(async () => {
    tap = await startCollector();
    server = await startProsody({ url: tap.url });
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await tap[Symbol.asyncDispose]();
  });

  const module = async (verb: string) => {
    const said = await server.shell('module', verb, 'event_pusher', 'localhost');
    assert.match(said, /OK/, said);
  };

  test('reloading the module while the tap is away loses and repeats nothing, and keeps the session', async () => {
    await tap.refuse();
    const alice = await connect(server, someone('alice'), 'phone');
    await message(alice, { to: 'bob@localhost', body: 'before' });
    await module('reload');
    await message(alice, { to: 'bob@localhost', body: 'between' });
    await module('reload');
    await tap.listen();
    await alice.logout();
    await expectEvents(
      server,
      tap,
      [alice.bare],
      [
        `+${alice.jid} 1`,
        `chat ${alice.jid} > bob@localhost: before`,
        `chat ${alice.jid} > bob@localhost: between`,
        `-${alice.jid} 0`,
      ],
    );
    expectSound(tap);
  });

  test('reloading the module during a delivery loses nothing, and sends one batch at a time', async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const unanswered = () => tap.requests.filter((request) => request.status === 0).length;
    const earlier = unanswered();
    tap.fault = { kind: 'hang' };
    await message(alice, { to: 'bob@localhost', body: 'hanging' });
    await tap.wait('the batch', () => unanswered() > earlier);
    tap.fault = undefined;
    await module('reload');
    await expectEvents(server, tap, [alice.bare], [`chat ${alice.jid} > bob@localhost: hanging`]);
    await alice.closeStream();
    expectSound(tap);
  });

  test('loading the module again reports sessions that began and ended meanwhile', async () => {
    const user = someone('alice');
    const [staying, leaving] = [await connect(server, user, 'staying'), await connect(server, user, 'leaving')];
    await module('unload');
    await leaving.logout();
    const coming = await connect(server, user, 'coming');
    await module('load');
    await expectEvents(
      server,
      tap,
      [staying.bare],
      [`+${staying.jid} 1`, `+${leaving.jid} 2`, `-${leaving.jid} 1`, `+${coming.jid} 2`],
    );
    await staying.logout();
    await coming.logout();
    await fence(server, tap);
    expectSound(tap);
  });

  test('a session closed by the operator goes offline', async () => {
    const alice = await connect(server, someone('alice'), 'phone');
    await server.shell('c2s', 'close', alice.jid);
    await expectEvents(server, tap, [alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
  });

  test('a BOSH client that stops polling goes offline after its timeout', async () => {
    await using own = await startProsody({ url: tap.url, globalSettings: 'bosh_max_inactivity = 1' });
    const alice = await connect(own, someone('alice'), 'web', { via: 'bosh' });
    alice.cut();
    await expectEvents(own, tap, [alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
  });

  test('applies a changed secret after a reload of the configuration', async () => {
    await using other = await startCollector({ secret: 'fresh' });
    await using own = await startProsody({ url: other.url });
    const alice = await connect(own, someone('alice'), 'phone', { available: false });
    await message(alice, { to: 'bob@localhost', body: 'hello there' });
    await other.wait('the refusal', () => other.requests.some((request) => request.status === 401));
    await own.reconfigure({ secret: 'fresh' });
    await expectEvents(own, other, [alice.bare], [`chat ${alice.jid} > bob@localhost: hello there`]);
    await alice.closeStream();
    expectSound(other);
  });

  /** Sends messages at full speed and waits until the tap has them. */
  async function postAll(alice: Client, bodies: readonly string[]): Promise<void> {
    await Promise.all(bodies.map((body) => post(alice, { to: 'bob@localhost', body })));
    await expectEvents(
      server,
      tap,
      [alice.bare],
      bodies.map((body) => `chat ${alice.jid} > bob@localhost: ${body}`),
    );
  }

  test('publishes more events at once than a batch holds, while the tap keeps up', async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const bodies = Array.from({ length: 3_000 }, (_, index) => `message ${index}`);
    await postAll(alice, bodies);
    await alice.closeStream();
    expectSound(tap);
  });

  test('writes events in groups, not one by one', async () => {
    const alice = await connect(server, someone('alice'), 'phone', { available: false });
    const bodies = Array.from({ length: 1_000 }, (_, index) => `message ${index}`);
    // Does not count writes to sockets.
    const writes = async () => Number(/^syscw: (\d+)$/m.exec(await readFile(`/proc/${server.pid}/io`, 'utf8'))?.[1]);
    const before = await writes();
    await postAll(alice, bodies);
    const written = (await writes()) - before;
    assert.ok(written > 0 && written < bodies.length / 2, `${written} writes`);
    await alice.closeStream();
  });

  for (const backend of ['epoll', 'select']) {
    test(`an answer before the end of the request ends it, over ${backend}`, async () => {
      await using own = await startProsody({ url: tap.url, globalSettings: `network_backend = "${backend}"` });
      const alice = await connect(own, someone('alice'), 'phone', { available: false });
      const bodies = Array.from({ length: 10 }, (_, index) => `${index} ${'x'.repeat(100_000)}`);
      const early = () => tap.requests.filter(({ status, count }) => status === 503 && count === 0).length;
      const before = early();
      tap.fault = { kind: 'early' };
      for (const body of bodies) await post(alice, { to: 'bob@localhost', body });
      await tap.wait('early answers', () => early() > before + 2, 30_000);
      tap.fault = undefined;
      await expectEvents(
        own,
        tap,
        [alice.bare],
        bodies.map((body) => `chat ${alice.jid} > bob@localhost: ${body}`),
      );
      await alice.closeStream();
      // With select, Prosody 13 ignores SIGTERM, with or without the adapter.
      if (backend === 'epoll' || own.log().includes('version 0.12')) await own.stop();
    });
  }

  test('logs a full queue at the first dropped event, not for each one', async () => {
    await using own = await startProsody({ url: tap.url, queueMax: 1 });
    await tap.refuse();
    const alice = await connect(own, someone('alice'), 'phone');
    for (let index = 0; index < 20; index++) await post(alice, { to: 'bob@localhost', body: `${index}` });
    await settle(alice);
    assert.equal(own.log().match(/The queue is full/g)?.length, 1);
    assert.match(own.log(), /The queue is full \(event_pusher_queue_max\): 1 event\(s\) dropped/);
    await own.stop();
    await tap.listen();
  });

  test('reports the sessions as offline before the server is gone, if the tap is reachable', async () => {
    const alice = await connect(server, someone('alice'), 'phone');
    const web = await connect(server, someone('bob'), 'web', { via: 'bosh' });
    await server.stop();
    assert.deepEqual(eventsOf(tap, alice.bare).map(inShort), [`+${alice.jid} 1`, `-${alice.jid} 0`]);
    assert.deepEqual(eventsOf(tap, web.bare).map(inShort), [`+${web.jid} 1`, `-${web.jid} 0`]);
    await server.start();
  });

  for (const url of ['localhost:8080', 'http://:8080/v1/events']) {
    test(`does not load with the URL ${url}, and says why; the server runs`, async () => {
      await using bad = await startProsody({ url });
      await until('the log line', () => bad.log().includes('event_pusher_url must be'));
      const alice = await connect(bad, 'alice', 'phone');
      await alice.logout();
    });
  }
});

describe('prosody: https', () => {
  const dirs: string[] = [];
  after(async () => {
    for (const dir of dirs) await rm(dir, { recursive: true, force: true });
  });

  /** A certificate, and the configuration that makes Prosody trust it. */
  async function certified(name: string): Promise<{ tls: { cert: Buffer; key: Buffer }; globalSettings: string }> {
    const dir = await mkdtemp(join(tmpdir(), 'adapter-tls-'));
    dirs.push(dir);
    // Readable for Prosody's user.
    await chmod(dir, 0o755);
    return { tls: await makeCertificate(dir, name), globalSettings: `ssl = { cafile = "${join(dir, 'cert.pem')}" }` };
  }

  test('delivers over https if authority and name are right', async () => {
    const { tls, globalSettings } = await certified('IP:127.0.0.1');
    await using tap = await startCollector({ tls });
    await using server = await startProsody({ url: tap.url, globalSettings });
    const alice = await connect(server, someone('alice'), 'phone');
    // More than one TLS record, and more than a socket accepts at once.
    const body = 'x'.repeat(100_000);
    for (let index = 0; index < 20; index++) await post(alice, { to: 'bob@localhost', body: `${index} ${body}` });
    await alice.logout();
    await expectEvents(
      server,
      tap,
      [alice.bare],
      [
        `+${alice.jid} 1`,
        ...Array.from({ length: 20 }, (_, index) => `chat ${alice.jid} > bob@localhost: ${index} ${body}`),
        `-${alice.jid} 0`,
      ],
    );
    expectSound(tap);
  });

  test('localhost is this machine, whatever the DNS says', async () => {
    const { tls, globalSettings } = await certified('DNS:localhost');
    await using tap = await startCollector({ tls });
    const url = tap.url.replace('127.0.0.1', 'localhost');
    await using server = await startProsody({ url, globalSettings });
    const alice = await connect(server, someone('alice'), 'phone');
    await alice.logout();
    await expectEvents(server, tap, [alice.bare], [`+${alice.jid} 1`, `-${alice.jid} 0`]);
  });

  for (const [what, name, trusted] of [
    ['an authority that Prosody does not know', 'IP:127.0.0.1', false],
    ['a certificate of another name', 'DNS:localhost', true],
    ['a certificate of another address', 'IP:127.0.0.2', true],
    ['a certificate that has the address as a name', 'DNS:127.0.0.1', true],
  ] as const) {
    test(`sends nothing to ${what}`, async () => {
      const { tls, globalSettings } = await certified(name);
      await using tap = await startCollector({ tls });
      await using server = await startProsody({ url: tap.url, ...(trusted && { globalSettings }) });
      const alice = await connect(server, someone('alice'), 'phone');
      await until('the log line', () => /Cannot deliver to https:.*certificate/.test(server.log()));
      assert.deepEqual(tap.requests, []);
      await alice.closeStream();
    });
  }
});

describe('prosody: the files of the queue', () => {
  let tap: Collector;
  let server: Prosody;
  let alice: Client;
  before(async () => {
    tap = await startCollector();
    server = await startProsody({ url: tap.url });
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await tap[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await tap.listen();
    alice = await connect(server, someone('alice'), 'phone', { available: false });
  });

  const segments = async () => (await readdir(server.queueDir)).filter((name) => name.endsWith('.log')).sort();
  const newest = async () => join(server.queueDir, (await segments()).at(-1)!);
  const chat = (body: string) => `chat ${alice.jid} > bob@localhost: ${body}`;

  /** Leaves messages in the queue of a stopped server. */
  async function leave(...bodies: string[]): Promise<void> {
    await fence(server, tap);
    await tap.refuse();
    for (const body of bodies) await message(alice, { to: 'bob@localhost', body });
    await server.stop();
  }

  async function restart(): Promise<void> {
    await tap.listen();
    await server.start();
    await fence(server, tap);
  }

  const told = () => eventsOf(tap, alice.bare).map(inShort);
  const epochs = () => [...new Set(tap.events.map((event) => event.epoch))];

  test('ignores an incomplete last line', async () => {
    await leave('one', 'two');
    const file = await newest();
    const line = (await readFile(file, 'utf8')).split('\n').find((text) => text.includes('"body":"two"'))!;
    await appendFile(file, line.replaceAll('two', 'torn').slice(0, -20));
    await restart();
    assert.deepEqual(told(), [chat('one'), chat('two')]);
    expectSound(tap);
  });

  test('ignores a segment with an incomplete beginning', async () => {
    await leave('one');
    const file = await newest();
    const text = await readFile(file, 'utf8');
    const number = Number(file.match(/(\d+)\.log$/)![1]);
    const next = join(server.queueDir, `${String(number + 1).padStart(12, '0')}.log`);
    await writeFile(next, `${text.split('\n')[0]}\n+someone@localhost/ph`);
    await restart();
    assert.deepEqual(told(), [chat('one')]);
    expectSound(tap);
  });

  test('puts an invalid segment aside, and keeps other files', async () => {
    await leave('one');
    await writeFile(join(server.queueDir, '999999999990.log'), 'garbage\n');
    await writeFile(join(server.queueDir, 'backup.log'), 'mine');
    await mkdir(join(server.queueDir, '000000000000.log'));
    await restart();
    assert.deepEqual(told(), [chat('one')]);
    const names = await readdir(server.queueDir);
    assert.ok(names.includes('999999999990.log.damaged'));
    assert.equal(await readFile(join(server.queueDir, 'backup.log'), 'utf8'), 'mine');
    assert.equal(server.log().match(/backup\.log is not a file of the queue/g)?.length, 1);
    assert.match(server.log(), /000000000000\.log is not a file of the queue/);
    await rm(join(server.queueDir, 'backup.log'));
    await rm(join(server.queueDir, '000000000000.log'), { recursive: true });
  });

  test('begins a new epoch if the folder was deleted while the server was down', async () => {
    const before = epochs();
    await leave();
    await rm(server.queueDir, { recursive: true });
    await restart();
    assert.equal(epochs().length, before.length + 1);
    expectSound(tap);
  });

  test('delivers a long backlog of short messages in large batches, or in sizes that the tap accepts', async () => {
    await fence(server, tap);
    await tap.refuse();
    const bodies = Array.from({ length: 5_000 }, (_, index) => `${index}`);
    // In portions, so that they are written in several parts.
    for (let first = 0; first < bodies.length; first += 250) {
      for (const body of bodies.slice(first, first + 250)) await post(alice, { to: 'bob@localhost', body });
      await settle(alice);
    }
    tap.fault = { kind: 'too-large', above: 300 };
    await tap.listen();
    await tap.wait('the first of them', () => told().length > 1_000);
    tap.fault = undefined;
    await fence(server, tap);
    assert.deepEqual(told(), bodies.map(chat));
    assert.ok(tap.requests.some(({ status, count }) => status === 200 && count > 500));
    expectSound(tap);
  });

  test('a file truncated while the server runs loses its events visibly, and the rest is delivered', async () => {
    await fence(server, tap);
    await tap.refuse();
    // More than the module caches of what is on disk, twice: so the first ones are no longer cached.
    const lost = Array.from({ length: 20 }, (_, index) => `lost ${index} ${'x'.repeat(50_000)}`);
    for (const [first, end] of [
      [0, 15],
      [15, 20],
    ] as const) {
      for (const body of lost.slice(first, end)) await post(alice, { to: 'bob@localhost', body });
      const last = new RegExp(`"body":"lost ${end - 1} .*},\\n$`);
      await until('them to be on disk', async () => last.test(await readFile(await newest(), 'utf8')));
    }
    await truncate(await newest(), 100);
    // Before the tap listens: otherwise a batch may be read before the file is cut.
    await until('the log to say so', () => server.log().includes('missing or truncated, its events are lost'));
    await tap.listen();
    await message(alice, { to: 'bob@localhost', body: 'kept' });
    await fence(server, tap);
    assert.deepEqual(told(), [chat('kept')]);
    assert.deepEqual(
      tap.holes.map((hole) => hole.to - hole.from + 1),
      [lost.length],
    );
  });

  test('delivers events still in memory although their file is gone', async () => {
    await fence(server, tap);
    const holes = tap.holes.length;
    await tap.refuse();
    await message(alice, { to: 'bob@localhost', body: 'kept' });
    await until('it to be on disk', async () => /"body":"kept".*},\n$/.test(await readFile(await newest(), 'utf8')));
    await rm(await newest());
    await tap.listen();
    await fence(server, tap);
    assert.deepEqual(told(), [chat('kept')]);
    assert.equal(tap.holes.length, holes);
  });

  test('fills several files during a long outage, and deletes them once delivered', async () => {
    await fence(server, tap);
    await tap.refuse();
    const bodies = Array.from({ length: 120 }, (_, index) => `${index} ${'x'.repeat(50_000)}`);
    for (const body of bodies) await post(alice, { to: 'bob@localhost', body });
    await settle(alice);
    await until('several files', async () => (await segments()).length > 2);
    await tap.listen();
    await fence(server, tap);
    assert.deepEqual(told(), bodies.map(chat));
    await until('one file', async () => (await segments()).length === 1);
  });

  test('events wait in memory while the disk fails, with a line in the log, and arrive afterwards', async () => {
    await fence(server, tap);
    await server.stop();
    await rm(server.queueDir, { recursive: true });
    // A file with the folder's name prevents even root from creating the queue.
    await writeFile(server.queueDir, '');
    await server.start();
    alice = await connect(server, someone('alice'), 'phone', { available: false });
    for (const body of ['one', 'two']) await message(alice, { to: 'bob@localhost', body });
    await until('the log to say so', () => server.log().includes('Cannot write to the queue'));
    assert.deepEqual(told(), []);
    await rm(server.queueDir);
    await fence(server, tap);
    assert.deepEqual(told(), [chat('one'), chat('two')]);
  });

  test('a damaged line loses only itself: a hole in the numbers, and a log line', async () => {
    const holes = tap.holes.length;
    await leave('one', 'two', 'three');
    const file = await newest();
    const lines = (await readFile(file, 'utf8')).split('\n');
    const broken = lines.map((line) => (line.includes('"body":"two"') ? `\0${line.slice(1)}` : line));
    await writeFile(file, broken.join('\n'));
    await restart();
    assert.deepEqual(told(), [chat('one'), chat('three')]);
    assert.deepEqual(
      tap.holes.slice(holes).map(({ from, to }) => to - from + 1),
      [1],
    );
    assert.match(server.log(), /Damaged queue file .*: the events in 1 place\(s\) of it are lost/);
  });

  test('a damaged beginning of a file loses only itself', async () => {
    await leave('one', 'two');
    const file = await newest();
    const text = await readFile(file, 'utf8');
    await writeFile(file, `\0${text.slice(1)}`);
    await restart();
    assert.deepEqual(told(), [chat('one'), chat('two')]);
    // Twice: events that the tap has must not be resent under other numbers.
    await server.stop();
    await restart();
    assert.deepEqual(told(), [chat('one'), chat('two')]);
  });
});
