/** SNS and credentials through a real proxy, which alone resolves the names. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeCertificate } from './support/certificate.ts';
import { commandLineWith } from './support/command-line.ts';
import { type ConnectProxy, startConnectProxy } from './support/connect-proxy.ts';
import { createDaemon, type Daemon } from './support/daemon.ts';
import { listenWithin } from './support/listen.ts';
import { freePorts, until } from './support/process.ts';

const LOGIN = 'me:p@ss word';
const WRITTEN = 'me:p%40ss%20word';
const HOURS = 3_600_000;

describe('behind a proxy', { timeout: 120_000 }, () => {
  const stack = new AsyncDisposableStack();
  let daemon: Daemon;
  let proxy: ConnectProxy;
  let closed: number;
  const published: string[] = [];
  after(() => stack.disposeAsync());

  before(async () => {
    daemon = stack.use(await createDaemon({ url: 'https://sns.test', region: 'eu-west-1', accountId: '123456789012' }));
    const tls = await makeCertificate(daemon.folder, 'DNS:sns.test,DNS:sts.test');
    const handle: RequestListener = async (request, response) => {
      let text = '';
      for await (const chunk of request.setEncoding('utf8')) text += chunk;
      response.end(answerTo(new URLSearchParams(text), String(request.headers.authorization)));
    };
    const port = await listenWithin(stack, createTlsServer(tls, handle));
    const plain = await listenWithin(stack, createServer(handle));
    proxy = stack.use(
      await startConnectProxy({
        hosts: { 'sns.test': port, 'sts.test': port, 'plain.test': plain, 'forbidden.test': port },
        login: LOGIN,
        forbidden: ['forbidden.test'],
      }),
    );
    [closed] = (await freePorts(1)) as [number];
  });

  function answerTo(form: URLSearchParams, authorization: string): string {
    switch (form.get('Action')) {
      case 'AssumeRoleWithWebIdentity': {
        const expiration = new Date(Date.now() + HOURS).toISOString();
        return `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIASTS</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>${expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;
      }
      case 'PublishBatch': {
        published.push(authorization);
        const ids = [...form].filter(([key]) => key.endsWith('.Id')).map(([, id]) => id);
        const members = ids.map((id) => `<member><MessageId>m</MessageId><Id>${id}</Id></member>`).join('');
        return `<PublishBatchResponse><PublishBatchResult><Successful>${members}</Successful><Failed/></PublishBatchResult></PublishBatchResponse>`;
      }
      case 'GetTopicAttributes':
        return '<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes/></GetTopicAttributesResult></GetTopicAttributesResponse>';
      default:
        return '<PublishResponse/>';
    }
  }

  /** The environment without proxies and AWS keys. */
  const clean = (env: Record<string, string>) => ({
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/proxy|^AWS_/i.test(name))),
    AWS_EC2_METADATA_DISABLED: 'true',
    ...env,
  });

  /** The output of `check` about SNS with this environment and these options. */
  async function check(env: Record<string, string>, sns = ''): Promise<string> {
    await daemon.configure({ sns: `ca_file = "cert.pem"\n${sns}` });
    const { output } = await commandLineWith(clean(env), 'check', '--config', daemon.configFile);
    assert.ok(!/p@ss|p%40ss|bWU6/.test(output), 'the password is shown');
    return output
      .slice(output.search(/^.{6}SNS/m))
      .split('\n')
      .slice(0, 3)
      .join('\n');
  }

  const url = (login = WRITTEN) => `http://${login}@127.0.0.1:${proxy.port}`;

  it("publishes and fetches credentials through the environment's proxy", async () => {
    const token = path.join(daemon.folder, 'token');
    await writeFile(token, 'the.web.token');
    await daemon.configure({ sns: 'ca_file = "cert.pem"\n credentials = "aws"' });
    const text = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, text.replace(/^ *(access_key_id|secret_access_key) = .*\n/gm, ''));
    const env = clean({
      HTTPS_PROXY: url(),
      HOME: daemon.folder,
      AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/pusher',
      AWS_WEB_IDENTITY_TOKEN_FILE: token,
      AWS_ENDPOINT_URL_STS: 'https://sts.test',
      NODE_EXTRA_CA_CERTS: path.join(daemon.folder, 'cert.pem'),
    });
    await daemon.start({ env });
    const event = { kind: 'presence', at: 1, host: 'localhost', jid: 'a@localhost/x', present: true };
    await daemon.post({ source: 's', epoch: 'e', first_seq: 1, events: [event] });
    await until('it to arrive', () => published.length === 1);
    assert.match(String(published[0]), /Credential=ASIASTS/);
    assert.ok(proxy.passed.includes('CONNECT sts.test:443') && proxy.passed.includes('CONNECT sns.test:443'));
    assert.ok(!daemon.output().includes('p%40ss') && !daemon.output().includes('p@ss'));
    await daemon.stop();
  });

  it('check shows the proxy in use', async () => {
    assert.match(
      await check({ HTTPS_PROXY: url() }),
      /ok {4}SNS: https:\/\/sns\.test answers, through the proxy http:\/\/127\.0\.0\.1:\d+ \(HTTPS_PROXY\)/,
    );
    assert.match(
      await check({}, `proxy = "${url()}"`),
      /ok {4}SNS: .* answers, through the proxy http:\/\/127\.0\.0\.1:\d+ \(proxy\)/,
    );
    // Without the proxy the name does not resolve.
    assert.match(
      await check({ HTTPS_PROXY: url(), NO_PROXY: 'test' }),
      /FAIL {2}SNS: (ENOTFOUND|EAI_AGAIN): https:\/\/sns\.test: /,
    );
    assert.match(
      await check({ HTTPS_PROXY: url() }, 'proxy = "none"'),
      /FAIL {2}SNS: (ENOTFOUND|EAI_AGAIN): https:\/\/sns\.test: /,
    );
  });

  it('requests the absolute URL if the endpoint has no TLS', async () => {
    const text = await check({}, '');
    assert.match(text, /FAIL/);
    await daemon.configure({ sns: `proxy = "${url()}"` });
    const config = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, config.replace('https://sns.test', 'http://plain.test'));
    const { output } = await commandLineWith(clean({}), 'check', '--config', daemon.configFile);
    assert.match(output, /ok {4}SNS: http:\/\/plain\.test answers, through the proxy/);
    assert.ok(proxy.passed.includes('POST http://plain.test'));
  });

  it("reports a proxy's refusals, with advice", async () => {
    const wrong = await check({ HTTPS_PROXY: url('me:wrong') });
    assert.match(
      wrong,
      /FAIL {2}SNS: ProxyLogin: https:\/\/sns\.test through the proxy .*HTTP 407[\s\S]*user and password into HTTPS_PROXY/,
    );
    assert.match(
      await check({ HTTPS_PROXY: `http://127.0.0.1:${closed}` }),
      /FAIL {2}SNS: ProxyUnreachable: .*ECONNREFUSED[\s\S]*check HTTPS_PROXY/,
    );
    const at = async (host: string) => {
      await daemon.configure({ sns: `proxy = "${url()}"` });
      const config = await readFile(daemon.configFile, 'utf8');
      await writeFile(daemon.configFile, config.replace('sns.test', host));
      return (await commandLineWith(clean({}), 'check', '--config', daemon.configFile)).output;
    };
    assert.match(
      await at('forbidden.test'),
      /FAIL {2}SNS: ProxyRefused: [\s\S]*allow CONNECT to forbidden\.test port 443/,
    );
    assert.match(await at('unknown.test'), /FAIL {2}SNS: ProxyFailed: [\s\S]*the proxy can't reach unknown\.test/);
  });

  it('refuses to start with an invalid proxy', async () => {
    assert.match(
      await check({ HTTPS_PROXY: 'socks5://me:p@ss@p:1' }),
      /FAIL {2}SNS: HTTPS_PROXY of the environment names no HTTP proxy/,
    );
  });
});
