/** `adapter check` as an operator runs it, against daemons and against other servers. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it, mock } from 'node:test';
import { adapterCheck, type CheckResult } from '../../src/cli/adapter/check.ts';
import { makeCertificate } from '../support/certificate.ts';
import { commandLine, commandLineWith } from '../support/command-line.ts';
import { createDaemon, type Daemon, SECRET, TOPICS } from '../support/daemon.ts';
import { freePorts } from '../support/process.ts';
import { startSns } from '../support/sns.ts';

const stack = new AsyncDisposableStack();
let folder: string;
/** One speaks http, the other https with a certificate of an unknown authority. */
let plain: Daemon;
let secure: Daemon;
let ca: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'check-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  await makeCertificate(folder, 'DNS:localhost');
  ca = path.join(folder, 'cert.pem');
  const sns = stack.use(await startSns(Object.values(TOPICS)));
  plain = stack.use(await createDaemon(sns, { rest: 'token = "admin-token-of-the-test"' }));
  secure = stack.use(await createDaemon(sns, { tap: `tls_cert = "${ca}"\ntls_key = "${folder}/key.pem"` }));
  await Promise.all([plain.start(), secure.start()]);
});
after(() => stack.disposeAsync());

const secureUrl = () => secure.tapUrl.replace('http:', 'https:').replace('127.0.0.1', 'localhost');

const command = (daemon: Daemon, ...args: string[]) =>
  commandLine({ mock }, 'adapter', 'check', '--config', daemon.configFile, ...args);

