import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import fastify, { type FastifyInstance } from 'fastify';
import pino from 'pino';
import type { Brake } from '../http/brake.ts';
import { guard } from './access.ts';

const TOKEN = 'a-token-for-the-console';

// Every route and kind of request is tried in test/access.test.ts; here it is about time, and what would be no route.
describe('access', () => {
  let now: number;
  let server: FastifyInstance;
  let brake: Brake;
  let slowed: string[];
  let lines: unknown[];
  beforeEach(() => {
    now = 1_000_000;
    server = fastify();
    slowed = [];
    lines = [];
    brake = { failed: async (address) => void slowed.push(address) };
    const write = (line: string) => {
      const { level, time: _, ...rest } = JSON.parse(line);
      if (level > 30) lines.push(rest);
    };
    const log = pino({ base: undefined }, { write });
    guard(server, { token: TOKEN, log, now: () => now, brake: { failed: (address) => brake.failed(address) } });
    server.get('/closed', async () => 'inside');
    server.get('/api/:id', async () => 'inside');
    server.get('/open', { config: { open: true } }, async () => 'outside');
  });

  const logIn = (token: string, remoteAddress = '10.0.0.1') =>
    server.inject({ method: 'POST', url: '/api/login', payload: { token }, remoteAddress });
  const closed = async (headers: Record<string, string>) => {
    const { statusCode } = await server.inject({ url: '/closed', headers });
    return statusCode;
  };

  it('closes a route that is not marked as open', async () => {
    assert.equal(await closed({}), 401);
    assert.equal((await server.inject({ url: '/open' })).body, 'outside');
  });

  it('a session ends after 12 hours', async () => {
    const { headers } = await logIn(TOKEN);
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string;
    now += 12 * 3_600_000 - 1;
    assert.equal(await closed({ cookie: `theme=dark; ${cookie}; other=1` }), 200);
    now += 1;
    assert.equal(await closed({ cookie }), 401);
  });

  it('serves the right token at once, even after many wrong ones from the same address', async () => {
    for (let n = 0; n < 11; n++) assert.equal((await logIn(`wrong ${n}`)).statusCode, 401);
    for (let n = 0; n < 11; n++) assert.equal(await closed({ authorization: `Bearer wrong ${n}` }), 401);
    assert.deepEqual(slowed, [...Array(11).fill('10.0.0.1'), ...Array(11).fill('127.0.0.1')]);
    assert.equal((await logIn(TOKEN)).statusCode, 200);
    assert.equal(await closed({ authorization: `Bearer ${TOKEN}` }), 200);
    assert.equal(slowed.length, 22);
  });

  it('delays the answer to a wrong token until the brake allows it', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    brake = { failed: () => promise };
    let answered = 0;
    const wrong = [logIn('wrong'), server.inject({ url: '/closed', headers: { authorization: 'Bearer wrong' } })].map(
      (answer) => answer.then(() => ++answered),
    );
    assert.equal((await logIn(TOKEN)).statusCode, 200);
    assert.equal(answered, 0);
    resolve();
    await Promise.all(wrong);
  });

  it('logs one line for many wrong tokens from an address', async () => {
    for (let n = 0; n < 20; n++) await closed({ authorization: `Bearer wrong ${n}` });
    await logIn('wrong', '10.0.0.2');
    for (let n = 0; n < 5; n++)
      await server.inject({ method: 'POST', url: '/api/login', headers: { origin: 'http://evil.example' } });
    await server.close();
    assert.deepEqual(lines, [
      { from: '127.0.0.1', count: 1, path: '/closed', msg: 'admin: wrong token' },
      { from: '10.0.0.2', count: 1, path: '/api/login', msg: 'admin: wrong token' },
      { from: '127.0.0.1', count: 1, path: '/api/login', problem: 'wrong_origin', msg: 'admin request refused' },
      { from: '127.0.0.1', count: 19, path: '/closed', msg: 'admin: wrong token' },
      { from: '127.0.0.1', count: 4, path: '/api/login', problem: 'wrong_origin', msg: 'admin request refused' },
    ]);
  });

  it('reveals the session only at /api/session, and never whether a token is right', async () => {
    const session = async (headers: Record<string, string>) =>
      (await server.inject({ url: '/api/session', headers })).json();
    const { headers } = await logIn(TOKEN);
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string;
    for (const token of [TOKEN, 'wrong'])
      assert.deepEqual(await session({ authorization: `Bearer ${token}` }), { login: true, allowed: false });
    assert.deepEqual(await session({ cookie }), { login: true, allowed: true });
  });

  it("refuses another site's page, however it writes the path", async () => {
    const { headers } = await logIn(TOKEN);
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string;
    for (const url of ['/api/1', '/%61pi/1', '/a%70%69/1']) {
      assert.equal((await server.inject({ url, headers: { cookie } })).body, 'inside', url);
      const foreign = { cookie, 'sec-fetch-site': 'cross-site' };
      assert.equal((await server.inject({ url, headers: foreign })).statusCode, 403, url);
    }
  });

  it('refuses an invalid login', async () => {
    for (const payload of [{}, { token: 1 }, { token: TOKEN, more: 1 }, { token: 'x'.repeat(2_000) }])
      assert.equal((await server.inject({ method: 'POST', url: '/api/login', payload })).statusCode, 400);
    const big = { token: 'x'.repeat(10_000) };
    assert.equal((await server.inject({ method: 'POST', url: '/api/login', payload: big })).statusCode, 413);
  });
});
