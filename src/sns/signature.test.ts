import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { describe, it } from 'node:test';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { type AwsCredentials, createSigner } from './signature.ts';
import { CONTENT_TYPE } from './wire.ts';

const EXAMPLE_KEYS = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };
const EXAMPLE_TIME = Date.UTC(2015, 7, 30, 12, 36, 0);

/** The hash in the form that AWS's signer expects. */
class Sha256 {
  readonly #hash;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    const key = typeof secret === 'string' ? secret : new Uint8Array((secret as ArrayBuffer) ?? []);
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', key);
  }
  update(data: Uint8Array | string): void {
    this.#hash.update(data);
  }
  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

async function signedByAws(
  endpoint: URL,
  body: string,
  keys: AwsCredentials,
  now: number,
): Promise<string | undefined> {
  const { sessionToken, ...rest } = keys;
  const aws = new SignatureV4({
    service: 'sns',
    region: 'eu-west-1',
    sha256: Sha256,
    applyChecksum: false,
    credentials: sessionToken === undefined ? rest : { ...rest, sessionToken },
  });
  const request = {
    method: 'POST',
    protocol: endpoint.protocol,
    hostname: endpoint.hostname,
    path: endpoint.pathname,
    headers: { host: endpoint.host, 'content-type': CONTENT_TYPE },
    body,
  };
  return (await aws.sign(request, { signingDate: new Date(now) })).headers.authorization;
}

describe('the signature', () => {
  it("matches AWS's published test suite (post-x-www-form-urlencoded)", () => {
    const contentType = 'application/x-www-form-urlencoded';
    const signer = createSigner(new URL('https://example.amazonaws.com/'), 'us-east-1', 'service', contentType);
    const headers = signer.sign('Param1=value1', EXAMPLE_KEYS, EXAMPLE_TIME);
    assert.equal(headers['x-amz-date'], '20150830T123600Z');
    assert.equal(
      headers.authorization,
      'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ' +
        'SignedHeaders=content-type;host;x-amz-date, ' +
        'Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
    );
  });

  for (const [name, url, sessionToken] of [
    ['an AWS endpoint', 'https://sns.eu-west-1.amazonaws.com/', undefined],
    ['a port and a path', 'http://127.0.0.1:4566/sns%20endpoint/v1', undefined],
    ['a path of odd characters', "http://127.0.0.1:4566/a b/ü/🎉/it's(1)!*~+=@:;,&$%2F%41/", undefined],
    ['empty segments', 'http://127.0.0.1:4566//a//./b/../c//', undefined],
    ['nothing but slashes', 'http://127.0.0.1:4566///', undefined],
    ['a session token', 'https://sns.cn-north-1.amazonaws.com.cn/', 'IQoJb3JpZ2luX2VjE//token=='],
  ] as const)
    it(`matches AWS's own signer with ${name}`, async () => {
      const endpoint = new URL(url);
      const now = Date.UTC(2026, 10, 23, 4, 5, 6, 789);
      const body = 'Action=PublishBatch&Message=%F0%9F%8E%89%20a%2Bb&TopicArn=arn%3Aaws%3Asns';
      const keys = { ...EXAMPLE_KEYS, sessionToken };
      const ours = createSigner(endpoint, 'eu-west-1', 'sns', CONTENT_TYPE).sign(body, keys, now);
      assert.equal(ours.authorization, await signedByAws(endpoint, body, keys, now));
    });

  it("canonicalises any path as AWS's signer does", async () => {
    await fc.assert(
      fc.asyncProperty(fc.webPath({ size: 'small' }), async (path) => {
        const endpoint = new URL(`http://127.0.0.1:4566/${path}`);
        const ours = createSigner(endpoint, 'eu-west-1', 'sns', CONTENT_TYPE).sign('x', EXAMPLE_KEYS, EXAMPLE_TIME);
        assert.equal(ours.authorization, await signedByAws(endpoint, 'x', EXAMPLE_KEYS, EXAMPLE_TIME));
      }),
    );
  });

  it('renews the signing key for another day or key', () => {
    const signer = createSigner(new URL('https://sns.eu-west-1.amazonaws.com/'), 'eu-west-1', 'sns', CONTENT_TYPE);
    const sign = (now: number, secret: string) =>
      signer.sign('x', { ...EXAMPLE_KEYS, secretAccessKey: secret }, now).authorization;
    const first = sign(EXAMPLE_TIME, 'one');
    assert.notEqual(sign(EXAMPLE_TIME + 86_400_000, 'one'), first);
    assert.notEqual(sign(EXAMPLE_TIME, 'two'), first);
    assert.equal(sign(EXAMPLE_TIME, 'one'), first);
  });
});