describe('adapter check', () => {
  it("adapter check posts with the configuration's address and secret, and leaves nothing behind", async () => {
    const { code, output } = await command(plain);
    assert.equal(code, 0, output);
    assert.match(output, /^ok .*accepts events with this secret\n$/);
    assert.doesNotMatch(await (await fetch(`${plain.adminUrl}/metrics`)).text(), /adapter check/);
  });

  it("adapter check calls an https tap by its certificate's name, and trusts the authority of --ca", async () => {
    const untrusted = await command(secure);
    assert.equal(untrusted.code, 1);
    assert.match(
      untrusted.output,
      /^FAIL {2}https:\/\/localhost:\d+\/v1\/events: .*does not trust the authority .*--ca/,
    );
    const { code, output } = await command(secure, '--ca', ca);
    assert.equal(code, 0, output);
    const missing = await command(secure, '--ca', 'nowhere.pem');
    assert.equal(missing.code, 1);
    assert.match(missing.output, /--ca: can't read nowhere\.pem/);
  });

  it("adapter check trusts the system's authorities by default, and not Node.js's own", () => {
    const script = `
      import { adapterCheck } from './src/cli/adapter/check.ts';
      console.log((await adapterCheck({ tap: { url: '${secureUrl()}', secret: '${SECRET}' } })).text);`;
    const run = (env: NodeJS.ProcessEnv) =>
      execFileSync(process.execPath, ['--input-type=module-typescript', '-e', script], {
        encoding: 'utf8',
        env: { ...process.env, ...env },
        cwd: path.join(import.meta.dirname, '../..'),
      });
    assert.match(run({ SSL_CERT_FILE: ca }), /accepts events/);
    assert.match(run({ NODE_EXTRA_CA_CERTS: ca }), /does not trust/);
  });

  const check = (url: string, options: { secret?: string; ca?: string } = {}): Promise<CheckResult> =>
    adapterCheck({
      tap: { url, secret: options.secret ?? SECRET },
      ...(options.ca !== undefined && { ca: options.ca }),
    });

  const cases: [name: string, asked: () => Promise<CheckResult>, expected: RegExp][] = [
    ['a wrong secret', () => check(plain.tapUrl, { secret: 'wrong' }), /rejects the secret/],
    ['a wrong path', () => check(plain.tapUrl.replace('v1', 'v2')), /the tap's path is \/v1\/events/],
    ['the admin address', () => check(`${plain.adminUrl}/v1/events`), /is the daemon's admin address, not its tap/],
    [
      'the admin address of a daemon without a token',
      () => check(`${secure.adminUrl}/v1/events`),
      /is the daemon's admin address/,
    ],
    [
      'https to an http port',
      () => check(plain.tapUrl.replace('http:', 'https:')),
      /it does not speak HTTPS .* http:\/\//,
    ],
    ['http to an https port', () => check(secure.tapUrl), /it speaks HTTPS, so begin the URL with https:\/\//],
    [
      'a certificate for another name',
      () => check(secureUrl().replace('localhost', '127.0.0.1'), { ca }),
      /its certificate is not for 127\.0\.0\.1/,
    ],
    [
      'a port where nothing listens',
      async () => check(`http://127.0.0.1:${(await freePorts(1))[0]}/v1/events`),
      /nothing listens there/,
    ],
    ['an unknown host', () => check('http://no-such-host.invalid/v1/events'), /no such host/],
    ['an invalid URL', () => check('localhost'), /is not a URL/],
  ];
  for (const [name, asked, expected] of cases)
    it(`adapter check diagnoses ${name}`, async () => {
      const { ok, text } = await asked();
      assert.equal(ok, false, text);
      assert.match(text, expected);
    });

  const answers: [name: string, answer: http.RequestListener, expected: RegExp][] = [
    ['a web page', (_, response) => response.end('<html>It works!</html>'), /is not the tap of xmpp-event-pusher/],
    ['JSON of another kind', (_, response) => response.end('[null]'), /is not the tap of xmpp-event-pusher/],
    ['null', (_, response) => response.end('null'), /is not the tap of xmpp-event-pusher/],
    [
      'a redirect',
      (_, response) => response.writeHead(301, { location: 'https://tap.example/v1/events' }).end(),
      /answered 301, a redirect to https:\/\/tap\.example\/v1\/events/,
    ],
    [
      "a proxy's 502",
      (_, response) => response.writeHead(502).end('Bad Gateway'),
      /answered 502, but it is not the tap/,
    ],
    [
      'an endless answer',
      (_, response) => {
        const more = () =>
          void (response.write('x'.repeat(64 * 1024)) ? setImmediate(more) : response.once('drain', more));
        more();
      },
      /is not the tap of xmpp-event-pusher/,
    ],
  ];
  for (const [name, answer, expected] of answers)
    it(`adapter check diagnoses another server's answer: ${name}`, async () => {
      const server = http.createServer(answer).listen(0, '127.0.0.1');
      await new Promise((resolve) => server.once('listening', resolve));
      const { ok, text } = await check(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/events`);
      server.closeAllConnections();
      server.close();
      assert.equal(ok, false);
      assert.match(text, expected);
    });

  it("adapter check shows a server's control characters harmlessly", async () => {
    const said = JSON.stringify({ error: { message: 'no\u001b[2J\u202e' } });
    const server = http.createServer((_, response) => response.writeHead(500).end(said)).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/events`;
    const { output } = await commandLine({ mock }, 'adapter', 'check', '--url', url, '--secret', SECRET);
    server.closeAllConnections();
    server.close();
    assert.match(output, /\(it says: no·\[2J·\)\n$/);
  });

  for (const [what, secret, problem] of [
    ['is empty', '', 'is empty'],
    ['ends in a carriage return', `${SECRET}\r`, 'ends in U+000D (a carriage return)'],
  ] as const)
    it(`adapter check and install refuse a secret that ${what}, and don't show it`, async () => {
      const tap = { ...process.env, EVENT_PUSHER_SECRET: secret };
      const to = path.join(folder, 'modules');
      for (const args of [['check'], ['install', 'prosody', '--to', to]]) {
        const answer = await commandLineWith(tap, 'adapter', ...args, '--url', plain.tapUrl);
        const said = `the secret of --secret or EVENT_PUSHER_SECRET ${problem}`;
        assert.deepEqual(answer, { code: 1, output: `xmpp-event-pusher: ${said}\n` });
      }
      assert.equal(existsSync(to), false);
    });

  it('adapter check diagnoses a server that does not speak HTTP', async () => {
    const server = net.createServer((socket) => socket.on('error', () => undefined).end('220 mail.example ESMTP\r\n'));
    server.listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { ok, text } = await check(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/events`);
    server.close();
    assert.equal(ok, false);
    assert.match(text, /something other than the tap listens there/);
  });
});
