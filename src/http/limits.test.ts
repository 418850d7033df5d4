/** Each of our servers disconnects slow clients in time. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Registry } from 'prom-client';
import { makeCertificate } from '../../test/support/certificate.ts';
import { until } from '../../test/support/process.ts';
import { createFlow } from '../ops/flow.ts';
import { createLogger } from '../ops/log.ts';
import { createAdminServer } from '../ops/server.ts';
import { socketBeside } from '../ops/socket.ts';
import { httpTap } from '../taps/http/http.ts';
import { REQUEST_LIMITS } from './limits.ts';

const LISTEN = { host: '127.0.0.1', port: 0, loopback: true };
const SHORT = { headersTimeout: 200, requestTimeout: 300, connectionsCheckingInterval: 50, handshakeTimeout: 200 };

describe('a client that takes too long', () => {
  let folder: string;
  const closes: (() => Promise<void>)[] = [];
  const addresses = new Map<string, net.NetConnectOpts>();
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'limits-'));
    const log = createLogger('silent');
    const tap = httpTap({ listen: LISTEN, log, limits: SHORT });
    closes.push(tap.stop);
    await tap.start(() => assert.fail('nothing arrives whole'));
    addresses.set('the tap', { host: '127.0.0.1', port: Number(new URL(String(tap.url)).port) });
    const secure = httpTap({
      listen: LISTEN,
      certificate: await makeCertificate(folder, 'IP:127.0.0.1'),
      log,
      limits: SHORT,
    });
    closes.push(secure.stop);
    await secure.start(() => assert.fail('nothing arrives whole'));
    addresses.set('the tap with TLS', { host: '127.0.0.1', port: Number(new URL(String(secure.url)).port) });
    const outboxFile = path.join(folder, 'outbox.db');
    const admin = createAdminServer({
      options: { listen: LISTEN, token: undefined, source_silent_after: 0 },
      notReady: () => [],
      registry: new Registry(),
      flow: createFlow(),
      state: () => assert.fail('nobody asks'),
      outboxFile,
      deadLetters: {} as never,
      sources: {} as never,
      tryTopic: () => false,
      trace: undefined,
      log,
      limits: SHORT,
    });
    closes.push(admin.close);
    addresses.set('the admin address', { host: '127.0.0.1', port: Number(new URL(await admin.listen()).port) });
    addresses.set('the Unix socket', { path: socketBeside(outboxFile) });
  });
  after(async () => {
    for (const close of closes) await close();
    rmSync(folder, { recursive: true });
  });

  const isCutOff = async (where: string, begin: string | Buffer, more: string) => {
    const socket = net.connect(addresses.get(where) as net.NetConnectOpts);
    socket.on('error', () => {}).resume();
    let closed = false;
    socket.once('close', () => {
      closed = true;
    });
    socket.write(begin);
    await until('the end', () => {
      if (!closed && !socket.destroyed && more) socket.write(more);
      return closed;
    });
  };

  for (const where of ['the tap', 'the admin address', 'the Unix socket'])
    for (const [what, begin, more] of [
      ['that never finishes a request head', 'GET / HTTP/1.1\r\n', 'X: y\r\n'],
      [
        'that never finishes a body',
        'POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n',
        'x',
      ],
      ['that sends nothing', '', ''],
    ] as const)
      it(`${where} disconnects a client ${what}`, () => isCutOff(where, begin, more));

  for (const [what, begin] of [
    ['that begins no TLS handshake', ''],
    ['that finishes no TLS handshake', Buffer.from([22, 3, 1, 2, 0, 1, 0, 1])],
  ] as const)
    it(`the tap disconnects a client ${what}`, () => isCutOff('the tap with TLS', begin, ''));

  it('allows a client 30 s, checked every second', () => {
    assert.deepEqual(REQUEST_LIMITS, {
      headersTimeout: 30_000,
      requestTimeout: 30_000,
      connectionsCheckingInterval: 1_000,
      handshakeTimeout: 30_000,
    });
  });
});
