import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import type { Notification } from '../notification/notification.ts';
import { createSnsClient, type SnsClient, type SnsClientOptions } from './client.ts';

const ARN = 'arn:aws:sns:eu-west-1:123456789012:t';
const one: Notification = { eventId: '1', topicArn: ARN, orderKey: 'a', at: 0, message: 'x', attributes: [], bytes: 1 };
const ANSWER = `<PublishBatchResponse><PublishBatchResult><Successful><member><MessageId>m</MessageId><Id>0</Id></member></Successful><Failed/></PublishBatchResult></PublishBatchResponse>`;
const KEYS = { accessKeyId: 'AKID', secretAccessKey: 'secret', sessionToken: 'token' };

describe('the SNS client', () => {
  const open: { close(): void }[] = [];
  afterEach(() => {
    for (const thing of open.splice(0)) thing.close();
  });

  /** A server that answers as `handle` says, and a client for it. */
  async function serve(
    handle: Parameters<typeof createServer>[1],
    more: Partial<SnsClientOptions> = {},
  ): Promise<SnsClient> {
    const server: Server = createServer(handle).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    const client = createSnsClient({
      endpoint: new URL(`http://127.0.0.1:${port}/some/path`),
      region: 'eu-west-1',
      credentials: { get: () => KEYS, expired: () => {} },
      connections: 2,
      ...more,
    });
    open.push({
      close: () => {
        client.destroy();
        server.closeAllConnections();
        server.close();
      },
    });
    return client;
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

  it('gives up on an endpoint that answers a byte at a time', async () => {
    const client = await serve(
      (_, response) => {
        const drip = setInterval(() => response.write('<'), 20);
        response.once('close', () => clearInterval(drip));
      },
      { timeouts: { total: 300 } },
    );
    assert.equal(await codeOf(client), 'RequestTimeout');
  });

  it('tells a refused and a cut connection, an answer cut short and one that is not SNS', async () => {
    const refused = createSnsClient({
      endpoint: new URL('http://127.0.0.1:1/'),
      region: 'eu-west-1',
      credentials: { get: () => KEYS, expired: () => {} },
      connections: 1,
    });
    assert.equal(await codeOf(refused), 'ECONNREFUSED');
    refused.destroy();
    assert.equal(await codeOf(await serve((request) => request.socket.destroy())), 'UND_ERR_SOCKET');
    assert.equal(await codeOf(await serve((_, response) => response.end(ANSWER.slice(0, 99)))), 'UnreadableAnswer');
    const endless = await serve((_, response) => response.end('x'.repeat(2_000_000)));
    assert.equal(await codeOf(endless), 'UnreadableAnswer');
    const portal = await serve((_, response) => response.end('<html>'));
    assert.equal(await codeOf(portal), 'UnreadableAnswer');
    const proxy = await serve((_, response) => response.writeHead(407).end('<html>'));
    assert.equal(await codeOf(proxy), 'HTTP407');
  });

  it('asks for new credentials when AWS says they have expired, and says when there are none', async () => {
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
});
