import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import fastify from 'fastify';
import { accepts, compressAnswers } from './compress.ts';

const TEXT = 'all is well; '.repeat(500);

describe('the encoding of an answer', () => {
  for (const [header, expected] of [
    [undefined, undefined],
    ['', undefined],
    ['identity', undefined],
    ['gzip, deflate, br', 'br'],
    ['GZIP;q=0.5', 'gzip'],
    ['br;q=0, gzip', 'gzip'],
    ['br; q=0.0, gzip;q=0', undefined],
  ] as const)
    it(`the encoding is ${expected} if a client accepts ${header}`, () => {
      assert.equal(accepts({ headers: { 'accept-encoding': header } }), expected);
    });

  it('compresses long answers, with the same content', async () => {
    const server = fastify();
    compressAnswers(server);
    server.get('/long', async () => TEXT);
    server.get('/short', async () => 'ok');
    const ask = (url: string, encoding: string) => server.inject({ url, headers: { 'accept-encoding': encoding } });
    const br = await ask('/long', 'br');
    assert.deepEqual([br.headers['content-encoding'], br.headers.vary], ['br', 'accept-encoding']);
    assert.equal(brotliDecompressSync(br.rawPayload).toString(), TEXT);
    assert.equal(gunzipSync((await ask('/long', 'gzip')).rawPayload).toString(), TEXT);
    assert.equal((await ask('/long', 'identity')).payload, TEXT);
    const short = await ask('/short', 'br');
    assert.deepEqual([short.payload, short.headers['content-encoding']], ['ok', undefined]);
  });
});
