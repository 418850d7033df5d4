/** The endpoint's checks, with the test's own certificate authority and a fetch that answers like SNS. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type Authority, ISSUER, makeAuthority, signatureOf } from '../../test/support/sns-signer.ts';
import { type SnsRequest, snsVerifier, type VerifierOptions } from './verify.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_presence_updated';
const CERTIFICATE_URL = 'https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem';

describe('snsVerifier', () => {
  let folder: string;
  let sns: Authority;
  let other: Authority;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'sns-'));
    sns = await makeAuthority(folder, 'sns.amazonaws.com');
    other = await makeAuthority(folder, 'example.org');
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const message = (fields: object = {}, version: '1' | '2' = '2', key = sns.key) => {
    const envelope: Record<string, string> = {
      Type: 'Notification',
      MessageId: 'b4c5',
      TopicArn: TOPIC,
      Message: '{"user_id":"alice@example.org","present":true}',
      Timestamp: new Date(Date.now()).toISOString(),
      SignatureVersion: version,
      SigningCertURL: CERTIFICATE_URL,
      ...fields,
    };
    const Signature = signatureOf(envelope, key);
    return { Signature, ...envelope, ...fields };
  };
  const confirmation = (fields: object = {}) =>
    message({
      Type: 'SubscriptionConfirmation',
      Message: 'You have chosen to subscribe',
      Token: '2336412f37',
      SubscribeURL: `https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=${TOPIC}&Token=2336412f37`,
      ...fields,
    });
  const request = (envelope: object): SnsRequest => ({ headers: {}, body: JSON.stringify(envelope) });

  /** A verifier whose fetch answers from a table; `asked` lists the requests. */
  const endpoint = (options: Partial<VerifierOptions> = {}, answers: Record<string, () => Response> = {}) => {
    const asked: string[] = [];
    const known: Record<string, () => Response> = {
      [CERTIFICATE_URL]: () => new Response(`${sns.leaf}${sns.issuer}`),
      [ISSUER]: () => new Response(new Uint8Array(sns.issuerDer)),
      ...answers,
    };
    const fetchKnown: typeof fetch = async (input) => {
      const url = String(input);
      asked.push(url);
      return known[url]?.() ?? new Response('', { status: url.includes('ConfirmSubscription') ? 200 : 404 });
    };
    const verify = snsVerifier({ topics: [TOPIC], roots: [other.root, sns.root], fetch: fetchKnown, ...options });
    return { verify, asked };
  };
  const refusal = async (
    envelope: object,
    options?: Partial<VerifierOptions>,
    answers?: Record<string, () => Response>,
  ) => {
    const verified = await endpoint(options, answers).verify(request(envelope));
    return verified.kind === 'refused' ? `${verified.status} ${verified.reason}` : verified.kind;
  };

  for (const version of ['1', '2'] as const)
    it(`accepts a signature of version ${version}, with and without a subject`, async () => {
      for (const fields of [{}, { Subject: 'Hi' }]) {
        const verified = await endpoint().verify(request(message(fields, version)));
        assert.ok(verified.kind === 'notification');
        assert.partialDeepStrictEqual(verified.notifications, [{ kind: 'presence', user_id: 'alice@example.org' }]);
      }
    });

  it('accepts the body as text, bytes, base64, or the object parsed by a framework', async () => {
    const envelope = message({ Message: '{"user_id":"zoë@example.org","present":true}' });
    const text = JSON.stringify(envelope);
    const base64 = Buffer.from(text).toString('base64');
    const { verify } = endpoint();
    for (const body of [text, Buffer.from(text), envelope]) assert.equal((await verify({ body })).kind, 'notification');
    assert.equal((await verify({ body: base64, isBase64Encoded: true })).kind, 'notification');
  });

  it('refuses a change to any signed field', async () => {
    const original = message({ Subject: 'Hi' });
    for (const [name, value] of Object.entries({
      Message: '{"user_id":"mallory@example.org","present":true}',
      MessageId: 'b4c6',
      Subject: 'Ho',
      Timestamp: new Date(Date.now() - 1_000).toISOString(),
      Signature: Buffer.from('wrong').toString('base64'),
    }))
      assert.equal(await refusal({ ...original, [name]: value }), '403 its signature is wrong', name);
    assert.equal(await refusal({ ...original, SignatureVersion: '1' }), '403 its signature is wrong');
    for (const version of ['3', '', 'constructor'])
      assert.equal(await refusal({ ...original, SignatureVersion: version }), '403 its SignatureVersion is unknown');
  });

  it("refuses another's topic before it fetches anything", async () => {
    const { verify, asked } = endpoint();
    const foreign = message({ TopicArn: 'arn:aws:sns:eu-west-1:999999999999:user_presence_updated' });
    assert.deepEqual(await verify(request(foreign)), {
      kind: 'refused',
      status: 403,
      reason: 'its topic is not one of ours',
    });
    assert.deepEqual(asked, []);
  });

  it('refuses messages too old, from the future, or without a time', async () => {
    const at = (ms: number) => message({ Timestamp: new Date(Date.now() + ms).toISOString() });
    assert.equal(await refusal(at(-3 * 3_600_000)), '403 its Timestamp is too far from now');
    assert.equal(await refusal(at(3 * 3_600_000)), '403 its Timestamp is too far from now');
    assert.equal(await refusal(message({ Timestamp: 'soon' })), '403 its Timestamp is too far from now');
    assert.equal(await refusal(at(-3 * 3_600_000), { maxAgeMs: 4 * 3_600_000 }), 'notification');
  });

  it("refuses a certificate address other than SNS's without fetching it", async () => {
    for (const url of [
      'http://sns.eu-west-1.amazonaws.com/a.pem',
      'https://sns.eu-west-1.amazonaws.com.example.org/a.pem',
      'https://example.org/sns.eu-west-1.amazonaws.com/a.pem',
      'https://sns.eu-west-1.amazonaws.com:8443/a.pem',
      'https://sns.eu-west-1.amazonaws.com@example.org/a.pem',
      'https://user@sns.eu-west-1.amazonaws.com/a.pem',
      'https://s3.eu-west-1.amazonaws.com/a.pem',
      'https://sns.eu-west-1.s3.amazonaws.com/a.pem',
      'https://sns.eu-west-1.amazonaws.com/?Action=GetCertificate',
      'a.pem',
      '',
    ]) {
      const { verify, asked } = endpoint();
      assert.partialDeepStrictEqual(await verify(request(message({ SigningCertURL: url }))), {
        kind: 'refused',
        status: 403,
      });
      assert.deepEqual(asked, [], url);
    }
  });

  it("accepts SNS's endpoints in China", async () => {
    const url = 'https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0.pem';
    const answers = { [url]: () => new Response(sns.leaf) };
    assert.equal(await refusal(message({ SigningCertURL: url }), {}, answers), 'notification');
  });

  it('verifies a chain that SNS serves without intermediates, up to a trusted root', async () => {
    const { verify, asked } = endpoint({}, { [CERTIFICATE_URL]: () => new Response(sns.leaf) });
    assert.equal((await verify(request(message()))).kind, 'notification');
    assert.deepEqual(asked, [CERTIFICATE_URL, ISSUER]);
  });

  it('refuses certificates that are foreign, untrusted, expired or outside a chain', async () => {
    const foreign = { [CERTIFICATE_URL]: () => new Response(`${other.leaf}${other.issuer}`) };
    assert.equal(await refusal(message({}, '2', other.key), {}, foreign), "403 its certificate is not SNS's");
    const untrusted = "403 its certificate's issuer is not trusted";
    assert.equal(await refusal(message(), { roots: [other.root] }), untrusted);
    assert.equal(await refusal(message(), { roots: [] }), untrusted);
    const later = Date.now() + 40 * 24 * 3_600_000;
    const then = message({ Timestamp: new Date(later).toISOString() });
    assert.equal(await refusal(then, { now: () => later }), '403 a certificate of its chain is not valid now');
    const wrongIssuer = {
      [CERTIFICATE_URL]: () => new Response(`${sns.leaf}${other.issuer}`),
      [ISSUER]: () => new Response(new Uint8Array(other.issuerDer)),
    };
    assert.equal(await refusal(message(), {}, wrongIssuer), untrusted);
    const nothing = { [CERTIFICATE_URL]: () => new Response('<html>') };
    assert.equal(await refusal(message(), {}, nothing), '403 its SigningCertURL holds no certificate');
  });

  it('refuses a certificate signed by one that is not an authority', async () => {
    const posing = { [CERTIFICATE_URL]: () => new Response(`${other.forged}${other.leaf}${other.issuer}`) };
    const signed = message({}, '2', other.forgedKey);
    assert.equal(await refusal(signed, {}, posing), "403 its certificate's issuer is not trusted");
  });

  it("asks for a retry if a certificate can't be fetched, and fetches it again then", async () => {
    let broken = true;
    const answer = () => (broken ? new Response('', { status: 500 }) : new Response(sns.leaf));
    const { verify } = endpoint({}, { [CERTIFICATE_URL]: answer });
    assert.partialDeepStrictEqual(await verify(request(message())), { kind: 'refused', status: 503 });
    broken = false;
    assert.equal((await verify(request(message()))).kind, 'notification');
  });

  it('fetches a certificate once for many messages, and again after a day', async () => {
    let now = Date.now();
    const { verify, asked } = endpoint({ now: () => now });
    await Promise.all(Array.from({ length: 5 }, () => verify(request(message()))));
    assert.deepEqual(asked, [CERTIFICATE_URL]);
    now += 25 * 3_600_000;
    await verify(request(message({ Timestamp: new Date(now).toISOString() })));
    assert.deepEqual(asked, [CERTIFICATE_URL, CERTIFICATE_URL]);
  });

  it("confirms a subscription to one of our topics by SNS's link", async () => {
    const { verify, asked } = endpoint();
    assert.deepEqual(await verify(request(confirmation())), { kind: 'confirmed', status: 200, topicArn: TOPIC });
    assert.match(asked.at(-1) ?? '', /\?Action=ConfirmSubscription&/);
  });

  it('confirms nothing through a foreign link or for another action', async () => {
    for (const SubscribeURL of [
      `https://example.org/?Action=ConfirmSubscription&TopicArn=${TOPIC}`,
      `http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=${TOPIC}`,
      `https://sns.eu-west-1.amazonaws.com/?Action=DeleteTopic&TopicArn=${TOPIC}`,
      'https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:9:x',
    ]) {
      const { verify, asked } = endpoint();
      assert.partialDeepStrictEqual(await verify(request(confirmation({ SubscribeURL }))), {
        kind: 'refused',
        status: 403,
      });
      assert.deepEqual(asked, [CERTIFICATE_URL]);
    }
  });

  it('asks for a retry if a confirmation fails', async () => {
    const { SubscribeURL = '' } = confirmation() as { SubscribeURL?: string };
    const failing = { [SubscribeURL]: () => new Response('', { status: 500 }) };
    assert.equal(await refusal(confirmation(), {}, failing), '503 the confirmation was answered with 500');
  });

  it('reports the end of a subscription, and does not resubscribe', async () => {
    const { verify, asked } = endpoint();
    const ended = confirmation({ Type: 'UnsubscribeConfirmation' });
    assert.deepEqual(await verify(request(ended)), { kind: 'unsubscribed', status: 200, topicArn: TOPIC });
    assert.deepEqual(asked, [CERTIFICATE_URL]);
  });

  it('refuses raw deliveries and everything else without an envelope', async () => {
    const raw = {
      headers: { 'x-amz-sns-rawdelivery': 'true' },
      body: '{"user_id":"alice@example.org","present":true}',
    };
    const { verify } = endpoint();
    for (const other of [
      raw,
      { body: '' },
      { body: '[]' },
      { body: null },
      { body: 7 },
      { body: { ...message(), Message: {} } },
    ])
      assert.partialDeepStrictEqual(await verify(other), { kind: 'refused', status: 400 });
    assert.equal(await refusal({ ...message(), Type: 'constructor' }), '400 its Type is unknown');
  });
});
