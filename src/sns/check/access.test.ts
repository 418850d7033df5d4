import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { accessProblem, clockProblem, endpointProblem, regionOfHost } from './access.ts';
import { type Circumstances, proxyFor } from './diagnosis.ts';
import { answerOf } from './probe.ts';

const circumstances: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretLength: 40,
  proxy: undefined,
  configFile: 'pusher.toml',
};

const NOW = Date.UTC(2026, 10, 23, 6, 0, 0);

const snsError = (status: number, code: string, message: string, date = NOW) =>
  answerOf(
    status,
    { 'content-type': 'text/xml', date: new Date(date).toUTCString() },
    `<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
    NOW,
  );

/** One text of all that a diagnosis says, to match against. */
const said = (diagnosis: ReturnType<typeof accessProblem>): string =>
  diagnosis ? `${diagnosis.level}: ${diagnosis.seen} | ${diagnosis.means} | ${diagnosis.advice}` : 'nothing';

describe('the endpoint', () => {
  it('has its region in its name', () => {
    for (const host of [
      'sns.eu-west-1.amazonaws.com',
      'sns-fips.eu-west-1.amazonaws.com',
      'sns.eu-west-1.api.aws',
      'vpce-0123-abcd.sns.eu-west-1.vpce.amazonaws.com',
    ])
      assert.equal(regionOfHost(host), 'eu-west-1', host);
    assert.equal(regionOfHost('sns.cn-north-1.amazonaws.com.cn'), 'cn-north-1');
    assert.equal(regionOfHost('sns.us-gov-west-1.amazonaws.com'), 'us-gov-west-1');
    for (const host of ['127.0.0.1', 'sns.internal.example.org', 'sqs.eu-west-1.amazonaws.com'])
      assert.equal(regionOfHost(host), undefined, host);
  });

  const at = (url: string) => said(endpointProblem({ ...circumstances, endpoint: new URL(url) }));

  it('of another region is told with both ways out', () => {
    assert.match(
      at('https://sns.us-east-1.amazonaws.com'),
      /^fail: .*sns\.us-east-1.*region is eu-west-1.*region = "us-east-1".*sns_host = "sns\.eu-west-1\.amazonaws\.com"/,
    );
  });

  it('of another service of AWS is told', () => {
    assert.match(at('https://sqs.eu-west-1.amazonaws.com'), /^fail: .*sns_host = "sns\.eu-west-1\.amazonaws\.com"/);
  });

  it('without encryption is worth a warning, at AWS only', () => {
    assert.match(at('http://sns.eu-west-1.amazonaws.com'), /^warn: .*unencrypted/);
    assert.equal(at('http://127.0.0.1:4566'), 'nothing');
    assert.equal(at('https://sns.eu-west-1.amazonaws.com'), 'nothing');
  });
});

describe('no connection', () => {
  const failing = (code: string, message = code, proxy?: string) =>
    said(accessProblem({ kind: 'unreachable', code, message }, { ...circumstances, proxy }));
  for (const [code, message, expected] of [
    ['ENOTFOUND', 'getaddrinfo ENOTFOUND sns.eu-west-1.amazonaws.com', /the DNS knows no host/],
    ['EAI_AGAIN', 'getaddrinfo EAI_AGAIN', /no DNS server answers/],
    ['ECONNREFUSED', 'ECONNREFUSED', /nothing listens on port 443/],
    ['UND_ERR_CONNECT_TIMEOUT', 'Connect Timeout Error', /packets to it get lost.*allow outgoing TCP/],
    ['UND_ERR_HEADERS_TIMEOUT', 'Headers Timeout Error', /does not answer within 10 s/],
    ['CERT_HAS_EXPIRED', 'certificate has expired', /timedatectl/],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'Hostname/IP does not match', /certificate of another host/],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate', /ca_file/],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unable to verify', /ca_file/],
    ['EPROTO', 'write EPROTO ssl3_get_record:wrong version number', /does not speak TLS/],
    ['HPE_INVALID_CONSTANT', 'Expected HTTP/', /perhaps it expects TLS/],
    ['ECONNRESET', 'read ECONNRESET', /the connection breaks/],
  ] as const)
    it(`for ${code} says what that means`, () => {
      assert.match(failing(code, message), new RegExp(`^fail: https://sns\\.eu-west-1\\.amazonaws\\.com: ${code}`));
      assert.match(failing(code, message), expected);
    });

  it('names the proxy of the environment, which the daemon does not use', () => {
    assert.match(
      failing('UND_ERR_CONNECT_TIMEOUT', 'x', 'proxy.example.org:3128'),
      /names the proxy proxy\.example\.org:3128, but the daemon connects directly.*VPC endpoint/,
    );
  });
});

describe('the proxy of the environment', () => {
  const endpoint = circumstances.endpoint;
  it('is told without its password', () => {
    assert.equal(
      proxyFor(endpoint, { HTTPS_PROXY: 'http://me:pass@proxy.example.org:3128' }),
      'proxy.example.org:3128',
    );
    assert.equal(proxyFor(endpoint, { https_proxy: 'me:pass@proxy.example.org:3128' }), 'proxy.example.org:3128');
    assert.equal(proxyFor(endpoint, { HTTPS_PROXY: 'http://me:pass@[' }), 'a value that is no URL');
  });
  it('is the one for the scheme, unless the host is exempt', () => {
    assert.equal(proxyFor(endpoint, {}), undefined);
    assert.equal(proxyFor(endpoint, { HTTP_PROXY: 'http://p:1' }), undefined);
    assert.equal(proxyFor(new URL('http://127.0.0.1:9'), { HTTP_PROXY: 'http://p:1' }), 'p:1');
    for (const NO_PROXY of ['*', '.amazonaws.com', 'localhost, amazonaws.com', 'sns.eu-west-1.amazonaws.com'])
      assert.equal(proxyFor(endpoint, { HTTPS_PROXY: 'http://p:1', NO_PROXY }), undefined, NO_PROXY);
    assert.equal(proxyFor(endpoint, { HTTPS_PROXY: 'http://p:1', NO_PROXY: 'localhost,' }), 'p:1');
  });
});

