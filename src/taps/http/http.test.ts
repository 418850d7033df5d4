import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { makeCertificate } from '../../../test/support/certificate.ts';
import { until } from '../../../test/support/process.ts';
import type { HttpTapOptions } from '../../config/options.ts';
import { PusherError } from '../../errors.ts';
import { isMalformed, parseEvent } from '../../event.ts';
import type { Brake } from '../../http/brake.ts';
import type { Batch, Receipt, Receive } from '../tap.ts';
import { readCertificate } from './certificate.ts';
import { type HttpTap, httpTap } from './http.ts';
import { MAX_BATCH_BYTES } from './payload.ts';

const SECRET = 'a-secret-of-some-length';
const BATCH = { source: 's', epoch: 'x', first_seq: 1, events: [{ kind: 'presence' }, null] };

interface Answer {
  readonly status: number;
  readonly retryAfter: string | null;
  readonly json: { error?: { code: string; message: string } } & Partial<Receipt>;
}

describe('HTTP tap', () => {
  let folder: string;
  let tap: HttpTap | undefined;
  let url: string;
  let batches: Batch[];
  let logged: string[];
  let receive: Receive;
  let brake: Brake;

  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'tap-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  beforeEach(() => {
    brake = { failed: async () => {} };
  });
  afterEach(() => tap?.stop());

  const start = async (options: Partial<HttpTapOptions> = {}, closeGraceMs?: number): Promise<void> => {
    batches = [];
    logged = [];
    receive = async ({ events }) => ({ accepted: events.length, duplicates: 0, rejected: [] });
    const listen = { host: '127.0.0.1', port: 0, loopback: true };
    tap = httpTap({
      listen,
      secret: options.secret,
      certificate: readCertificate({ listen, ...options }, folder),
      log: pino({ level: 'debug' }, { write: (line: string) => logged.push(line) }),
      brake,
      closeGraceMs,
    });
    await tap.start((batch) => {
      batches.push(batch);
      return receive(batch);
    });
    url = String(tap.url);
  };

  const post = async (body: unknown, headers: Record<string, string> = {}, to = url): Promise<Answer> => {
    const response = await fetch(to, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    });
    const json = (await response.json()) as Answer['json'];
    return { status: response.status, retryAfter: response.headers.get('retry-after'), json };
  };
  /** The events of a batch as received, each malformed. */
  const rawEvents = (batch: Batch | undefined) =>
    batch?.events.map((event) => (isMalformed(event) ? event.raw : assert.fail('taken for an event')));
  const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` });

  it('answers the right secret at once, and delays wrong ones', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const failed: string[] = [];
    brake = {
      failed: (address) => {
        failed.push(address);
        return promise;
      },
    };
    await start({ secret: 'the secret of this tap' });
    const wrong = [post(BATCH, bearer('wrong')), post(BATCH), post('not JSON', {}, url.replace('/v1/events', '/'))];
    await until('all to wait', () => failed.length === 3);
    assert.equal((await post(BATCH, bearer('the secret of this tap'))).status, 200);
    resolve();
    for (const answer of wrong) assert.equal((await answer).status, 401);
  });

  it('logs one line for many refused requests of an address, then their number', async () => {
    await start({ secret: 'the secret of this tap' });
    for (let n = 0; n < 20; n++) await post(BATCH, bearer('wrong'));
    await tap?.stop();
    const lines = logged.map((line) => JSON.parse(line)).map(({ level, count, msg }) => ({ level, count, msg }));
    const msg = 'tap request refused: missing or wrong secret';
    assert.deepEqual(lines, [
      { level: 50, count: 1, msg },
      { level: 50, count: 19, msg },
    ]);
  });

  it('passes a batch on unchanged, and answers with its receipt', async () => {
    await start();
    receive = async () => ({ accepted: 1, duplicates: 0, rejected: [{ index: 1, reason: 'should be an object' }] });
    assert.deepEqual(await post(BATCH), {
      status: 200,
      retryAfter: null,
      json: { accepted: 1, duplicates: 0, rejected: [{ index: 1, reason: 'should be an object' }] },
    });
    await post({ source: 't', events: [] });
    assert.deepEqual(rawEvents(batches[0]), BATCH.events);
    const events = BATCH.events.map(parseEvent);
    assert.deepEqual(batches, [
      { tap: 'http', source: 's', numbering: { epoch: 'x', first: 1 }, events, traceparent: undefined },
      { tap: 'http', source: 't', numbering: undefined, events: [], traceparent: undefined },
    ]);
  });

  it('answers only after the batch is taken', async () => {
    await start();
    const { promise, resolve } = Promise.withResolvers<Receipt>();
    receive = () => promise;
    let answered = false;
    const posting = post(BATCH).then((answer) => {
      answered = true;
      return answer;
    });
    while (batches.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(answered, false);
    resolve({ accepted: 2, duplicates: 0, rejected: [] });
    assert.equal((await posting).status, 200);
  });

  describe('with a secret', () => {
    it('accepts a request with the secret', async () => {
      await start({ secret: SECRET });
      assert.equal((await post(BATCH, bearer(SECRET))).status, 200);
    });

    // Of every length and similarity: comparing the texts themselves in constant time would throw.
    for (const [what, headers] of [
      ['none', {}],
      ['an empty one', bearer('')],
      ['its beginning', bearer(SECRET.slice(0, -1))],
      ['more than it', bearer(`${SECRET}x`)],
      ['one of the same length', bearer(SECRET.replace('a', 'b'))],
      ['it in capitals', bearer(SECRET.toUpperCase())],
      ['one that is much longer', bearer('x'.repeat(10_000))],
      ['it without a scheme', { authorization: SECRET }],
      ['it with another scheme', { authorization: `Basic ${SECRET}` }],
    ] as const)
      it(`answers 401 to ${what}, and logs it`, async () => {
        await start({ secret: SECRET });
        const { status, json } = await post(BATCH, headers);
        assert.equal(status, 401);
        assert.deepEqual(json.error, {
          code: 'unauthorized',
          message: 'send the secret of tap.http.secret as "Authorization: Bearer <secret>"',
        });
        assert.deepEqual(batches, []);
        assert.equal(logged.length, 1);
        assert.match(String(logged[0]), /"level":50.*tap request refused: missing or wrong secret/);
        assert.doesNotMatch(String(logged[0]), new RegExp(SECRET, 'i'));
      });

    it('checks the secret before it reads the body', async () => {
      await start({ secret: SECRET });
      assert.equal((await post('not JSON')).status, 401);
      assert.equal((await post(BATCH, {}, url.replace('/v1/events', '/other'))).status, 401);
    });
  });

  describe('answers 400 to', () => {
    for (const [what, body] of [
      ['an empty body', ''],
      ['a text', 'events'],
      ['half a batch', JSON.stringify(BATCH).slice(0, -5)],
      ['a raw NUL in a string', JSON.stringify(BATCH).replace('presence', 'pre\u0000sence')],
      ['two batches', `${JSON.stringify(BATCH)}${JSON.stringify(BATCH)}`],
    ] as const)
      it(`answers 400 to text that is not JSON: ${what}`, async () => {
        await start();
        const { status, json } = await post(body);
        assert.equal(status, 400);
        assert.equal(json.error?.code, 'not_json');
        assert.match(String(json.error?.message), /^the body should be JSON with Content-Type application\/json: FST_/);
        assert.deepEqual(batches, []);
      });

    it('answers 400 to another content type', async () => {
      await start();
      const { status, json } = await post(JSON.stringify(BATCH), { 'content-type': 'text/xml' });
      assert.deepEqual([status, json.error?.code], [400, 'not_json']);
    });

    for (const [what, body, message] of [
      [
        'a batch without a source',
        { ...BATCH, source: undefined },
        'source: should be the name of the sending server node',
      ],
      ['a batch without events', { ...BATCH, events: undefined }, 'events: should be a list of events'],
      ['an epoch without numbers', { ...BATCH, first_seq: undefined }, 'epoch and first_seq go together'],
      ['a wrong number', { ...BATCH, first_seq: 0 }, 'first_seq: should be 1 or more'],
    ] as const)
      it(what, async () => {
        await start();
        const { status, json } = await post(body);
        assert.deepEqual([status, json.error], [400, { code: 'malformed_batch', message }]);
        assert.match(String(logged[0]), /"level":50.*batch refused: it does not follow the tap protocol/);
      });

    it('answers 400 to JSON that is not an object', async () => {
      await start();
      for (const body of ['null', '[]', '5', '"text"']) assert.equal((await post(body)).status, 400, body);
    });
  });

  describe('hands on, for the event alone to be refused,', () => {
    for (const [what, written, read] of [
      ['an escaped NUL', '\\u0000', '\u0000'],
      ['an escaped lone surrogate', '\\ud800', '\ud800'],
    ] as const)
      it(what, async () => {
        await start();
        const { status } = await post(JSON.stringify(BATCH).replace('presence', written));
        assert.equal(status, 200);
        assert.deepEqual(rawEvents(batches[0])?.[0], { kind: read });
      });

    it('passes on an event with a key __proto__, which has no effect', async () => {
      await start();
      const { status } = await post(
        '{"source":"s","events":[{"__proto__":{"kind":"x"},"constructor":{"prototype":1}}]}',
      );
      assert.equal(status, 200);
      assert.equal(({} as { kind?: string }).kind, undefined);
    });
  });

  describe('answers 413 to', () => {
    const TOO_LARGE = 'too_large';

    it('answers 413 to more than 1,000 events, and accepts 1,000', async () => {
      await start();
      assert.equal((await post({ source: 's', events: new Array(1_000).fill({}) })).status, 200);
      for (const count of [1_001, 10_000]) {
        const { status, json } = await post({ source: 's', events: new Array(count).fill({}) });
        assert.equal(status, 413);
        assert.deepEqual(json.error, {
          code: TOO_LARGE,
          message: `a batch has at most 1000 events, this one has ${count}`,
        });
      }
      assert.equal(batches.length, 1);
    });

    it('answers 413 to more than 4 MiB, and accepts 4 MiB', async () => {
      await start();
      const fill = (bytes: number) => {
        const empty = JSON.stringify({ source: 's', events: [{ body: '' }] });
        return JSON.stringify({ source: 's', events: [{ body: 'x'.repeat(bytes - empty.length) }] });
      };
      assert.equal((await post(fill(MAX_BATCH_BYTES))).status, 200);
      const { status, json } = await post(fill(MAX_BATCH_BYTES + 1));
      assert.equal(status, 413);
      assert.deepEqual(json.error, {
        code: TOO_LARGE,
        message: `a batch has at most ${MAX_BATCH_BYTES} bytes and 1000 events`,
      });
      assert.equal(batches.length, 1);
    });

    it('answers 413 to more than 4 MiB without Content-Length', async () => {
      await start();
      const status = await new Promise<number | undefined>((resolve, reject) => {
        const request = http.request(url, { method: 'POST', headers: { 'content-type': 'application/json' } });
        request.once('response', (response) => {
          resolve(response.statusCode);
          request.destroy();
        });
        // Writing after the answer fails; only the answer counts.
        request.once('error', (error) => setTimeout(reject, 1_000, error).unref());
        const part = Buffer.alloc(65_536, ' ');
        for (let sent = 0; sent <= MAX_BATCH_BYTES; sent += part.length) request.write(part);
        request.end();
      });
      assert.equal(status, 413);
    });
  });

  it('decodes characters that arrive in pieces', async () => {
    await start();
    const bytes = Buffer.from(JSON.stringify({ source: 's', events: [{ body: 'Grüße 👩‍👩‍👧‍👦' }] }));
    await new Promise<void>((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': bytes.length };
      const request = http.request(url, { method: 'POST', headers }, (response) => {
        response.resume().once('end', resolve);
      });
      request.once('error', reject);
      const next = (at: number): void => {
        if (at === bytes.length) request.end();
        else request.write(bytes.subarray(at, at + 1), () => setImmediate(next, at + 1));
      };
      next(0);
    });
    assert.deepEqual(rawEvents(batches[0]), [{ body: 'Grüße 👩‍👩‍👧‍👦' }]);
  });

  describe('answers 503 with Retry-After', () => {
    for (const code of ['OUTBOX_FULL', 'OUTBOX_UNUSABLE', 'OUTBOX_CLOSED'] as const)
      it(`answers 503 if the batch can't be kept: ${code}`, async () => {
        await start();
        receive = () => Promise.reject(new PusherError(code, 'outbox x is y'));
        const { status, retryAfter, json } = await post(BATCH);
        assert.deepEqual([status, retryAfter], [503, '2']);
        assert.deepEqual(json.error, { code: code.toLowerCase(), message: 'outbox x is y' });
        assert.match(String(logged[0]), /"level":40.*batch refused for now: the adapter keeps it and retries/);
      });

    it('answers 503 while the daemon stops, also on open connections, and still answers earlier requests', async () => {
      await start();
      const { promise, resolve } = Promise.withResolvers<Receipt>();
      receive = () => promise;
      const { hostname, port, pathname } = new URL(url);
      const body = JSON.stringify(BATCH);
      const request = `POST ${pathname} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
      const socket = net.connect(Number(port), hostname);
      let answers = '';
      socket.setEncoding('utf8').on('data', (text: string) => {
        answers += text;
      });
      socket.write(request);
      await until('the first request', () => batches.length === 1);
      const closed = tap?.stop();
      // Sent after an open request, so on a connection that can't be closed yet.
      socket.write(request);
      const ended = once(socket, 'close');
      // Time to read it; otherwise it would not be accepted either.
      await sleep(50);
      resolve({ accepted: 2, duplicates: 0, rejected: [] });
      await closed;
      socket.end();
      await ended;
      assert.match(answers, /^HTTP\/1\.1 200 /);
      assert.equal(batches.length, 1);
      const [, second] = answers.split('HTTP/1.1 ').slice(1);
      if (second !== undefined) assert.match(second, /^503 .*retry-after: 2\r\n/is);
    });
  });

  it('stops although a request never arrives completely', async () => {
    await start({}, 20);
    const { hostname, port, pathname } = new URL(url);
    const socket = net.connect(Number(port), hostname);
    // Disconnected, in whatever way.
    socket.on('error', () => {});
    const ended = once(socket, 'close');
    const head = `POST ${pathname} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue`;
    socket.write(`${head}\r\nContent-Length: 100\r\n\r\n{"so`);
    // "100 Continue": the request has arrived.
    await once(socket, 'data');
    await tap?.stop();
    await ended;
    assert.deepEqual(batches, []);
  });

  describe('without a secret', () => {
    /** Posts with any Host, which fetch can't set. */
    const postAs = (headers: Record<string, string>) =>
      new Promise<{ status: number | undefined; code?: string }>((resolve, reject) => {
        const request = http.request(url, {
          method: 'POST',
          headers: { 'content-type': 'application/json', ...headers },
        });
        request.once('error', reject).once('response', async (response) => {
          const text = (await response.toArray()).join('');
          resolve({ status: response.statusCode, code: JSON.parse(text).error?.code });
        });
        request.end(JSON.stringify(BATCH));
      });

    for (const host of ['localhost', 'LOCALHOST:5281', '127.0.0.1', '127.0.0.1:80', '[::1]', '[::1]:5281'])
      it(`without a secret serves the host ${host}`, async () => {
        await start();
        assert.equal((await postAs({ host })).status, 200);
      });

    for (const headers of [
      { host: 'attacker.example' },
      { host: 'attacker.example:5281' },
      { host: '127.0.0.1.attacker.example' },
      { host: 'localhost:80@attacker.example' },
      { host: 'localhost', origin: 'http://localhost' },
      { host: 'localhost', origin: 'null' },
    ] as Record<string, string>[])
      it(`answers 403 to headers that a web page can send: ${JSON.stringify(headers)}`, async () => {
        await start();
        assert.deepEqual(await postAs(headers), { status: 403, code: 'foreign' });
        assert.deepEqual(batches, []);
        assert.match(String(logged[0]), /"level":50.*it comes from a web page/);
      });

    it('with a secret serves any Host, because a web page does not have it', async () => {
      await start({ secret: SECRET });
      assert.equal((await postAs({ host: 'pusher.example', ...bearer(SECRET) })).status, 200);
    });
  });

  it('closes the connection of a client without the secret', async () => {
    await start({ secret: SECRET });
    const response = await fetch(url, { method: 'POST', body: '{}' });
    assert.deepEqual([response.status, response.headers.get('connection')], [401, 'close']);
    await response.text();
  });

  it('answers 500 to its own faults, and shows details in the log only', async () => {
    await start();
    receive = () => Promise.reject(new Error('a detail'));
    const { status, json } = await post(BATCH);
    assert.equal(status, 500);
    assert.deepEqual(json.error, { code: 'internal', message: 'internal error; see the log of the daemon' });
    assert.match(String(logged[0]), /"level":50.*a detail/);
  });

  it("names the tap's path on other paths", async () => {
    await start();
    for (const where of ['/', '/v1/event', '/v2/events'])
      assert.deepEqual(await post(BATCH, {}, url.replace('/v1/events', where)), {
        status: 404,
        retryAfter: null,
        json: { error: { code: 'not_found', message: 'the tap is at POST /v1/events' } },
      });
    assert.equal((await fetch(url)).status, 404);
  });

  it("names the address that it can't listen on", async () => {
    await start();
    const port = Number(new URL(url).port);
    const second = httpTap({ listen: { host: '127.0.0.1', port } });
    await assert.rejects(
      second.start(() => assert.fail()),
      {
        code: 'LISTEN_FAILED',
        message: new RegExp(`^tap\\.http\\.listen: can't listen on 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`),
      },
    );
    await second.stop();
  });

  describe('with TLS', () => {
    it('serves its certificate, from paths relative to the configuration', async () => {
      const { cert: ca } = await makeCertificate(folder, 'IP:127.0.0.1');
      await start({ tls_cert: 'cert.pem', tls_key: 'key.pem', secret: SECRET });
      assert.match(url, /^https:\/\/127\.0\.0\.1:\d+\/v1\/events$/);
      const answer = await new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
        const headers = { 'content-type': 'application/json', ...bearer(SECRET) };
        const request = https.request(url, { method: 'POST', ca, headers }, (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (part: string) => {
            text += part;
          });
          response.once('end', () => resolve({ status: response.statusCode, text }));
        });
        request.once('error', reject).end(JSON.stringify(BATCH));
      });
      assert.deepEqual(answer, { status: 200, text: '{"accepted":2,"duplicates":0,"rejected":[]}' });
    });

    it("names a file that it can't read", async () => {
      await makeCertificate(folder, 'IP:127.0.0.1');
      await assert.rejects(start({ tls_cert: 'missing.pem', tls_key: 'key.pem' }), {
        code: 'LISTEN_FAILED',
        message: /^tap\.http\.tls_cert: can't read missing\.pem: ENOENT/,
      });
    });

    it('names a key that does not fit, or is invalid', async () => {
      await makeCertificate(folder, 'IP:127.0.0.1');
      await assert.rejects(start({ tls_cert: 'cert.pem', tls_key: 'cert.pem' }), {
        code: 'LISTEN_FAILED',
        message: /^tap\.http\.tls_cert and tls_key: not a certificate and its key: /,
      });
    });
  });
});
