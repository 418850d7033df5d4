/** `check` fails if the daemon is not ready or could not start. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { after, afterEach, before, beforeEach, describe, it, type TestContext } from 'node:test';
import type { Finding } from '../src/sns/check/diagnosis.ts';
import { commandLine } from './support/command-line.ts';
import { BIN, createDaemon, type Daemon, type DaemonOptions } from './support/daemon.ts';
import { launch, until } from './support/process.ts';
import { type Fault, type StubSns, startStubSns } from './support/stub-sns.ts';

describe('check', () => {
  let sns: StubSns;
  let fault: Fault | undefined;
  let daemon: Daemon;
  before(async () => {
    sns = await startStubSns({ fault: () => fault });
  });
  after(() => sns[Symbol.asyncDispose]());
  beforeEach(() => {
    fault = undefined;
  });
  afterEach(() => daemon[Symbol.asyncDispose]());

  const prepare = async (options: DaemonOptions = {}) => {
    daemon = await createDaemon(
      { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
      { ...options, here: true },
    );
  };
  /** Returns its findings that do not concern SNS. */
  const check = async (t: TestContext) => {
    const before = process.exitCode;
    const { code, output } = await commandLine(t, 'check', '--json', '--config', daemon.configFile);
    // The command line runs in this process and sets its exit code.
    process.exitCode = before;
    const findings = output
      .trim()
      .split('\n')
      .map((line): Finding => JSON.parse(line));
    return { code, findings: findings.filter(({ what }) => /^(daemon|outbox|tap|admin|configuration)/.test(what)) };
  };
  const brief = (findings: readonly Finding[]) => findings.map(({ what, level }) => `${level} ${what}`);

  it('check asks the running daemon, and does not use its ports', async (t) => {
    await prepare();
    await daemon.start();
    const { findings } = await check(t);
    assert.deepEqual(brief(findings), ['ok configuration', 'ok daemon', 'ok outbox']);
    assert.match(findings[1]?.seen ?? '', /runs as process \d+ and answers at .*outbox\.db\.sock, ready/);
    assert.match(findings[2]?.seen ?? '', /outbox\.db holds [\d.]+ kB of 1\.07 GB/);
  });

  it('check fails with each reason why the running daemon is not ready', async (t) => {
    fault = { kind: 'error', status: 403, code: 'AuthorizationError' };
    await prepare();
    await daemon.start();
    await daemon.post({ source: 's', events: [{ kind: 'presence', at: 1, host: 'h', jid: 'a@h/x', present: true }] });
    await until('the pause', async () => (await fetch(`${daemon.adminUrl}/readyz`)).status === 503);
    const { code, findings } = await check(t);
    assert.equal(code, 1);
    assert.deepEqual(brief(findings), [
      'ok configuration',
      'fail daemon: topic arn:aws:sns:eu-west-1:123456789012:user_presence_updated',
      'ok outbox',
    ]);
    assert.match(findings[1]?.seen ?? '', /paused: AuthorizationError/);
  });

  it("check fails if a running daemon can't be asked", async (t) => {
    const long = `path = "./${'x'.repeat(100)}.db"`;
    await prepare({ outbox: long, rest: 'token = "a-token-for-the-console"' });
    await daemon.start();
    await daemon.configure({ outbox: long, rest: 'token = "another-token-of-length"' });
    const { code, findings } = await check(t);
    assert.equal(code, 1);
    assert.deepEqual(brief(findings), ['ok configuration', 'fail daemon']);
    assert.match(findings[1]?.seen ?? '', /but can't be reached: .*uses a different admin\.token/);
  });

  it('check accepts the state before a first start', async (t) => {
    await prepare();
    const { findings } = await check(t);
    assert.deepEqual(brief(findings), ['ok configuration', 'ok outbox', 'ok tap.http.listen', 'ok admin.listen']);
  });

  it("check fails for a port in use, an address that is not this machine's, and one port for two", async (t) => {
    await prepare();
    const { port } = new URL(daemon.tapUrl);
    const other = net.createServer().listen(Number(port), '127.0.0.1');
    await once(other, 'listening');
    const inUse = await check(t);
    other.close();
    assert.equal(inUse.code, 1);
    assert.deepEqual(brief(inUse.findings).slice(2), ['fail tap.http.listen', 'ok admin.listen']);
    assert.match(inUse.findings[2]?.seen ?? '', new RegExp(`^127\\.0\\.0\\.1:${port} is in use by another process`));

    const adminPort = new URL(daemon.adminUrl).port;
    await prepare({ tap: '' });
    await daemon.configure({ rest: 'token = "a-token-for-the-console"' });
    const text = await readFile(daemon.configFile, 'utf8');
    const away = text.replace(/(\[admin\]\s+listen = )"[^"]*"/, `$1"192.0.2.1:${adminPort}"`);
    await writeFile(daemon.configFile, away.replace('a-token-for', 'a-long-enough-token-for'));
    const elsewhere = await check(t);
    assert.deepEqual(brief(elsewhere.findings).slice(2), ['ok tap.http.listen', 'fail admin.listen']);
    assert.match(elsewhere.findings[3]?.seen ?? '', /can't be listened on: .*EADDRNOTAVAIL/);

    const tapPort = new URL(daemon.tapUrl).port;
    await writeFile(daemon.configFile, text.replace(/(\[admin\]\s+listen = )"[^"]*"/, `$1"127.0.0.1:${tapPort}"`));
    const twice = await check(t);
    assert.match(twice.findings.at(-1)?.seen ?? '', /is also tap\.http\.listen/);
  });

  it('check fails for a full outbox', async (t) => {
    const outbox = 'max_bytes = 1_048_576';
    await prepare({ outbox });
    await daemon.start();
    const event = { kind: 'unheard-of', body: 'x'.repeat(200_000) };
    for (let n = 0; n < 5; n++) await daemon.post({ source: 's', events: [event, event] });
    await until('it to be full', async () =>
      (await (await fetch(`${daemon.adminUrl}/readyz`)).text()).includes('is full'),
    );
    assert.deepEqual(brief((await check(t)).findings), ['ok configuration', 'fail daemon: outbox', 'ok outbox']);
    await daemon.stop();
    const { code, findings } = await check(t);
    assert.equal(code, 1);
    assert.equal(brief(findings)[1], 'fail outbox');
    assert.match(findings[1]?.seen ?? '', /^it is full: it holds [\d.]+ MB, outbox\.max_bytes is 1\.05 MB/);
  });

  it('check fails for a public address without a secret, or with a short one', async (t) => {
    await prepare();
    for (const [secret, problem] of [
      ['', /tap\.http\.secret is required/],
      ['secret = "short"', /tap\.http\.secret is too short/],
    ] as const) {
      const sns = `[modules.mod_event_pusher.sns]\nsns_host = "x"\nregion = "eu-west-1"\naccount_id = "123456789012"\ncredentials = "aws"`;
      await writeFile(daemon.configFile, `${sns}\n[tap.http]\nlisten = "0.0.0.0:5290"\n${secret}\n`);
      const { code, findings } = await check(t);
      assert.equal(code, 1);
      assert.match(findings[0]?.seen ?? '', problem);
    }
  });

  it('check reaches a daemon on a port that browsers block', async (t) => {
    // Blocked by https://fetch.spec.whatwg.org/#port-blocking; one of them is free.
    const refused = [6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10_080];
    const isFree = (port: number) =>
      new Promise<boolean>((resolve) => {
        const server = net.createServer().once('error', () => resolve(false));
        server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
      });
    let port = 0;
    for (const each of refused) if (port === 0 && (await isFree(each))) port = each;
    await prepare({ outbox: `path = "./${'x'.repeat(100)}.db"` });
    const text = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, text.replace(/(\[admin\]\s+listen = )"[^"]*"/, `$1"127.0.0.1:${port}"`));
    // Not started by the helper, which polls with fetch.
    const child = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile]);
    t.after(() => child.end('SIGTERM'));
    await until('it to run', () => child.output().includes('"msg":"running"'));
    const { findings } = await check(t);
    assert.match(findings[1]?.seen ?? '', new RegExp(`answers at http://127\\.0\\.0\\.1:${port}, ready`));
    assert.equal(
      (await commandLine(t, 'dead-letters', 'list', '--config', daemon.configFile)).output,
      '0 dead letters\n',
    );
  });
});
