/**
 * For every failure between the daemon and SNS, `check`, `/readyz`, the log, the console and the metrics give the same
 * cause and the same advice, and no notification is given up. One daemon has a virtual host for each failure, and all
 * of them fail at once.
 */
import assert from 'node:assert/strict';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { after, before, describe, it } from 'node:test';
import { makeCertificate } from './support/certificate.ts';
import { startConnectProxy } from './support/connect-proxy.ts';
import { createDaemon, type Daemon } from './support/daemon.ts';
import { listenWithin } from './support/listen.ts';
import { freePorts, launch, until } from './support/process.ts';

const ACCOUNT = '123456789012';

interface Failing {
  /** The endpoint; a path belongs to the one that answers with `answer`. */
  readonly at?: (ports: Ports) => string;
  readonly answer?: (response: ServerResponse, action: string) => void;
  /** Further options of the section. */
  readonly options?: (ports: Ports) => string;
  /** Expected in every output. */
  readonly reason: RegExp;
  readonly means: RegExp;
  readonly advice: RegExp;
}

interface Ports {
  readonly http: number;
  readonly https: number;
  readonly closed: number;
  /** A proxy that requires a login. */
  readonly proxy: number;
}

/** SNS's error document. */
const refusal =
  (status: number, code: string, message = 'as the test wanted', headers = {}) =>
  (response: ServerResponse) =>
    response
      .writeHead(status, { 'content-type': 'text/xml', ...headers })
      .end(`<ErrorResponse xmlns="x"><Error><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`);

const page =
  (status: number, headers = {}) =>
  (response: ServerResponse) =>
    response.writeHead(status, { 'content-type': 'text/html', server: 'squid/5.7', ...headers }).end('<html>no</html>');

