import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createTopicCommand } from './explain/topic.ts';
import { explain } from './explain.ts';
import type { Circumstances, Failure } from './failure.ts';

const ARN = 'arn:aws:sns:eu-west-1:123456789012:events';
const KEY = 'arn:aws:kms:eu-west-1:123456789012:key/1234';
const circumstances: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretLength: 40,
  configFile: '/etc/pusher.toml',
  topicArn: ARN,
};

/** An explanation as one text, for matching. */
function said(failure: Failure, more: Partial<Circumstances> = {}): string {
  const { kind, reason, seen, means, advice } = explain(failure, { ...circumstances, ...more });
  return `${kind}: ${reason}: ${seen} | ${means} | ${advice}`;
}
const request = (status: number, code: string, message: string, skewMs?: number): Failure => ({
  kind: 'request',
  status,
  code,
  message,
  skewMs,
});

describe('a failed connection', () => {
  for (const [code, message, expected] of [
    ['ENOTFOUND', 'getaddrinfo ENOTFOUND sns.eu-west-1.amazonaws.com', /the DNS knows no host sns\.eu-west-1/],
    ['EAI_AGAIN', 'getaddrinfo EAI_AGAIN', /no DNS server answers/],
    ['ECONNREFUSED', 'ECONNREFUSED', /nothing listens on port 443/],
    ['UND_ERR_CONNECT_TIMEOUT', 'Connect Timeout Error', /packets to it get lost.*allow outgoing TCP/],
    ['EHOSTUNREACH', 'connect EHOSTUNREACH', /packets to it get lost/],
    ['EPERM', 'connect EPERM', /this machine itself forbids the connection/],
    ['EMFILE', 'socket EMFILE', /no file handles or ports left.*LimitNOFILE/],
    ['UND_ERR_HEADERS_TIMEOUT', 'Headers Timeout Error', /does not answer in time/],
    ['RequestTimeout', 'no complete answer within 20 s', /does not answer in time/],
    ['CERT_HAS_EXPIRED', 'certificate has expired', /timedatectl/],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'Hostname/IP does not match', /certificate is for another host/],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate', /ca_file/],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate', /ca_file/],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unable to verify', /ca_file/],
    ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'unable to get', /ca_file/],
    ['EPROTO', 'write EPROTO ssl3_get_record:wrong version number', /does not speak TLS/],
    ['ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE', 'handshake failure', /no TLS version or cipher/],
    ['HPE_INVALID_CONSTANT', 'Expected HTTP/', /perhaps it expects TLS/],
    ['ECONNRESET', 'read ECONNRESET', /the connection broke/],
  ] as const)
    it(`a connection failing with ${code} is retried and explained`, () => {
      const text = said({ kind: 'network', code, message });
      assert.ok(text.startsWith(`retry: ${code}: https://sns.eu-west-1.amazonaws.com: ${message} | `), text);
      assert.match(text, expected);
    });

  it('explains a certificate error, and that NODE_TLS_REJECT_UNAUTHORIZED is ignored, if it is set', () => {
    const failure: Failure = { kind: 'network', code: 'DEPTH_ZERO_SELF_SIGNED_CERT', message: 'self-signed' };
    assert.match(
      said(failure, { tlsChecksOff: true }),
      /NODE_TLS_REJECT_UNAUTHORIZED=0 .* does not turn this check off/,
    );
    assert.doesNotMatch(said(failure), /NODE_TLS/);
  });
});

