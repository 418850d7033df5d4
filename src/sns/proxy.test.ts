import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { proxyFor, proxyText } from './proxy.ts';

const SNS = new URL('https://sns.eu-west-1.amazonaws.com');
const at = (environment: Record<string, string>, endpoint = SNS) => {
  const found = proxyFor(endpoint, undefined, environment);
  return found && proxyText(found);
};

describe('the proxy', () => {
  it("uses the environment's proxy for the scheme, in capitals or not", () => {
    const http = new URL('http://sns.internal');
    assert.equal(at({}), undefined);
    assert.equal(at({ HTTPS_PROXY: '' }), undefined);
    assert.equal(at({ HTTPS_PROXY: 'http://p:1' }), 'http://p:1 (HTTPS_PROXY)');
    assert.equal(at({ https_proxy: 'https://p:1' }), 'https://p:1 (https_proxy)');
    assert.equal(at({ HTTPS_PROXY: 'p:1' }), 'http://p:1 (HTTPS_PROXY)');
    assert.equal(at({ HTTP_PROXY: 'http://p:1' }), undefined);
    assert.equal(at({ HTTP_PROXY: 'http://p:1' }, http), 'http://p:1 (HTTP_PROXY)');
    assert.equal(at({ HTTPS_PROXY: 'http://p:1' }, http), undefined);
  });

  it('prefers the option over the environment', () => {
    const option = new URL('http://q:2');
    const environment = { HTTPS_PROXY: 'http://p:1', NO_PROXY: '*' };
    assert.equal(proxyFor(SNS, option, environment)?.origin.host, 'q:2');
    assert.equal(proxyFor(new URL('http://127.0.0.1'), option, environment)?.source, 'proxy');
    assert.equal(proxyFor(SNS, 'none', { HTTPS_PROXY: 'http://p:1' }), undefined);
  });

  it("never uses the environment's proxy for this machine", () => {
    for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '[::1]'])
      assert.equal(at({ HTTP_PROXY: 'http://p:1' }, new URL(`http://${host}:4566`)), undefined, host);
  });

  it("never shows the proxy's login", () => {
    const found = proxyFor(SNS, undefined, { HTTPS_PROXY: 'http://me:p%40ss%3A@proxy.example.org:3128' });
    assert.equal(found?.authorization, `Basic ${Buffer.from('me:p@ss:').toString('base64')}`);
    assert.ok(found && !JSON.stringify({ ...found, authorization: '' }).includes('p%40ss'));
    assert.equal(proxyText(found), 'http://proxy.example.org:3128 (HTTPS_PROXY)');
  });

  for (const [list, exempt] of [
    ['*', true],
    ['.amazonaws.com', true],
    ['*.amazonaws.com', true],
    ['localhost, amazonaws.com', true],
    ['localhost amazonaws.com', true],
    ['SNS.eu-west-1.amazonaws.com', true],
    ['sns.eu-west-1.amazonaws.com:443', true],
    ['sns.eu-west-1.amazonaws.com:8443', false],
    ['west-1.amazonaws.com', false],
    ['localhost,', false],
    ['', false],
  ] as const)
    it(`the proxy is ${exempt ? 'not used' : 'used'} with NO_PROXY=${list}`, () => {
      for (const name of ['NO_PROXY', 'no_proxy'])
        assert.equal(at({ HTTPS_PROXY: 'http://p:1', [name]: list }) === undefined, exempt);
    });

  it('bypasses the proxy for addresses and networks of NO_PROXY', () => {
    const exempt = (host: string, NO_PROXY: string) =>
      at({ HTTPS_PROXY: 'http://p:1', NO_PROXY }, new URL(`https://${host}`)) === undefined;
    assert.ok(exempt('10.1.2.3', '10.0.0.0/8') && exempt('10.1.2.3', '10.1.2.3'));
    assert.ok(exempt('[fd00::1]', 'fd00::/8') && exempt('[fd00::1]', '[fd00::1]'));
    assert.ok(!exempt('11.1.2.3', '10.0.0.0/8') && !exempt('[fe80::1]', 'fd00::/8'));
    assert.ok(!exempt('10.1.2.3', '10.0.0.0/99') && !exempt('10.1.2.3', '/8'));
  });

  it('rejects an invalid proxy without showing it, but only if it would be used', () => {
    for (const value of ['socks5://me:hidden@p:1', 'http://me:hidden@[', 'ftp://hidden'])
      assert.throws(
        () => at({ HTTPS_PROXY: value }),
        (error: Error) =>
          /^HTTPS_PROXY of the environment names no HTTP proxy/.test(error.message) && !/hidden/.test(error.message),
      );
    assert.equal(at({ HTTPS_PROXY: 'socks5://p:1', NO_PROXY: '*' }), undefined);
  });
});