const FAILURES: Readonly<Record<string, Failing>> = {
  'closed-port': {
    at: ({ closed }) => `http://127.0.0.1:${closed}`,
    reason: /^ECONNREFUSED$/,
    means: /nothing listens on port/,
    advice: /check the port in sns_host/,
  },
  'unknown-name': {
    at: () => 'https://no-such-host.invalid',
    reason: /^(ENOTFOUND|EAI_AGAIN)$/,
    means: /DNS/,
    advice: /check the spelling of sns_host/,
  },
  'self-signed': {
    at: ({ https }) => `https://127.0.0.1:${https}`,
    reason: /^DEPTH_ZERO_SELF_SIGNED_CERT$/,
    means: /no trusted authority signed.*NODE_TLS_REJECT_UNAUTHORIZED=0 .* does not turn this check off/,
    advice: /set ca_file/,
  },
  'other-name': {
    at: ({ https }) => `https://127.0.0.1:${https}`,
    options: () => 'ca_file = "cert.pem"',
    reason: /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    means: /certificate is for another host/,
    advice: /correct sns_host/,
  },
  'no-tls-there': {
    at: ({ http }) => `https://127.0.0.1:${http}`,
    reason: /^(EPROTO|ERR_SSL_\w+)$/,
    means: /does not speak TLS/,
    advice: /begin sns_host with http:/,
  },
  'tls-there': {
    at: ({ https }) => `http://127.0.0.1:${https}`,
    reason: /^(UND_ERR_SOCKET|ECONNRESET|HPE_\w+)$/,
    means: /the connection broke|not HTTP/,
    advice: /http/,
  },
  'cut-off': {
    answer: (response) => response.destroy(),
    reason: /^(UND_ERR_SOCKET|ECONNRESET)$/,
    means: /the connection broke/,
    advice: /check the network/,
  },
  'proxy-page': { answer: page(403), reason: /^HTTP403$/, means: /a proxy, a portal/, advice: /check sns_host/ },
  'proxy-login': { answer: page(407), reason: /^HTTP407$/, means: /requires a login/, advice: /./ },
  'bad-gateway': { answer: page(502), reason: /^HTTP502$/, means: /can't reach it/, advice: /wait/ },
  redirect: { answer: page(302), reason: /^HTTP302$/, means: /a redirect/, advice: /check sns_host/ },
  portal: { answer: page(200), reason: /^UnreadableAnswer$/, means: /not from SNS/, advice: /check sns_host/ },
  'proxy-away': {
    at: () => 'https://sns.test',
    options: ({ closed }) => `proxy = "http://127.0.0.1:${closed}"`,
    reason: /^ProxyUnreachable$/,
    means: /the proxy itself can't be reached/,
    advice: /check proxy/,
  },
  'proxy-away-plain': {
    at: () => 'http://sns.test',
    options: ({ closed }) => `proxy = "http://127.0.0.1:${closed}"`,
    reason: /^ProxyUnreachable$/,
    means: /the proxy itself can't be reached/,
    advice: /check proxy/,
  },
  'proxy-user-plain': {
    at: () => 'http://sns.test',
    options: ({ proxy }) => `proxy = "http://127.0.0.1:${proxy}"`,
    reason: /^HTTP407$/,
    means: /requires a login/,
    advice: /user and password into proxy/,
  },
  'proxy-user': {
    at: () => 'https://sns.test',
    options: ({ proxy }) => `proxy = "http://me:wrong@127.0.0.1:${proxy}"`,
    reason: /^ProxyLogin$/,
    means: /requires a login/,
    advice: /user and password into proxy/,
  },
  'proxy-forbids': {
    at: () => 'https://forbidden.test',
    options: ({ proxy }) => `proxy = "http://me:right@127.0.0.1:${proxy}"`,
    reason: /^ProxyRefused$/,
    means: /forbids connections to forbidden\.test/,
    advice: /allow CONNECT/,
  },
  'clock-behind': {
    answer: (response) =>
      refusal(
        403,
        'SignatureDoesNotMatch',
        'Signature expired: 20261123T055000Z is now earlier than 20261123T060000Z',
        {
          date: new Date(Date.now() + 600_000).toUTCString(),
        },
      )(response),
    reason: /^SignatureDoesNotMatch$/,
    means: /clock is 10 min behind/,
    advice: /set the clock/,
  },
  'unknown-key': {
    answer: refusal(403, 'InvalidClientTokenId'),
    reason: /^InvalidClientTokenId$/,
    means: /does not know the access key AKIAIOSFODNN7EXAMPLE/,
    advice: /compare it with the keys in IAM/,
  },
  'wrong-secret': {
    answer: refusal(403, 'SignatureDoesNotMatch'),
    reason: /^SignatureDoesNotMatch$/,
    means: /does not belong to the key/,
    advice: /correct secret_access_key/,
  },
  'session-over': {
    answer: refusal(403, 'ExpiredToken'),
    reason: /^ExpiredToken$/,
    means: /the temporary credentials have expired/,
    advice: /sign in again/,
  },
  'region-off': {
    answer: refusal(403, 'OptInRequired'),
    reason: /^OptInRequired$/,
    means: /has not enabled/,
    advice: /enable the region/,
  },
  'no-credentials': {
    options: () => 'credentials = "aws"',
    answer: page(200),
    reason: /^NoCredentials$/,
    means: /no AWS credentials/,
    advice: /AWS_PROFILE/,
  },
  'header-lost': {
    answer: refusal(403, 'MissingAuthenticationToken'),
    reason: /^MissingAuthenticationToken$/,
    means: /drops or changes headers/,
    advice: /check sns_host/,
  },
  'no-topic': {
    answer: refusal(404, 'NotFound', 'Topic does not exist'),
    reason: /^NotFound$/,
    means: /there is no topic no-topic in account/,
    advice: /topics create --config \//,
  },
  'no-right': {
    answer: refusal(403, 'AuthorizationError', 'User: arn:aws:iam::123456789012:user/pusher is not authorized'),
    reason: /^AuthorizationError$/,
    means: /user\/pusher lacks sns:Publish/,
    advice: /iam-policy --config \//,
  },
  'other-account': {
    answer: refusal(403, 'AuthorizationError', 'User: arn:aws:iam::210987654321:user/pusher is not authorized'),
    reason: /^AuthorizationError$/,
    means: /credentials are of account 210987654321/,
    advice: /set account_id/,
  },
  'other-region': {
    answer: refusal(400, 'InvalidParameter', 'Invalid parameter: TopicArn'),
    reason: /^InvalidParameter$/,
    means: /not responsible for topics of region/,
    advice: /correct region, account_id or sns_host/,
  },
  'no-kms-right': {
    answer: (response, action) => {
      if (action !== 'GetTopicAttributes') {
        refusal(400, 'KMSAccessDenied')(response);
        return;
      }
      const attributes = '<entry><key>KmsMasterKeyId</key><value>alias/pusher</value></entry>';
      response.end(
        `<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes>${attributes}</Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>`,
      );
    },
    reason: /^KMSAccessDenied$/,
    means: /may not use its key/,
    advice: /on the key alias\/pusher/,
  },
  'sns-fails': {
    answer: refusal(500, 'InternalError'),
    reason: /^InternalError$/,
    means: /SNS itself fails/,
    advice: /wait/,
  },
};

/** What one of the outputs says about a virtual host. */
interface Said {
  readonly reason: string;
  readonly text: string;
  readonly advice: string;
}

describe('whatever fails on the way to SNS', { timeout: 120_000 }, () => {
  const stack = new AsyncDisposableStack();
  let daemon: Daemon;
  /** The findings of `check`, by virtual host. */
  const checked = new Map<string, Said & { readonly means: string }>();
  const arnOf = (name: string) => `arn:aws:sns:eu-west-1:${ACCOUNT}:${name}`;
  const env = { NODE_TLS_REJECT_UNAUTHORIZED: '0', AWS_EC2_METADATA_DISABLED: 'true', HOME: '/nonexistent' };

  before(async () => {
    const handle: RequestListener = async (request, response) => {
      let text = '';
      for await (const chunk of request.setEncoding('utf8')) text += chunk;
      const action = new URLSearchParams(text).get('Action') ?? '';
      const failing = FAILURES[String(request.url).slice(1)];
      if (failing?.answer) failing.answer(response, action);
      else response.end();
    };
    daemon = stack.use(await createDaemon({ url: 'http://127.0.0.1:1', region: 'eu-west-1', accountId: ACCOUNT }));
    const tls = await makeCertificate(daemon.folder, 'DNS:localhost');
    const [closed] = (await freePorts(1)) as [number];
    const proxy = stack.use(
      await startConnectProxy({ hosts: {}, login: 'me:right', wrongLogin: 401, forbidden: ['forbidden.test'] }),
    );
    const ports = {
      proxy: proxy.port,
      http: await listenWithin(stack, createServer(handle)),
      https: await listenWithin(stack, createTlsServer(tls, handle)),
      closed,
    };
    await configure(ports);
    await daemon.start({ ready: false, env });
    const events = Object.keys(FAILURES).map((name) => ({
      kind: 'message',
      at: Date.now(),
      host: name,
      type: 'chat',
      from: `alice@${name}/phone`,
      to: `bob@${name}`,
      body: 'hello',
    }));
    await daemon.post({ source: 's', epoch: 'e', first_seq: 1, events });
    await until('every topic to be paused', async () => (await readiness()).size === events.length);
    const run = await launch(process.execPath, [daemon.bin, 'check', '--json', '--config', daemon.configFile], {
      env: { ...clean(), ...env },
    });
    await run.exited;
    for (const line of run
      .output()
      .split('\n')
      .filter((line) => line.startsWith('{'))) {
      const { what, level, reason, seen, means, advice } = JSON.parse(line);
      const host = /\((.*)\)$/.exec(what)?.[1];
      if (host && level !== 'ok') checked.set(host, { reason, text: `${seen}; ${means}`, means, advice });
    }
  });
  after(() => stack.disposeAsync());

  const clean = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !/proxy|^AWS_/i.test(name)));

  /** Writes a section for each failure; the general section has no topic. */
  async function configure(ports: Ports): Promise<void> {
    const text = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, text.replace(/^.*_topic = .*$/gm, ''));
    for (const [name, { at, options: optionsOf }] of Object.entries(FAILURES)) {
      const options = optionsOf?.(ports) ?? '';
      const keys = options.includes('credentials')
        ? ''
        : 'access_key_id = "AKIAIOSFODNN7EXAMPLE"\nsecret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"';
      await appendFile(
        daemon.configFile,
        `[[host_config]]\nhost = "${name}"\n[host_config.modules.mod_event_pusher.sns]\npm_messages_topic = "${name}"
sns_host = "${at?.(ports) ?? `http://127.0.0.1:${ports.http}/${name}`}"\nregion = "eu-west-1"\naccount_id = "${ACCOUNT}"
publish_retry_count = 0\npublish_exhausted = "${name === 'sns-fails' ? 'wait' : 'dead-letter'}"\n${keys}\n${options}\n`,
      );
    }
  }

  async function readiness(): Promise<Map<string, Said>> {
    const { reasons } = (await (await fetch(`${daemon.adminUrl}/readyz`)).json()) as {
      reasons: { what: string; reason: string; advice: string }[];
    };
    return new Map(
      reasons.map(({ what, reason, advice }) => {
        const [, code = '', text = ''] = /^paused: (\w+): (.*)$/s.exec(reason) ?? [];
        return [what.replace(/^topic .*:/, ''), { reason: code, text, advice }];
      }),
    );
  }

  function logged(): Map<string, Said> {
    const lines = daemon
      .output()
      .split('\n')
      .filter((line) => line.includes('topic paused'))
      .map((line) => JSON.parse(line));
    return new Map(lines.map(({ topic, reason, detail, advice }) => [nameOf(topic), { reason, text: detail, advice }]));
  }

  /** Reads the console's first message. */
  async function shown(): Promise<Map<string, Said>> {
    const response = await fetch(`${daemon.adminUrl}/api/live`);
    let text = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (/^event: hello\ndata: .*\n\n/m.test(text)) break;
    }
    const { state } = JSON.parse(/^event: hello\ndata: (.*)$/m.exec(text)?.[1] ?? '{}');
    return new Map(
      state.topics.map(
        ({ arn, pause }: { arn: string; pause?: { reason: string; detail: string; advice: string } }) => [
          nameOf(arn),
          { reason: pause?.reason, text: pause?.detail, advice: pause?.advice },
        ],
      ),
    );
  }

  const nameOf = (arn: string) => String(arn.split(':').at(-1));

  it('failures on the way to SNS make no dead letters, even with publish_exhausted', async () => {
    assert.match((await daemon.command('dead-letters', 'list')).output, /^0 dead letters$/m);
  });

  for (const [name, { reason, means, advice }] of Object.entries(FAILURES))
    it(`every output names one cause and one remedy: ${name}`, async () => {
      const check = checked.get(name);
      assert.ok(check, 'check found nothing');
      assert.match(check.reason, reason);
      assert.match(check.means, means);
      assert.match(check.advice, advice);
      for (const [where, found] of [
        ['/readyz', await readiness()],
        ['the log', logged()],
        ['the console', await shown()],
      ] as const) {
        const said = found.get(name);
        assert.equal(said?.reason, check.reason, where);
        assert.ok(said?.text.endsWith(`; ${check.means}`), `${where}: ${said?.text}`);
        assert.equal(said?.advice, check.advice, where);
      }
      const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
      const series = metrics
        .split('\n')
        .filter((line) => line.includes(`topic="${arnOf(name)}"`) && /outcome/.test(line));
      assert.ok(
        series.some((line) => line.includes(`reason="${check.reason}"`)),
        series.join('\n'),
      );
    });
});
