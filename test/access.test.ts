/**
 * Access to the admin address and the tap: every route without a token, with a wrong and the right one, and from
 * another site's page.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { Registry } from 'prom-client';
import { Agent, type Dispatcher, request } from 'undici';
import { parseConfig } from '../src/config/load.ts';
import { createFlow } from '../src/ops/flow.ts';
import { createLogger } from '../src/ops/log.ts';
import { createAdminServer } from '../src/ops/server.ts';
import { httpTap } from '../src/taps/http/http.ts';
import { createDaemon, type Daemon, SECRET } from './support/daemon.ts';
import { until } from './support/process.ts';
import { type StubSns, startStubSns } from './support/stub-sns.ts';

const TOKEN = 'a-token-for-the-console';
const WRONG = 'another-token-of-length';

/** The console's files, except src/format.ts's formatter and uPlot. */
const PAGE = readdirSync(new URL('../src/ops/console', import.meta.url)).filter((name) => name !== 'index.html');

/** Routes for probes and the login itself, which expose no data. */
const OPEN = [
  'GET /healthz',
  'GET /readyz',
  'GET /metrics',
  'GET /api/session',
  'POST /api/login',
  'POST /api/logout',
  'GET /',
  ...['format.js', 'uplot.js', 'uplot.css', ...PAGE].map((name) => `GET /${name}`),
];

const CLOSED: Readonly<Record<string, { body?: unknown; expected: number }>> = {
  'GET /api/live': { expected: 200 },
  'POST /api/live/:stream': { body: { follow: [] }, expected: 404 },
  'GET /api/samples': { expected: 200 },
  'GET /api/dead-letters': { expected: 200 },
  'GET /api/dead-letters/find': { expected: 200 },
  'GET /api/dead-letters/export': { expected: 200 },
  'GET /api/dead-letters/:id': { expected: 404 },
  'GET /api/daemon': { expected: 200 },
  'GET /api/state': { expected: 200 },
  'GET /api/find': { expected: 400 },
  'GET /api/history': { expected: 200 },
  'POST /api/dead-letters/replay': { body: { ids: [1] }, expected: 200 },
  'POST /api/dead-letters/delete': { body: { ids: [1] }, expected: 200 },
  'GET /api/sources': { expected: 200 },
  'POST /api/sources/acknowledge': { body: { all: true }, expected: 200 },
  'POST /api/sources/retire': { body: { source: 'none' }, expected: 404 },
  'POST /api/topics/try': { body: { arn: 'arn:aws:sns:eu-west-1:123456789012:none' }, expected: 409 },
};

type Headers = Record<string, string>;

