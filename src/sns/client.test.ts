import assert from 'node:assert/strict';
import dns from 'node:dns';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, it, mock } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeCertificate } from '../../test/support/certificate.ts';
import { until } from '../../test/support/process.ts';
import type { Notification } from '../notification/notification.ts';
import { createSnsClient, type SnsClient, type SnsClientOptions } from './client.ts';

const ARN = 'arn:aws:sns:eu-west-1:123456789012:t';
const one: Notification = { eventId: '1', topic: ARN, orderKey: 'a', at: 0, message: 'x', attributes: [], bytes: 1 };
const ANSWER = `<PublishBatchResponse><PublishBatchResult><Successful><member><MessageId>m</MessageId><Id>0</Id></member></Successful><Failed/></PublishBatchResult></PublishBatchResponse>`;
const KEYS = { accessKeyId: 'AKID', secretAccessKey: 'secret', sessionToken: 'token' };

describe('the SNS client', () => {
  const open: { close(): void }[] = [];
  afterEach(() => {
    for (const thing of open.splice(0)) thing.close();
    mock.restoreAll();
  });

  /** Starts a server with this handler; returns its port. */
  async function listen(handle: Parameters<typeof createServer>[1], host = '127.0.0.1', port = 0): Promise<number> {
    const server: Server = createServer(handle).listen(port, host);
    await new Promise((resolve, reject) => server.once('listening', resolve).once('error', reject));
    open.push({
      close: () => {
        server.closeAllConnections();
        server.close();
      },
    });
    return (server.address() as AddressInfo).port;
  }

  function clientOf(url: string, more: Partial<SnsClientOptions> = {}): SnsClient {
    const client = createSnsClient({
      endpoint: new URL(url),
      region: 'eu-west-1',
      credentials: { get: () => KEYS, expired: () => {} },
      ...more,
    });
    open.push({ close: () => client.destroy() });
    return client;
  }

  /** A server with this handler, and a client for it. */
  async function serve(
    handle: Parameters<typeof createServer>[1],
    more: Partial<SnsClientOptions> = {},
  ): Promise<SnsClient> {
    return clientOf(`http://127.0.0.1:${await listen(handle)}/some/path`, more);
  }

  const codeOf = async (client: SnsClient) => {
    const outcome = await client.publishBatch(ARN, [one]);
    return 'failure' in outcome ? outcome.failure.code : outcome.entries.map((failure) => failure?.code ?? 'taken');
  };

  it('posts a signed form to the path of sns_host', async () => {
    let seen: unknown;
    const client = await serve((request, response) => {
      seen = [request.method, request.url, request.headers['x-amz-security-token'], request.headers['content-type']];
      assert.match(String(request.headers.authorization), /^AWS4-HMAC-SHA256 Credential=AKID\/\d{8}\/eu-west-1\/sns\//);
      response.end(ANSWER);
    });
    assert.deepEqual(await codeOf(client), ['taken']);
    assert.deepEqual(seen, ['POST', '/some/path', 'token', 'application/x-www-form-urlencoded; charset=utf-8']);
  });

  it('gives up on an endpoint that does not answer', async () => {
    const client = await serve(() => {}, { timeouts: { answer: 200 } });
    assert.equal(await codeOf(client), 'UND_ERR_HEADERS_TIMEOUT');
  });

  it('gives up on an endpoint that stops in the middle of its answer', async () => {
    const client = await serve((_, response) => void response.write(ANSWER.slice(0, 99)), {
      timeouts: { answer: 200 },
    });
    assert.equal(await codeOf(client), 'UND_ERR_BODY_TIMEOUT');
  });

  it('gives up on all connections that are never established, at once', async () => {
    // Accepts connections, but never begins TLS.
    const sockets: net.Socket[] = [];
    const mute = net.createServer((socket) => sockets.push(socket.resume())).listen(0, '127.0.0.1');
    await new Promise((resolve) => mute.once('listening', resolve));
    const { port } = mute.address() as AddressInfo;
    const client = clientOf(`https://127.0.0.1:${port}/`, { timeouts: { connect: 300 } });
    const codes = Promise.all(Array.from({ length: 5 }, () => codeOf(client)));
    await until('a connection for each request', () => sockets.filter((one) => !one.closed).length === 5);
    assert.deepEqual(await codes, Array(5).fill('UND_ERR_CONNECT_TIMEOUT'));
    for (const socket of sockets) socket.destroy();
    mute.close();
  });

  it('never sends an abandoned request', async () => {
    let requests = 0;
    const port = await listen((_, response) => {
      requests += 1;
      response.end(ANSWER);
    });
    const { promise: resolved, resolve } = Promise.withResolvers<void>();
    mock.method(dns, 'lookup', (async (_host, _options, done) => {
      await resolved;
      done(null, [{ address: '127.0.0.1', family: 4 }]);
    }) as net.LookupFunction);
    const client = clientOf(`http://sns.test:${port}/`, { timeouts: { total: 200 } });
    assert.deepEqual(await Promise.all([codeOf(client), codeOf(client)]), ['RequestTimeout', 'RequestTimeout']);
    const third = codeOf(client);
    resolve();
    assert.deepEqual(await third, ['taken']);
    assert.equal(requests, 1);
  });

  it('gives up on an endpoint that answers one byte at a time', async () => {
    const client = await serve(
      (_, response) => {
        const drip = setInterval(() => response.write('<'), 20);
        response.once('close', () => clearInterval(drip));
      },
      { timeouts: { total: 300 } },
    );
    assert.equal(await codeOf(client), 'RequestTimeout');
  });

  it('distinguishes a refused connection, a cut one, a truncated answer and a foreign answer', async () => {
    assert.equal(await codeOf(clientOf('http://127.0.0.1:1/')), 'ECONNREFUSED');
    assert.equal(await codeOf(await serve((request) => request.socket.destroy())), 'UND_ERR_SOCKET');
    assert.equal(await codeOf(await serve((_, response) => response.end(ANSWER.slice(0, 99)))), 'UnreadableAnswer');
    const endless = await serve((_, response) => response.end('x'.repeat(2_000_000)));
    assert.equal(await codeOf(endless), 'UnreadableAnswer');
    const portal = await serve((_, response) => response.end('<html>'));
    assert.equal(await codeOf(portal), 'UnreadableAnswer');
    const proxy = await serve((_, response) => response.writeHead(407).end('<html>'));
    assert.equal(await codeOf(proxy), 'HTTP407');
  });

  it("accepts only a trusted certificate with the endpoint's name, whatever the environment says", async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'client-'));
    open.push({ close: () => void rm(folder, { recursive: true }) });
    const tls = await makeCertificate(folder, 'DNS:localhost');
    const server = createTlsServer(tls, (_, response) => response.end(ANSWER)).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    open.push({ close: () => void server.close() });
    const { port } = server.address() as AddressInfo;
    const outcomes = async () => [
      await codeOf(clientOf(`https://localhost:${port}/`)),
      await codeOf(clientOf(`https://127.0.0.1:${port}/`, { ca: tls.cert.toString() })),
      await codeOf(clientOf(`https://localhost:${port}/`, { ca: tls.cert.toString() })),
    ];
    const expected = ['DEPTH_ZERO_SELF_SIGNED_CERT', 'ERR_TLS_CERT_ALTNAME_INVALID', ['taken']];
    assert.deepEqual(await outcomes(), expected);
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    open.push({ close: () => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED });
    assert.deepEqual(await outcomes(), expected);
  });

  it('fetches new credentials when AWS says that they have expired, and reports missing ones', async () => {
    let expired = 0;
    const client = await serve(
      (_, response) =>
        response.writeHead(403).end('<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>'),
      { credentials: { get: async () => KEYS, expired: () => expired++ } },
    );
    assert.equal(await codeOf(client), 'ExpiredToken');
    assert.equal(expired, 1);
    const none = await serve((_, response) => response.end(ANSWER), {
      credentials: { get: () => Promise.reject(new Error('no role')), expired: () => {} },
    });
    assert.deepEqual(await none.publishBatch(ARN, [one]), {
      failure: { kind: 'credentials', code: 'NoCredentials', message: 'no role' },
    });
    const hanging = await serve((_, response) => response.end(ANSWER), {
      credentials: { get: () => new Promise(() => {}), expired: () => {} },
      timeouts: { total: 100 },
    });
    assert.equal(await codeOf(hanging), 'NoCredentials');
  });

  const refused = (code: string, message = 'why') =>
    `<ErrorResponse><Error><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`;

  for (const code of ['ExpiredToken', 'InvalidClientTokenId', 'SignatureDoesNotMatch'])
    it(`renews credentials that AWS refuses with ${code} once, and resends the same request`, async () => {
      const given = ['OLD', 'NEW', 'NEWER'].map((accessKeyId) => ({ ...KEYS, accessKeyId }));
      let current = 0;
      const source = { get: () => given[current] ?? KEYS, expired: () => void current++ };
      const seen: string[] = [];
      const accepts =
        (key: string): Parameters<typeof createServer>[1] =>
        (request, response) => {
          seen.push(/Credential=(\w+)/.exec(String(request.headers.authorization))?.[1] ?? '');
          if (seen.at(-1) === key) response.end(ANSWER);
          else response.writeHead(403).end(refused(code));
        };
      assert.deepEqual(await codeOf(await serve(accepts('NEW'), { credentials: source })), ['taken']);
      assert.deepEqual(seen.splice(0), ['OLD', 'NEW']);
      current = 0;
      assert.equal(await codeOf(await serve(accepts('NOBODY'), { credentials: source })), code);
      assert.deepEqual(seen.splice(0), ['OLD', 'NEW'], 'once, and not again and again');
      const same = { get: () => KEYS, expired: () => {} };
      assert.equal(await codeOf(await serve(accepts('NOBODY'), { credentials: same })), code);
      assert.equal(seen.length, 1, 'not where there are no others');
    });

  it("signs with AWS's time after AWS refused ours, and with ours once the clock is right", async () => {
    const HOUR = 3_600_000;
    let ahead = HOUR;
    const signed: number[] = [];
    const corrected: number[] = [];
    const client = await serve(
      (request, response) => {
        const [, ...parts] =
          /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(String(request.headers['x-amz-date'])) ?? [];
        const [year = 0, month = 1, ...rest] = parts.map(Number);
        const off = Date.UTC(year, month - 1, ...(rest as [number])) - Date.now();
        signed.push(Math.round(off / HOUR) + 0);
        if (Math.abs(off) < 300_000) response.end(ANSWER);
        else response.writeHead(403).end(refused('SignatureDoesNotMatch', 'Signature not yet current: …'));
      },
      { now: () => Date.now() + ahead, onClockCorrected: (skewMs) => corrected.push(Math.round(skewMs / HOUR)) },
    );
    assert.deepEqual(await codeOf(client), ['taken']);
    assert.deepEqual(await codeOf(client), ['taken']);
    assert.deepEqual(signed.splice(0), [1, 0, 0]);
    assert.deepEqual(corrected, [1]);
    ahead = 0;
    assert.deepEqual(await codeOf(client), ['taken']);
    assert.deepEqual(await codeOf(client), ['taken']);
    assert.deepEqual(signed, [-1, 0, 0]);
    assert.deepEqual(corrected.map(Math.abs), [1, 0], 'each change is told once');
  });

  it("reports the clock's error when correcting it does not help", async () => {
    const client = await serve((_, response) => response.writeHead(400).end(refused('RequestExpired')), {
      now: () => Date.now() + 600_000,
    });
    const outcome = await client.publishBatch(ARN, [one]);
    assert.ok('failure' in outcome && outcome.failure.kind === 'request');
    assert.ok(Math.abs((outcome.failure.skewMs ?? 0) - 600_000) < 30_000, String(outcome.failure.skewMs));
  });

  it('neither sends nor shows credentials that no header can contain', async () => {
    for (const [keys, problem] of [
      [{ ...KEYS, accessKeyId: 'AKIA\n' }, 'the access key id holds U+000A'],
      [{ ...KEYS, secretAccessKey: 'sécret' }, 'the secret holds U+00E9'],
      [{ ...KEYS, secretAccessKey: '' }, 'the secret is empty'],
      [{ ...KEYS, sessionToken: 'to ken' }, 'the session token holds U+0020'],
    ] as const) {
      const client = await serve(() => assert.fail('it was sent'), {
        credentials: { get: () => keys, expired: () => {} },
      });
      assert.deepEqual(await client.publishBatch(ARN, [one]), {
        failure: { kind: 'credentials', code: 'UnusableCredentials', message: problem },
      });
    }
  });

  it('cleans every answer of an endpoint', async () => {
    const secret = JSON.stringify({ message: 'a secret body', from_user_id: 'alice@localhost' });
    const entry = { ...one, message: secret };
    let body = '';
    const client = await serve((request, response) =>
      response
        .writeHead(403, { server: 'x'.repeat(500) })
        .end(body.replace('AUTH', String(request.headers.authorization)).replace('QUOTE', secret)),
    );
    const failureOf = async (text: string) => {
      body = text;
      const outcome = await client.publishBatch(ARN, [entry]);
      assert.ok('failure' in outcome);
      return outcome.failure;
    };
    const failure = await failureOf(refused('Not a code', `no QUOTE and AUTH ${'y'.repeat(5_000)}`));
    assert.ok(failure.kind === 'request' && failure.code === 'unknown' && failure.message.length <= 300);
    assert.doesNotMatch(failure.message, /secret body|alice|[0-9a-f]{64}/);
    const foreign = await failureOf('<html>QUOTE</html>');
    assert.ok(foreign.kind === 'foreign' && foreign.server.length === 80);
    // Many codes, but few labels.
    const codes = new Set<string>();
    for (let n = 0; n < 150; n++) codes.add((await failureOf(refused(`Code${n}`))).code);
    assert.ok(codes.size <= 101 && codes.has('unknown'), String(codes.size));
  });

  it('reuses connections, and renews them without losing a request', async () => {
    const requests = new Map<net.Socket, number>();
    const client = await serve(
      async ({ socket }, response) => {
        requests.set(socket, (requests.get(socket) ?? 0) + 1);
        await sleep(10);
        response.end(ANSWER);
      },
      { connectionAgeMs: 100 },
    );
    // Always two open requests, so that connections become old while in use.
    const ask = async () => {
      while (requests.size < 8) assert.deepEqual(await codeOf(client), ['taken']);
    };
    await Promise.all([ask(), ask()]);
    const [first] = requests.values();
    assert.ok(first && first > 1, `${first} requests on the first connection`);
    await until(
      'the old connections to be closed',
      () => [...requests.keys()].filter((one) => !one.closed).length <= 2,
    );
  });

  it('follows a change in the DNS although the old address still answers', async () => {
    const seen: string[] = [];
    const answerAs =
      (name: string): Parameters<typeof createServer>[1] =>
      (_, response) => {
        seen.push(name);
        response.end(ANSWER);
      };
    const port = await listen(answerAs('old'));
    await listen(answerAs('new'), '127.0.0.2', port);
    // The resolver used by all of Node.js's connections.
    let address = '127.0.0.1';
    const lookUp = mock.method(dns, 'lookup', ((host, _, done) => {
      assert.equal(host, 'sns.test');
      done(null, [{ address, family: 4 }]);
    }) as net.LookupFunction);
    // Long enough for five requests on a busy machine; then it passes in real time.
    const client = clientOf(`http://sns.test:${port}/`, { connectionAgeMs: 1_000 });
    const ask = async () => assert.deepEqual(await codeOf(client), ['taken']);
    for (let n = 0; n < 5; n++) await ask();
    assert.equal(lookUp.mock.callCount(), 1, 'it is asked for a connection, not for a request');
    address = '127.0.0.2';
    await until('the new address to be asked', async () => {
      await ask();
      return seen.includes('new');
    });
    for (let n = 0; n < 5; n++) await ask();
    assert.ok(!seen.slice(seen.indexOf('new')).includes('old'), 'and the old one never again');
  });
});
