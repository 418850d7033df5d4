import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it, type TestContext } from 'node:test';
import { commandLine } from '../../test/support/command-line.ts';
import { freePorts, until } from '../../test/support/process.ts';
import { type Fault, type StubSns, startStubSns } from '../../test/support/stub-sns.ts';
import { loadConfig } from '../config/load.ts';
import { type Daemon, startDaemon } from '../daemon.ts';
import { createLogger } from '../ops/log.ts';

const MESSAGE_ID = '94f20ce6-13c5-43a0-9a9e-ca52d816e90b';
const REQUEST_ID = '2d6a1b5c-3f3e-5b5f-9d6d-4b6e5a1f0c00';
const says = (from: string, to: string, body: string, stanza_id?: string, type = 'chat') => ({
  ...{ kind: 'message', type, at: Date.now(), host: 'localhost', from, to, body, stanza_id },
});
const comes = (jid: string, sessions: number) => ({
  ...{ kind: 'presence', at: Date.now(), host: 'localhost', jid, present: true, sessions },
});

describe('find', () => {
  let sns: StubSns;
  let fault: Fault | undefined;
  let folder: string;
  let config: string;
  let outbox: string;
  let daemon: Daemon | undefined;
  let seq: number;
  let delivered: string[];
  before(async () => {
    sns = await startStubSns({
      fault: () => fault,
      refuses: ({ message }) => (message.includes('unacceptable') ? 'entry' : undefined),
      accepted: ({ message }) => void delivered.push(message),
    });
  });
  after(() => sns[Symbol.asyncDispose]());
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'find-'));
    outbox = path.join(folder, 'outbox.db');
    fault = undefined;
    seq = 1;
    delivered = [];
    await configure();
  });
  afterEach(async () => {
    await stop();
    await rm(folder, { recursive: true, force: true });
  });

  const configure = async (trace = '', path_ = './outbox.db') => {
    config = path.join(folder, 'pusher.toml');
    const [tap, admin] = await freePorts(2);
    const sections = [
      `[modules.mod_event_pusher.sns]
       presence_updates_topic = "presence"
       pm_messages_topic = "pm"
       muc_messages_topic = "muc"
       sns_host = "${sns.url}"
       region = "eu-west-1"
       access_key_id = "AKIAIOSFODNN7EXAMPLE"
       secret_access_key = "wJalrXUtnFEMI"
       account_id = "123456789012"`,
      `[tap.http]\nlisten = "127.0.0.1:${tap}"`,
      `[admin]\nlisten = "127.0.0.1:${admin}"`,
      `[outbox]\npath = "${path_}"`,
      `[trace]\n${trace}`,
    ];
    await writeFile(config, sections.join('\n'));
  };
  const start = async () => {
    daemon = await startDaemon(loadConfig(config), createLogger('silent'));
  };
  const stop = async () => {
    await daemon?.stop();
    daemon = undefined;
  };
  const post = async (...events: object[]) => {
    const response = await fetch(daemon?.tapUrl ?? '', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ source: 'prosody/a@chat1', epoch: 'e1', first_seq: seq, events }),
    });
    assert.equal(response.status, 200);
    seq += events.length;
  };
  const find = (t: TestContext, ...args: string[]) => commandLine(t, 'find', ...args, '--config', config);
  const lines = async (t: TestContext, ...args: string[]) => {
    const { output } = await find(t, ...args, '--json');
    const all = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    return { findings: all.slice(0, -1), about: all.at(-1) };
  };
  const whats = async (t: TestContext, ...args: string[]) =>
    (await lines(t, ...args)).findings.map(({ what, eventId }) => `${eventId.split('/').at(-1)} ${what}`);
  const settled = (count: number) => until(`${count} deliveries`, () => delivered.length === count);
  const paused = () =>
    until('a pause', async () => {
      const answer = await fetch(`${daemon?.adminUrl}/api/state`);
      const { topics } = (await answer.json()) as { topics: { state: string }[] };
      return topics.some(({ state }) => state === 'paused');
    });

  it('finds delivered, skipped, waiting and dead events of a user in any part', async (t) => {
    await start();
    await post(
      says('Alice@localhost/phone', 'bob@localhost', 'hello', 'm"1'),
      comes('alice@localhost/desk', 2),
      says('carol@localhost/x', 'alice@localhost', 'this is unacceptable', 'm2'),
      says('dave@localhost/x', 'Room@conference.localhost', 'hi', 'm3', 'groupchat'),
    );
    await settled(2);
    await until('a dead letter', async () => (await whats(t, 'm2')).includes('3 dead'));
    fault = { kind: 'error', status: 403, code: 'AuthorizationError' };
    await post(
      says('erin@localhost/x', 'bob@localhost', 'first', 'm4'),
      says('alice@localhost/phone', 'x@y', 'second'),
    );
    await paused();

    assert.deepEqual((await whats(t, 'alice@localhost')).toSorted(), [
      '1 delivered',
      '2 skipped',
      '3 dead',
      '6 waiting',
    ]);
    assert.deepEqual(await whats(t, 'ALICE@localhost/desk'), ['2 skipped']);
    assert.deepEqual(await whats(t, 'room@conference.localhost'), ['4 delivered']);
    assert.deepEqual(await whats(t, 'm"1'), ['1 delivered']);
    assert.deepEqual(await whats(t, 'prosody/a@chat1/e1/5'), ['5 waiting']);
    assert.equal((await whats(t, MESSAGE_ID)).length, 2);

    const { code, output } = await find(t, 'alice@localhost');
    assert.equal(code, 0);
    assert.match(output, /^prosody\/a@chat1\/e1\/1 {2}Alice@localhost\/phone {2}bob@localhost {2}m"1 {2}happened /m);
    assert.match(output, new RegExp(`^ {2}delivered \\S+ to pm, MessageId ${MESSAGE_ID}, request ${REQUEST_ID}$`, 'm'));
    assert.match(output, /^ {2}skipped \S+: not-first-session$/m);
    assert.match(
      output,
      /^ {2}dead letter 1 \S+ for pm: InvalidParameter; see `xmpp-event-pusher dead-letters show 1 --config \S+`$/m,
    );
    assert.match(output, /^ {2}waiting since \S+ \([\d.]+ s\) for pm, 1 before it$/m);
    assert.match(output, /^ {4}the topic is paused since \S+: .*AuthorizationError/m);
    assert.match(output, /^ {4}what to do: ./m);
    assert.match(output, /^searched the 2 notifications that wait, the dead letters, and the record .* since \S+ \(/m);
    assert.doesNotMatch(output, /hello|second|unacceptable/);

    const none = await find(t, 'nobody@localhost');
    assert.equal(none.code, 1);
    assert.match(none.output, /^found nothing about nobody@localhost\nsearched the 2 notifications that wait/);
  });

  it('finds the same in the files without a daemon, after a restart, and after moving them', async (t) => {
    await start();
    await post(says('alice@localhost/phone', 'bob@localhost', 'hello'));
    await settled(1);
    await stop();
    const asked = async () => {
      const { findings, about } = await lines(t, 'bob@localhost');
      assert.deepEqual(
        findings.map(({ what, messageId, requestId }) => [what, messageId, requestId]),
        [['delivered', MESSAGE_ID, REQUEST_ID]],
      );
      assert.equal(about.record.on, true);
    };
    await asked();
    for (const suffix of ['', '.trace']) await rename(outbox + suffix, `${path.join(folder, 'moved.db')}${suffix}`);
    await configure('', './moved.db');
    await asked();
    await start();
    await asked();
  });

  it('finds a dead letter even if it was deleted', async (t) => {
    await start();
    await post(says('alice@localhost/phone', 'bob@localhost', 'this is unacceptable', 'm1'));
    await until('a dead letter', async () => (await whats(t, 'm1')).length === 1);
    await commandLine(t, 'dead-letters', 'purge', '1', '--config', config);
    assert.match(
      (await find(t, 'm1')).output,
      /^ {2}dead letter \S+ for pm: InvalidParameter; replayed or deleted since$/m,
    );
  });

  it('searches only the given time range, and prints at most the limit', async (t) => {
    await start();
    for (let n = 0; n < 3; n++) await post(says('alice@localhost/phone', 'bob@localhost', `${n}`));
    await settled(3);
    assert.equal((await whats(t, 'alice@localhost', '--since', '1h')).length, 3);
    assert.equal((await whats(t, 'alice@localhost', '--until', '1h')).length, 0);
    for (const since of ['9999999d', '1960-01-01'])
      assert.equal((await whats(t, 'alice@localhost', '--since', since)).length, 3, since);
    assert.equal((await whats(t, 'alice@localhost', '--since', '2999-01-01')).length, 0);
    assert.match(
      (await find(t, 'alice@localhost', '--limit', '2')).output,
      /^there may be more: these are the newest 2/m,
    );
    for (const wrong of [['--since', 'yesterday'], ['--limit', '0'], []])
      assert.equal((await find(t, ...(wrong.length > 0 ? ['alice@localhost', ...wrong] : []))).code, 2, `${wrong}`);
  });

  it("prints the daemon's reason for refusing a search", async (t) => {
    await start();
    const { code, output } = await find(t, 'x'.repeat(4_000));
    assert.equal(code, 1);
    assert.match(output, /the daemon at \S+ refuses this: what \(a user, a room or an id\)/);
  });

  it('with recording off, says so, deletes earlier records, and starts over when switched on', async (t) => {
    await start();
    await post(says('alice@localhost/phone', 'bob@localhost', 'hello'));
    await settled(1);
    await stop();
    await configure('keep = "off"');
    await start();
    await post(says('alice@localhost/phone', 'bob@localhost', 'again'));
    await settled(2);
    const off = await find(t, 'alice@localhost');
    assert.equal(off.code, 1);
    assert.match(off.output, /no record of what was delivered or skipped: trace\.keep is off$/m);
    await stop();
    await configure('keep = "2h"');
    await start();
    const { about, findings } = await lines(t, 'alice@localhost');
    assert.equal(findings.length, 0);
    assert.ok(Date.now() - about.record.since < 60_000);
  });

  it("delivers even if the record can't be written, and reports that", async (t) => {
    await writeFile(`${outbox}.trace`, 'no database');
    await start();
    await post(says('alice@localhost/phone', 'bob@localhost', 'hello'));
    await settled(1);
    assert.deepEqual(await whats(t, 'alice@localhost'), ['1 delivered']);
    assert.ok(existsSync(`${outbox}.trace.damaged`));
  });
});