/** Sends a request; returns status and headers without waiting for the end of a stream. */
async function ask(
  base: string,
  route: string,
  headers: Headers = {},
  more: { body?: unknown; agent?: Dispatcher } = {},
) {
  const [method, path] = route.replace(':id', '1').split(' ') as [Dispatcher.HttpMethod, string];
  const json = method === 'POST' ? { 'content-type': 'application/json' } : {};
  const answer = await request(base + path, {
    method,
    headers: { ...json, ...headers },
    body: method === 'POST' ? JSON.stringify(more.body ?? {}) : null,
    ...(more.agent && { dispatcher: more.agent }),
  });
  const type = String(answer.headers['content-type']);
  const text = type.startsWith('text/event-stream') ? '' : await answer.body.text();
  answer.body.on('error', () => undefined).destroy();
  return { status: answer.statusCode, headers: answer.headers, text };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

async function logIn(base: string, headers: Headers = {}): Promise<string> {
  const { status, headers: answered } = await ask(base, 'POST /api/login', headers, { body: { token: TOKEN } });
  assert.equal(status, 200);
  return String(answered['set-cookie']);
}

const cookieOf = (setCookie: string): Headers => ({ cookie: String(setCookie.split(';', 1)[0]) });

describe('access', () => {
  let sns: StubSns;
  const daemons: Daemon[] = [];
  const start = async (rest: string) => {
    const daemon = await createDaemon(
      { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
      { rest, here: true },
    );
    daemons.push(daemon);
    await daemon.start();
    return daemon;
  };
  before(async () => {
    sns = await startStubSns();
  });
  after(async () => {
    for (const daemon of daemons) await daemon[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
  });

  it('this test covers every route of the admin address', () => {
    const { routes } = createAdminServer({
      options: { listen: { host: '127.0.0.1', port: 0, loopback: true }, token: TOKEN, source_silent_after: 0 },
      notReady: () => [],
      registry: new Registry(),
      flow: createFlow(),
      state: () => assert.fail('nobody asks'),
      outboxFile: '/nowhere/outbox.db',
      deadLetters: {} as never,
      sources: {} as never,
      tryTopic: () => false,
      trace: undefined,
      log: createLogger('silent'),
    });
    assert.deepEqual(routes.toSorted(), [...OPEN, ...Object.keys(CLOSED)].toSorted());
  });

  describe('with admin.token', () => {
    let daemon: Daemon;
    let url: string;
    before(async () => {
      daemon = await start(`token = "${TOKEN}"`);
      url = daemon.adminUrl;
    });

    it('serves probes, Prometheus and the login page without a token', async () => {
      for (const route of OPEN) assert.notEqual((await ask(url, route)).status, 401, route);
      assert.equal((await ask(url, 'GET /metrics', { host: 'pusher.monitoring.svc:5291' })).status, 200);
    });

    it('embeds figures in the page only for those who may see them', async () => {
      const session = cookieOf(await logIn(url));
      const page = async (headers: Headers) => (await ask(url, 'GET /', headers)).text;
      for (const headers of [{}, bearer(WRONG), { ...session, 'sec-fetch-site': 'cross-site' }])
        assert.match(await page(headers), /id="snapshot">null<\/script>/);
      for (const headers of [session, bearer(TOKEN), { ...session, 'sec-fetch-site': 'same-origin' }])
        assert.match(await page(headers), /id="snapshot">\{"login":true,"hello":\{.*"topics":\[\{"arn":/);
      assert.equal((await ask(url, 'GET /', session)).headers['cache-control'], 'no-store');
    });

    for (const [route, { body, expected }] of Object.entries(CLOSED))
      it(`refuses ${route} without the token or a session`, async () => {
        assert.equal((await ask(url, route, {}, { body })).status, 401, 'without');
        assert.equal((await ask(url, route.replace('GET', 'HEAD'))).status, 401, 'without, HEAD');
        assert.equal((await ask(url, route, bearer(WRONG), { body })).status, 401, 'wrong');
        assert.equal((await ask(url, route, { authorization: `Basic ${TOKEN}` }, { body })).status, 401, 'Basic');
        assert.equal((await ask(url, route, bearer(TOKEN), { body })).status, expected, 'right');
        const session = cookieOf(await logIn(url));
        assert.equal((await ask(url, route, session, { body })).status, expected, 'session');
        for (const id of ['', '1', 'A'.repeat(43), '__proto__']) {
          const cookie = String(session.cookie).replace(/=.*/, `=${id}`);
          assert.equal((await ask(url, route, { cookie }, { body })).status, 401, `no such session: ${id}`);
        }
      });

    it('refuses requests that another site makes a browser send, with or without a session', async () => {
      const session = cookieOf(await logIn(url));
      for (const [route, { body }] of Object.entries(CLOSED)) {
        const foreign = { ...session, 'sec-fetch-site': 'cross-site' };
        assert.equal((await ask(url, route, foreign, { body })).status, 403, `${route} from another site`);
        if (route.startsWith('GET')) continue;
        for (const origin of ['https://evil.example', 'null', `${url}1`])
          assert.equal(
            (await ask(url, route, { ...session, origin }, { body })).status,
            403,
            `${route} from ${origin}`,
          );
        assert.notEqual(
          (await ask(url, route, { ...session, origin: url }, { body })).status,
          403,
          `${route} from itself`,
        );
      }
      assert.equal((await ask(url, 'POST /api/login', { origin: 'https://evil.example' })).status, 403);
    });

    it('accepts the token under any host name', async () => {
      for (const [route, { body, expected }] of Object.entries(CLOSED))
        for (const host of ['evil.example', 'localhost', 'console.example.org']) {
          assert.equal((await ask(url, route, { host }, { body })).status, 401, `${route} for ${host}`);
          const right = { host, ...bearer(TOKEN) };
          assert.equal((await ask(url, route, right, { body })).status, expected, `${route} for ${host} with it`);
        }
    });

    it('sends a strict Content-Security-Policy with every answer', async () => {
      for (const route of [...OPEN, ...Object.keys(CLOSED), 'GET /nothing']) {
        const { headers } = await ask(url, route, bearer(TOKEN));
        const policy = String(headers['content-security-policy']).split('; ');
        assert.ok(policy.includes("default-src 'none'"), route);
        for (const directive of policy) assert.match(directive, /^[a-z-]+ '(none|self|script)'$/, route);
        assert.ok(policy.includes("frame-ancestors 'none'") && policy.includes("script-src 'self'"), route);
        assert.equal(headers['x-content-type-options'], 'nosniff', route);
        assert.equal(headers['referrer-policy'], 'no-referrer', route);
        assert.equal(headers['cross-origin-resource-policy'], 'same-origin', route);
      }
    });

    it('refuses form posts', async () => {
      for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
        const headers = { ...bearer(TOKEN), 'content-type': type };
        const { status } = await ask(url, 'POST /api/dead-letters/delete', headers, { body: { all: true } });
        assert.equal(status, 415, type);
      }
    });

    it('does not reveal which routes exist', async () => {
      assert.equal((await ask(url, 'GET /api/nothing')).status, 401);
      assert.equal((await ask(url, 'GET /api/nothing', bearer(TOKEN))).status, 404);
    });

    it('sets an HttpOnly, SameSite cookie that is Secure behind TLS', async () => {
      assert.match(
        await logIn(url),
        /^pusher-session-[0-9a-f]{8}=[\w-]{43}; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/,
      );
      assert.match(await logIn(url, { origin: url.replace('http:', 'https:') }), /; Secure$/);
    });

    it('a logout ends the session and its stream', async () => {
      const session = cookieOf(await logIn(url));
      const live = await request(`${url}/api/live`, { headers: session });
      const ended = once(live.body.resume(), 'end');
      assert.equal((await ask(url, 'POST /api/logout', session)).status, 200);
      assert.equal((await ask(url, 'GET /api/dead-letters', session)).status, 401);
      await ended;
    });

    it('accepts the right token after any number of wrong ones from the same address', async () => {
      const agent = new Agent({ localAddress: '127.0.0.9' });
      const attempt = (token: string) => ask(url, 'POST /api/login', {}, { body: { token }, agent });
      const wrong = await Promise.all(Array.from({ length: 15 }, (_, n) => attempt(`${WRONG}${n}`)));
      assert.deepEqual(
        wrong.map(({ status }) => status),
        Array(15).fill(401),
      );
      assert.equal((await attempt(TOKEN)).status, 200);
      assert.equal((await ask(url, 'GET /api/live', bearer(TOKEN), { agent })).status, 200);
      await agent.close();
    });

    it('logs actions of the command line with their user', async () => {
      assert.deepEqual(await daemon.command('dead-letters', 'purge', '--reason', 'from-a-terminal'), {
        code: 0,
        output: '0 dead letters deleted\n',
      });
      const logged = () =>
        daemon
          .output()
          .split('\n')
          .filter((line) => line.includes('from-a-terminal'))
          .map((line) => JSON.parse(line));
      await until('two lines', () => logged().length === 2);
      const [begins, ended] = logged();
      assert.match(begins.by, /^user ./);
      assert.deepEqual([begins.reason, begins.count], ['from-a-terminal', undefined]);
      assert.equal(begins.msg, 'admin: deletion of dead letters begins');
      assert.deepEqual([ended.by, ended.reason, ended.count], [begins.by, 'from-a-terminal', 0]);
      assert.equal(ended.msg, 'admin: dead letters deleted');
    });

    it('logs actions with their user even at log level error', async () => {
      const quiet = await start(`token = "${TOKEN}"\n[log]\nlevel = "error"`);
      const session = cookieOf(await logIn(quiet.adminUrl));
      const done = ['POST /api/dead-letters/delete', 'POST /api/dead-letters/replay', 'GET /api/live?tail=bodies'];
      for (const route of done) await ask(quiet.adminUrl, route, session, { body: { all: true } });
      await quiet.command('dead-letters', 'purge', '--all');
      const messages = () => [...quiet.output().matchAll(/"msg":"(.*?)"/g)].map(([, message]) => message);
      await until('all of it', () => messages().length === 8);
      assert.deepEqual(messages(), [
        'admin: logged in',
        'admin: deletion of dead letters begins',
        'admin: dead letters deleted',
        'admin: replay of dead letters begins',
        'admin: replay of dead letters requested',
        'admin: live tail with message bodies opened',
        'admin: deletion of dead letters begins',
        'admin: dead letters deleted',
      ]);
    });

    it('logs actions with their user, and never the token', async () => {
      const session = cookieOf(await logIn(url));
      await ask(url, 'POST /api/dead-letters/delete', session, { body: { reason: 'for-the-log' } });
      await ask(url, 'POST /api/dead-letters/replay', bearer(TOKEN), { body: { topic: 'arn:for:the:log' } });
      await ask(url, 'GET /api/live?tail=bodies', session);
      const logged = () =>
        daemon
          .output()
          .split('\n')
          .filter((line) => line.includes('"admin: '))
          .map((line) => JSON.parse(line));
      await until('three lines', () => logged().some(({ msg }) => msg.includes('message bodies')));
      const lines = logged();
      const deleted = lines.findLast(({ reason }) => reason === 'for-the-log');
      assert.match(deleted.by, /^session [0-9a-f]{8}$/);
      assert.deepEqual([deleted.from, deleted.count, deleted.msg], ['127.0.0.1', 0, 'admin: dead letters deleted']);
      const replayed = lines.findLast(({ topic }) => topic === 'arn:for:the:log');
      assert.deepEqual([replayed.by, replayed.msg], ['token', 'admin: replay of dead letters requested']);
      const login = lines.findLast(({ msg }) => msg === 'admin: logged in');
      assert.equal(login.by, deleted.by, 'the session is traced back to its login');
      assert.ok(!daemon.output().includes(TOKEN) && !daemon.output().includes(WRONG));
      assert.ok(!daemon.output().includes(String(session.cookie).split('=')[1] as string));
    });
  });

  describe('without admin.token', () => {
    let url: string;
    before(async () => {
      url = (await start('')).adminUrl;
    });

    it('without a token serves only this machine', async () => {
      const { port } = new URL(url);
      for (const [route, { body, expected }] of Object.entries(CLOSED))
        for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, 'localhost:8080', '[::1]'])
          assert.equal((await ask(url, route, { host }, { body })).status, expected, `${route} for ${host}`);
      assert.equal((await ask(url, 'POST /api/login', {}, { body: { token: TOKEN } })).status, 409);
    });

    it('refuses foreign host names that resolve to this machine', async () => {
      for (const route of [...OPEN, ...Object.keys(CLOSED)])
        for (const host of ['evil.example', '127.0.0.1.evil.example', 'localhost.evil.example:80', '10.0.0.1'])
          for (const token of [{}, bearer(TOKEN)])
            assert.equal((await ask(url, route, { host, ...token })).status, 403, `${route} for ${host}`);
    });

    it('refuses pages of other sites', async () => {
      for (const [route, { body }] of Object.entries(CLOSED)) {
        assert.equal((await ask(url, route, { 'sec-fetch-site': 'same-site' }, { body })).status, 403, route);
        if (route.startsWith('GET')) continue;
        for (const origin of ['https://evil.example', 'null', 'http://localhost:3000'])
          assert.equal((await ask(url, route, { origin }, { body })).status, 403, `${route} from ${origin}`);
      }
    });

    it('does not start beyond loopback without a token', () => {
      const text = (admin: string) => `
        [modules.mod_event_pusher.sns]
        sns_host = "sns.eu-west-1.amazonaws.com"
        region = "eu-west-1"
        access_key_id = "AKIAIOSFODNN7EXAMPLE"
        secret_access_key = "x"
        account_id = "123456789012"
        [admin]
        ${admin}`;
      assert.throws(() => parseConfig(text('listen = "0.0.0.0:5291"'), '/pusher.toml'), {
        message: /admin\.token is required when `listen` is not a loopback address/,
      });
      assert.throws(() => parseConfig(text('token = "too short"'), '/pusher.toml'), {
        message: /admin\.token is a string, should be a secret of 16 characters or more/,
      });
      assert.equal(parseConfig(text(`listen = "[::]:5291"\ntoken = "${TOKEN}"`), '/pusher.toml').admin.token, TOKEN);
    });
  });

  describe('of the tap', () => {
    /** Existing and unknown routes: neither reveals anything without the secret. */
    const TAP: Readonly<Record<string, number>> = { 'POST /v1/events': 200 };
    const NOTHING = ['GET /v1/events', 'GET /', 'GET /metrics', 'GET /api/live', 'POST /api/dead-letters/delete'];
    const all = [...Object.entries(TAP), ...NOTHING.map((route) => [route, 404] as const)];
    const body = { source: 'access@test', events: [] };
    const statusOf = async (base: string, route: string, headers: Headers, agent?: Dispatcher) =>
      (await ask(base, route, headers, { body, ...(agent && { agent }) })).status;

    it('this test covers every route of the tap', () => {
      const { routes } = httpTap({ listen: { host: '127.0.0.1', port: 0 }, secret: SECRET });
      assert.deepEqual(routes, Object.keys(TAP));
    });

    describe('with tap.http.secret', () => {
      let base: string;
      before(async () => {
        base = new URL((await start('')).tapUrl).origin;
      });

      for (const [route, expected] of all)
        it(`refuses ${route} without the secret`, async () => {
          const wrong = [
            {},
            bearer(WRONG),
            bearer(TOKEN),
            { authorization: `Basic ${SECRET}` },
            { authorization: SECRET },
          ];
          // From its own address, because wrong secrets slow down answers to an address.
          const agent = new Agent({ localAddress: `127.0.1.${all.findIndex(([each]) => each === route) + 1}` });
          for (const headers of wrong)
            assert.equal(await statusOf(base, route, headers, agent), 401, JSON.stringify(headers));
          // With a secret any host name is fine: adapters may use any, and web pages lack the secret.
          const foreigners: Headers[] = [{ host: 'evil.example' }, { origin: 'https://evil.example' }];
          for (const foreign of foreigners) {
            assert.equal(await statusOf(base, route, foreign, agent), 401, JSON.stringify(foreign));
            assert.equal(
              await statusOf(base, route, { ...foreign, ...bearer(WRONG) }, agent),
              401,
              JSON.stringify(foreign),
            );
            assert.equal(await statusOf(base, route, { ...foreign, ...bearer(SECRET) }), expected);
          }
          assert.equal(await statusOf(base, route, bearer(SECRET)), expected, 'right');
          await agent.close();
        });
    });

    describe('without it', () => {
      let base: string;
      before(async () => {
        const daemon = await createDaemon(
          { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
          { here: true },
        );
        daemons.push(daemon);
        const text = await readFile(daemon.configFile, 'utf8');
        await writeFile(daemon.configFile, text.replace(/^ *secret = .*$/m, ''));
        await daemon.start();
        base = new URL(daemon.tapUrl).origin;
      });

      for (const [route, expected] of all)
        it(`without a secret serves ${route} to this machine, and to no web page`, async () => {
          const { port } = new URL(base);
          for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, '[::1]'])
            assert.equal(await statusOf(base, route, { host }), expected, host);
          for (const host of ['evil.example', '127.0.0.1.evil.example', 'localhost.evil.example:80', '10.0.0.1'])
            assert.equal(await statusOf(base, route, { host }), 403, host);
          for (const origin of ['https://evil.example', 'null', base])
            assert.equal(await statusOf(base, route, { origin }), 403, origin);
        });
    });
  });
});