describe('an answer that is not from SNS', () => {
  const answered = (status: number, server = '', contentType = '') =>
    said({ kind: 'foreign', status, code: `HTTP${status}`, server, contentType });
  it('explains an answer from a proxy, a portal or another server', () => {
    assert.match(
      answered(403, 'squid/5.7, via 1.1 gw', 'text/html'),
      /^pause: HTTP403: .*HTTP 403 from squid\/5\.7, via 1\.1 gw with text\/html.*a proxy, a portal or another server/,
    );
    assert.match(answered(200, '', 'text/html'), /not from SNS, or was cut short/);
    assert.match(answered(302), /a redirect, which SNS never sends/);
    assert.match(answered(407), /a proxy that is not configured .* requires a login/);
    assert.match(answered(503), /^retry: .*can't reach it, or is overloaded/);
  });
});

describe('a proxy', () => {
  const proxy = { origin: new URL('http://proxy.example.org:3128'), source: 'HTTPS_PROXY' };
  for (const [code, expected] of [
    ['ProxyUnreachable', /the proxy itself can't be reached.*check HTTPS_PROXY/],
    ['ProxyLogin', /requires a login, or refuses.*into HTTPS_PROXY/],
    ['ProxyRefused', /forbids connections to sns\.eu-west-1.*allow CONNECT to sns\.eu-west-1\.amazonaws\.com port 443/],
    ['ProxyFailed', /the proxy can't reach sns\.eu-west-1/],
    ['UND_ERR_SOCKET', /the connection broke/],
  ] as const)
    it(`names a proxy that fails with ${code}, and what to do`, () => {
      const text = said({ kind: 'network', code, message: 'why' }, { proxy });
      assert.match(text, /^retry: .* through the proxy http:\/\/proxy\.example\.org:3128 \(HTTPS_PROXY\): why/);
      assert.match(text, expected);
    });
  it('explains a proxy that requires a login for plain HTTP', () => {
    const failure = { kind: 'foreign', status: 407, code: 'HTTP407', server: '', contentType: '' } as const;
    assert.match(said(failure, { proxy }), /into HTTPS_PROXY/);
  });
});

describe('a wrong clock', () => {
  const MINUTE = 60_000;
  for (const [code, message] of [
    ['SignatureDoesNotMatch', 'Signature expired: 20261123T055000Z is now earlier than 20261123T060000Z'],
    ['SignatureDoesNotMatch', 'Signature not yet current: 20261123T061000Z is still later than 20261123T060500Z'],
    ['RequestExpired', 'Request has expired'],
    ['InvalidSignature', 'The signature is wrong'],
  ] as const)
    it(`blames the clock for ${code}: ${message.slice(0, 25)}…`, () => {
      const text = said(request(403, code, message, -7 * MINUTE));
      assert.match(text, /^pause: .*this machine's clock is 7 min behind, .*NTP/);
    });

  it('blames the clock without an amount if the answer has no time', () => {
    assert.match(said(request(400, 'RequestExpired', 'x')), /clock is wrong/);
  });

  it('does not blame the clock if the time was corrected already', () => {
    const failure = { ...request(403, 'SignatureDoesNotMatch', 'no match', -7 * MINUTE), clockOffset: 7 * MINUTE };
    assert.match(said(failure as Failure), /the secret does not belong to the key/);
  });
});

describe('a refused key', () => {
  const refused = (code: string, message: string, more: Partial<Circumstances> = {}) =>
    said(request(403, code, message), more);
  it('names an access key that AWS does not know', () => {
    const text = refused('InvalidClientTokenId', 'The security token included in the request is invalid');
    assert.match(text, /^pause: .*AWS does not know the access key AKIAIOSFODNN7EXAMPLE/);
  });
  it('distinguishes a wrong secret from one of the wrong length', () => {
    const message = 'The request signature we calculated does not match the signature you provided.';
    assert.match(refused('SignatureDoesNotMatch', message), /does not belong to the key.*correct secret_access_key/);
    assert.match(refused('SignatureDoesNotMatch', message, { secretLength: 41 }), /41 characters and AWS's have 40/);
    assert.match(
      refused('SignatureDoesNotMatch', message, { credentials: 'aws', secretLength: undefined }),
      /correct the secret at its origin/,
    );
  });
  it('distinguishes a signature for another region or service from a wrong secret', () => {
    const scoped = (what: string) =>
      refused('SignatureDoesNotMatch', `Credential should be scoped to ${what}, not 'eu-west-1'.`);
    assert.match(scoped('a valid region'), /another region than eu-west-1/);
    assert.match(scoped('correct service'), /another service of AWS/);
  });
  it('explains expired credentials, a region that is not enabled, and lost headers', () => {
    assert.match(refused('ExpiredToken', 'The security token is expired'), /sso login/);
    assert.match(refused('OptInRequired', 'The AWS Access Key Id needs a subscription'), /enable the region eu-west-1/);
    assert.match(refused('MissingAuthenticationToken', 'Request is missing Authentication Token'), /drops or changes/);
    assert.match(refused('InvalidAction', 'Could not find operation'), /it is not SNS/);
  });
  it("explains missing credentials, and those that can't be sent", () => {
    const failure = { kind: 'credentials', code: 'NoCredentials', message: 'no profile x' } as const;
    assert.match(said(failure), /^pause: NoCredentials: no profile x .*AWS_PROFILE/);
    assert.match(said({ ...failure, code: 'UnusableCredentials' }), /correct the access key at its origin/);
  });
});

describe('a refused topic', () => {
  const USER = 'arn:aws:iam::123456789012:user/pusher';
  const denied = (why: string, who = USER) =>
    said(request(403, 'AuthorizationError', `User: ${who} is not authorized to perform: SNS:Publish on ${ARN} ${why}`));

  it('explains a missing topic with both commands that create it', () => {
    const text = said(request(404, 'NotFound', 'Topic does not exist'));
    assert.match(text, /^pause: NotFound: .*no topic events in account 123456789012, region eu-west-1/);
    assert.match(text, /xmpp-event-pusher topics create --config \/etc\/pusher\.toml/);
    assert.match(text, /aws sns create-topic --name events --region eu-west-1`\n/);
    assert.equal(
      createTopicCommand(`${ARN}.fifo`, 'eu-west-1'),
      'aws sns create-topic --name events.fifo --region eu-west-1 --attributes FifoTopic=true,FifoThroughputScope=MessageGroup',
    );
  });

  it('explains a missing permission with the caller and the command that prints the policy', () => {
    const text = denied('because no identity-based policy allows the SNS:Publish action');
    assert.match(text, /user\/pusher lacks sns:Publish .*no identity-based policy allows it/);
    assert.match(text, /iam-policy --config \/etc\/pusher\.toml/);
  });

  it('names the kind of policy that denies', () => {
    assert.match(
      denied('with an explicit deny in a service control policy'),
      /a service control policy denies it.*from that denial/,
    );
    assert.match(denied('with an explicit deny in an identity-based policy'), /an identity-based policy denies it/);
    assert.match(
      denied('because no permissions boundary allows the SNS:Publish action'),
      /no permissions boundary allows it.*in the permissions boundary too/,
    );
    assert.match(
      denied('because no VPC endpoint policy allows the SNS:Publish action'),
      /in the VPC endpoint policy too/,
    );
  });

  it("explains a topic of another account than the key's with both accounts", () => {
    assert.match(
      denied('', 'arn:aws:sts::210987654321:assumed-role/xmpp/session'),
      /credentials are of account 210987654321, the topic of account 123456789012 .*account_id = "210987654321"/,
    );
  });

  it("explains a topic of another region or account than the endpoint's", () => {
    assert.match(
      said(request(400, 'InvalidParameter', 'Invalid parameter: TopicArn')),
      /^pause: .*not responsible for topics of region eu-west-1.*correct region, account_id or sns_host/,
    );
  });

  it('explains an encrypted topic with the KMS key and the missing permissions', () => {
    assert.match(
      said(request(400, 'KMSAccessDenied', 'no access'), { kmsKey: KEY }),
      /may not use its key .*kms:GenerateDataKey\* and kms:Decrypt on the key arn:aws:kms:.*key\/1234,.*--kms-key/,
    );
    assert.match(said(request(400, 'KMSDisabledException', 'disabled')), /enable the key of the topic/);
    assert.match(said(request(400, 'KMSNotFound', 'gone')), /give the topic another/);
  });

  it('does not blame the topic when SNS throttles or fails', () => {
    assert.match(said(request(400, 'Throttling', 'Rate exceeded')), /^retry: .*quota/);
    assert.match(said(request(500, 'InternalError', 'oops')), /^retry: .*SNS itself fails/);
    assert.match(said(request(400, 'EndpointDisabled', 'x')), /^pause: .*enable the endpoint/);
  });
});

describe('who is at fault', () => {
  it('never blames a notification for the key, the clock, the network or the configuration', () => {
    for (const failure of [
      { kind: 'network', code: 'ECONNREFUSED', message: '' },
      { kind: 'credentials', code: 'NoCredentials', message: '' },
      { kind: 'foreign', status: 503, code: 'HTTP503', server: '', contentType: '' },
      request(403, 'ExpiredToken', ''),
      request(400, 'RequestExpired', ''),
      request(403, 'AuthorizationError', ''),
      request(400, 'Throttling', ''),
    ] as const)
      assert.equal(explain(failure, circumstances).surroundings, true, failure.code);
  });
  it('may blame a notification that SNS fails for or refuses', () => {
    assert.equal(explain(request(500, 'InternalError', ''), circumstances).surroundings, false);
    assert.equal(explain(request(400, 'InvalidParameter', ''), circumstances).surroundings, false);
  });
});
