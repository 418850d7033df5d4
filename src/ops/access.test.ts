import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import fastify, { type FastifyInstance } from 'fastify';
import { guard } from './access.ts';
import { createLogger } from './log.ts';

const TOKEN = 'a-token-for-the-console';

// Every route and kind of request is tried in test/access.test.ts; here it is about time, and what would be no route.
describe('access', () => {
  let now: number;
  let server: FastifyInstance;
  beforeEach(() => {
    now = 1_000_000;
    server = fastify();
    guard(server, { token: TOKEN, log: createLogger('silent'), now: () => now });
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

  it('closes a route that does not say that it is open', async () => {
    assert.equal(await closed({}), 401);
    assert.equal((await server.inject({ url: '/open' })).body, 'outside');
  });

  it('ends a session after 12 hours', async () => {
    const { headers } = await logIn(TOKEN);
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string;
    now += 12 * 3_600_000 - 1;
    assert.equal(await closed({ cookie: `theme=dark; ${cookie}; other=1` }), 200);
    now += 1;
    assert.equal(await closed({ cookie }), 401);
  });

  it('lets an address that sent wrong tokens try again after a minute', async () => {
    for (let n = 0; n < 10; n++) assert.equal((await logIn(`wrong ${n}`)).statusCode, 401);
    assert.equal((await logIn(TOKEN)).statusCode, 429);
    assert.equal((await logIn(TOKEN, '10.0.0.2')).statusCode, 200);
    now += 60_000;
    assert.equal((await logIn(TOKEN)).statusCode, 200);
  });

  it('counts wrong tokens of an IPv6 network together', async () => {
    for (let n = 0; n < 10; n++) assert.equal((await logIn('wrong', `2001:db8::${n}:1`)).statusCode, 401);
    for (const same of ['2001:db8::', '2001:db8::ffff', '2001:db8:0:0:1:2:3:4'])
      assert.equal((await logIn(TOKEN, same)).statusCode, 429, same);
    for (const other of ['2001:db8:0:1::1', '2001:db8:1::', '::1', '::ffff:10.0.0.1'])
      assert.equal((await logIn(TOKEN, other)).statusCode, 200, other);
  });

  it('counts wrong tokens wherever they are sent, and lets sessions go on meanwhile', async () => {
    const { headers } = await logIn(TOKEN, '127.0.0.1');
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string;
    for (let n = 0; n < 10; n++) assert.equal(await closed({ authorization: `Bearer wrong ${n}` }), 401);
    assert.equal(await closed({ authorization: `Bearer ${TOKEN}` }), 429);
    assert.equal(await closed({ cookie }), 200);
  });

  it('tells of the session only at /api/session, and not whether a token is right', async () => {
    const session = async (headers: Record<string, string>) =>
      (await server.inject({ url: '/api/session', headers })).json();
    const { headers } = await logIn(TOKEN);
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string;
    for (const token of [TOKEN, 'wrong'])
      assert.deepEqual(await session({ authorization: `Bearer ${token}` }), { login: true, allowed: false });
    assert.deepEqual(await session({ cookie }), { login: true, allowed: true });
  });

  it("refuses another site's page whatever way it writes the path", async () => {
    const { headers } = await logIn(TOKEN);
    const cookie = String(headers['set-cookie']).split(';', 1)[0] as string;
    for (const url of ['/api/1', '/%61pi/1', '/a%70%69/1']) {
      assert.equal((await server.inject({ url, headers: { cookie } })).body, 'inside', url);
      const foreign = { cookie, 'sec-fetch-site': 'cross-site' };
      assert.equal((await server.inject({ url, headers: foreign })).statusCode, 403, url);
    }
  });

  it('refuses a login that is not one', async () => {
    for (const payload of [{}, { token: 1 }, { token: TOKEN, more: 1 }, { token: 'x'.repeat(2_000) }])
      assert.equal((await server.inject({ method: 'POST', url: '/api/login', payload })).statusCode, 400);
    const big = { token: 'x'.repeat(10_000) };
    assert.equal((await server.inject({ method: 'POST', url: '/api/login', payload: big })).statusCode, 413);
  });
});