describe('an answer that is not from SNS', () => {
  const answered = (status: number, headers: Record<string, string>, text: string) =>
    said(accessProblem(answerOf(status, headers, text), circumstances));
  it('is a proxy, a portal or another server', () => {
    assert.match(
      answered(403, { server: 'squid/5.7', via: '1.1 gw', 'content-type': 'text/html' }, '<html>Denied</html>'),
      /^fail: .*HTTP 403 from squid\/5\.7, via 1\.1 gw with text\/html.*a proxy, a portal or another server/,
    );
    assert.match(answered(200, { 'content-type': 'text/html' }, '<html>It works!</html>'), /not how SNS answers/);
    assert.match(answered(302, { location: 'https://portal/' }, ''), /a redirect, which SNS never sends/);
    assert.match(answered(407, {}, ''), /a proxy wants a login/);
  });
});

describe('the clock', () => {
  const MINUTE = 60_000;
  const cases = [
    [
      'SignatureDoesNotMatch',
      'Signature expired: 20261123T055000Z is now earlier than 20261123T060000Z (20261123T060500Z - 5 min.)',
    ],
    [
      'SignatureDoesNotMatch',
      'Signature not yet current: 20261123T061000Z is still later than 20261123T060500Z (20261123T060000Z + 5 min.)',
    ],
    ['RequestExpired', 'Request has expired'],
    ['InvalidSignature', 'The signature is wrong'],
  ] as const;
  for (const [code, message] of cases)
    it(`is to blame for ${code}: ${message.slice(0, 25)}…`, () => {
      const answer = snsError(403, code, message, NOW + 7 * MINUTE);
      assert.match(said(accessProblem(answer, circumstances)), /^fail: this machine's clock is 7 min behind; .*NTP/);
    });

  it('is read from the message where there is no Date header', () => {
    const answer = { ...snsError(403, 'SignatureDoesNotMatch', cases[0][1]), date: undefined };
    assert.match(said(clockProblem(answer)), /clock is 5 min behind/);
  });

  it('that differs is worth a warning before AWS refuses it', () => {
    assert.match(said(clockProblem(snsError(404, 'NotFound', '', NOW - 90_000))), /^warn: .*90 s ahead/);
    assert.equal(clockProblem(snsError(404, 'NotFound', '', NOW - 20_000)), undefined);
    assert.equal(accessProblem(snsError(404, 'NotFound', '', NOW - 90_000), circumstances), undefined);
  });
});

describe('the key', () => {
  const refused = (code: string, message: string, more: Partial<Circumstances> = {}) =>
    said(accessProblem(snsError(403, code, message), { ...circumstances, ...more }));
  it('that AWS does not know is named', () => {
    const text = refused('InvalidClientTokenId', 'The security token included in the request is invalid');
    assert.match(text, /^fail: .*AWS does not know the access key AKIAIOSFODNN7EXAMPLE/);
  });
  it('with a wrong secret is told from a secret of the wrong length', () => {
    const message = 'The request signature we calculated does not match the signature you provided.';
    assert.match(refused('SignatureDoesNotMatch', message), /does not belong to the key.*correct secret_access_key/);
    assert.match(refused('SignatureDoesNotMatch', message, { secretLength: 41 }), /41 characters and AWS's have 40/);
    assert.match(
      refused('SignatureDoesNotMatch', message, { credentials: 'aws', secretLength: undefined }),
      /where the credentials come from/,
    );
  });
  it('signed for another region or service is told from a wrong secret', () => {
    const scoped = (what: string) =>
      refused('SignatureDoesNotMatch', `Credential should be scoped to ${what}, not 'eu-west-1'.`);
    assert.match(scoped('a valid region'), /another region than eu-west-1/);
    assert.match(scoped('correct service'), /another service of AWS/);
  });
  it('that is over, or for a region that is not enabled', () => {
    assert.match(refused('ExpiredToken', 'The security token is expired'), /sso login/);
    assert.match(refused('OptInRequired', 'The AWS Access Key Id needs a subscription'), /enable the region eu-west-1/);
    assert.match(refused('MissingAuthenticationToken', 'Request is missing Authentication Token'), /drops or changes/);
  });
  it('that is missing altogether', () => {
    const observation = { kind: 'no-credentials', message: 'Could not load credentials from any providers' } as const;
    assert.match(said(accessProblem(observation, circumstances)), /^fail: no AWS credentials: .*AWS_PROFILE/);
  });
  it('is fine when SNS answers anything else', () => {
    assert.equal(refused('AuthorizationError', 'not authorized'), 'nothing');
    const xml = '<GetTopicAttributesResponse xmlns="x"><GetTopicAttributesResult/></GetTopicAttributesResponse>';
    assert.equal(accessProblem(answerOf(200, {}, xml), circumstances), undefined);
  });
});
