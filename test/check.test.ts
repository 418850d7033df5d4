/** `check`, `topics create` and `iam-policy` against endpoints with every known failure. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it, mock } from 'node:test';
import { promisify } from 'node:util';
import { leastPolicy } from '../src/cli/iam-policy.ts';
import { openDatabase } from '../src/outbox/sqlite/schema.ts';
import { makeCertificate } from './support/certificate.ts';
import { commandStreams } from './support/command-line.ts';
import { BIN } from './support/daemon.ts';
import { freePorts, launch } from './support/process.ts';
import { type Sns, startSns } from './support/sns.ts';
import { mountSmallDisk } from './support/tmpfs.ts';

const SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
const ACCOUNT = '123456789012';
/** The default ports may be in use on this machine. */
const NO_PORTS = '[tap.http]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n';
const arnOf = (topic: string, account = ACCOUNT) => `arn:aws:sns:eu-west-1:${account}:${topic}`;

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'pusher-check-'));
  for (const name of Object.keys(process.env)) if (/proxy|^AWS_/i.test(name)) delete process.env[name];
  // There are no credentials.
  Object.assign(process.env, { HOME: folder, AWS_EC2_METADATA_DISABLED: 'true' });
});
after(() => rm(folder, { recursive: true }));

interface Setup {
  host: string;
  topics?: Record<string, string>;
  account?: string;
  region?: string;
  sns?: string;
}

async function configure({ host, topics, account = ACCOUNT, region = 'eu-west-1', sns = '' }: Setup): Promise<string> {
  const options = Object.entries(topics ?? { pm_messages_topic: 'events' }).map(([key, name]) => `${key} = "${name}"`);
  const keys = sns.includes('credentials')
    ? ''
    : `access_key_id = "AKIAIOSFODNN7EXAMPLE"\nsecret_access_key = "${SECRET}"`;
  const file = path.join(folder, `${Math.random().toString(36).slice(2)}.toml`);
  const section = `[modules.mod_event_pusher.sns]\n${options.join('\n')}\nsns_host = "${host}"\nregion = "${region}"\naccount_id = "${account}"`;
  await writeFile(file, `${section}\n${keys}\n${sns}\n[outbox]\npath = "none.db"\n${NO_PORTS}`);
  return file;
}

const command = (args: string[]) => commandStreams({ mock }, ...args);

async function check(setup: Setup, args: string[] = []) {
  const run = await command(['check', '--config', await configure(setup), ...args]);
  assert.ok(!run.output.includes(SECRET), 'the secret is shown');
  return run;
}

type Answer = (form: URLSearchParams, response: http.ServerResponse) => void;

/** An endpoint with a given answer, for one test. */
async function endpoint(answer: Answer, tls?: https.ServerOptions): Promise<AsyncDisposable & { port: number }> {
  const listener: http.RequestListener = (request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text) => {
      body += text;
    });
    request.on('end', () => answer(new URLSearchParams(body), response));
  };
  const server = tls ? https.createServer(tls, listener) : http.createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const fails = (response: http.ServerResponse, status: number, code: string, message: string) =>
  response
    .writeHead(status, { 'content-type': 'text/xml' })
    .end(
      `<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
    );

function attributes(response: http.ServerResponse, values: Record<string, string>): void {
  const entries = Object.entries(values).map(
    ([key, value]) => `<entry><key>${key}</key><value>${value}</value></entry>`,
  );
  response
    .writeHead(200, { 'content-type': 'text/xml' })
    .end(
      `<GetTopicAttributesResponse xmlns="x"><GetTopicAttributesResult><Attributes>${entries.join('')}</Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>`,
    );
}

describe('check', () => {
  it('check diagnoses a host where nothing listens', async () => {
    const [port] = await freePorts(1);
    const { code, stdout } = await check({ host: `http://127.0.0.1:${port}` });
    assert.equal(code, 1);
    assert.match(stdout, /FAIL {2}SNS: ECONNREFUSED: http:\/\/127\.0\.0\.1:\d+: /);
    assert.match(stdout, /means {2}nothing listens on port/);
    assert.match(stdout, /do {5}check the port in sns_host/);
  });

  it('check diagnoses a host of another region without calling it', async () => {
    const { code, stdout } = await check({ host: 'sns.us-east-1.amazonaws.com' });
    assert.equal(code, 1);
    assert.match(stdout, /FAIL {2}SNS: sns_host is sns\.us-east-1\.amazonaws\.com, region is eu-west-1/);
  });

  it('check diagnoses a self-signed certificate, and accepts it with ca_file', async () => {
    const tls = await makeCertificate(folder, 'IP:127.0.0.1');
    const answer: Answer = (form, response) =>
      form.get('Action') === 'Publish'
        ? fails(response, 400, 'InvalidParameter', 'Invalid parameter: Empty message')
        : attributes(response, {});
    await using server = await endpoint(answer, tls);
    const host = `https://127.0.0.1:${server.port}`;
    const untrusted = await check({ host });
    assert.match(untrusted.stdout, /FAIL {2}SNS: .*SELF_SIGNED_CERT[\s\S]*set ca_file/);
    const trusted = await check({ host, sns: 'ca_file = "cert.pem"' });
    assert.equal(trusted.code, 0, trusted.stdout);
    const plain = await check({ host: `http://127.0.0.1:${server.port}` });
    assert.match(plain.stdout, /FAIL {2}SNS: /);
  });

  it('check diagnoses a server that does not speak TLS', async () => {
    await using server = await endpoint((_, response) => response.end());
    const { stdout } = await check({ host: `https://127.0.0.1:${server.port}` });
    assert.match(stdout, /FAIL {2}SNS: [\s\S]*does not speak TLS there/);
  });

  it("check diagnoses a proxy's page", async () => {
    await using server = await endpoint((_, response) =>
      response.writeHead(403, { 'content-type': 'text/html', via: '1.1 squid' }).end('<html>Access denied</html>'),
    );
    const { code, stdout } = await check({ host: `http://127.0.0.1:${server.port}` });
    assert.equal(code, 1);
    assert.match(stdout, /FAIL {2}SNS: .* answered HTTP 403 from 1\.1 squid with text\/html/);
  });

  it('check diagnoses a wrong clock', async () => {
    await using server = await endpoint((_, response) => {
      response.setHeader('date', new Date(Date.now() + 600_000).toUTCString());
      fails(
        response,
        403,
        'SignatureDoesNotMatch',
        'Signature expired: 20261123T055000Z is now earlier than 20261123T060000Z (20261123T060500Z - 5 min.)',
      );
    });
    const { stdout } = await check({ host: `http://127.0.0.1:${server.port}` });
    assert.match(stdout, /FAIL {2}SNS: SignatureDoesNotMatch: [\s\S]*this machine's clock is 10 min behind/);
    assert.match(stdout, /do {5}set the clock/);
  });

  it('check diagnoses a missing permission, with the policy that grants it', async () => {
    await using server = await endpoint((form, response) =>
      fails(
        response,
        403,
        'AuthorizationError',
        `User: arn:aws:iam::${ACCOUNT}:user/pusher is not authorized to perform: SNS:${form.get('Action')} on resource: ${form.get('TopicArn')} because no identity-based policy allows the SNS:${form.get('Action')} action`,
      ),
    );
    const { stdout } = await check({ host: `http://127.0.0.1:${server.port}` });
    assert.match(stdout, /ok {4}SNS: /);
    assert.match(stdout, /FAIL {2}pm topic: [\s\S]*user\/pusher lacks sns:Publish[\s\S]*xmpp-event-pusher iam-policy/);
  });

  it('check diagnoses credentials of another account than the topics', async () => {
    await using server = await endpoint((form, response) =>
      fails(
        response,
        403,
        'AuthorizationError',
        `User: arn:aws:iam::210987654321:user/pusher is not authorized to perform: SNS:${form.get('Action')} on resource: ${form.get('TopicArn')} because no resource-based policy allows the SNS:${form.get('Action')} action`,
      ),
    );
    const { code, stdout } = await check({ host: `http://127.0.0.1:${server.port}` });
    assert.equal(code, 1);
    assert.match(
      stdout,
      /FAIL {2}pm topic: [\s\S]*means {2}the credentials are of account 210987654321, the topic of account 123456789012\n/,
    );
    assert.match(stdout, /do {5}set account_id = "210987654321" if the topic is there/);
  });

  it("check reports what it can't verify without permission to read a topic's attributes", async () => {
    await using server = await endpoint((form, response) => {
      if (form.get('Action') !== 'Publish') return fails(response, 403, 'AuthorizationError', 'not authorized');
      return fails(response, 400, 'InvalidParameter', 'Invalid parameter: Empty message');
    });
    const { code, stdout } = await check({ host: `http://127.0.0.1:${server.port}` });
    assert.equal(code, 0);
    assert.match(stdout, /warn {2}pm topic: [\s\S]*is encrypted[\s\S]*check --publish[\s\S]*--with-attributes/);
    assert.doesNotMatch(stdout, /ok {4}pm topic/);
  });

  it("check reads the tap's certificate", async () => {
    await makeCertificate(folder, 'IP:127.0.0.1');
    const finding = async (options: string) => {
      const config = await configure({ host: 'sns.us-east-1.amazonaws.com' });
      await writeFile(config, readFileSync(config, 'utf8').replace('[tap.http]', `[tap.http]\n${options}`));
      const { stdout } = await command(['check', '--config', config]);
      return stdout.split('\n').find((line) => line.includes('certificate: '));
    };
    const files = (cert: string, key: string) => `tls_cert = "${cert}"\ntls_key = "${key}"`;
    assert.equal(await finding(''), undefined);
    assert.match(
      String(await finding(files('cert.pem', 'key.pem'))),
      /^ok {4}certificate: cert\.pem of CN=test expires on /,
    );
    assert.match(String(await finding(files('none.pem', 'key.pem'))), /^FAIL {2}certificate: .*can't read none\.pem/);
    assert.match(
      String(await finding(files('cert.pem', 'cert.pem'))),
      /^FAIL {2}certificate: .*not a certificate and its key/,
    );
  });

  it('check diagnoses an encrypted topic with an inaccessible key', async () => {
    const published: (string | null)[] = [];
    await using server = await endpoint((form, response) => {
      if (form.get('Action') !== 'Publish')
        return attributes(response, { KmsMasterKeyId: 'arn:aws:kms:eu-west-1:123456789012:key/1' });
      published.push(form.get('Message'));
      if (form.get('Message') === '')
        return fails(response, 400, 'InvalidParameter', 'Invalid parameter: Empty message');
      return fails(response, 400, 'KMSAccessDenied', 'The ciphertext refers to a key that you do not have access to');
    });
    const host = `http://127.0.0.1:${server.port}`;
    const quiet = await check({ host });
    assert.equal(quiet.code, 0);
    assert.match(quiet.stdout, /warn {2}pm topic: .*is encrypted with the KMS key/);
    const { code, stdout } = await check({ host }, ['--publish']);
    assert.equal(code, 1);
    assert.match(stdout, /FAIL {2}pm topic: [\s\S]*kms:GenerateDataKey\* and kms:Decrypt on the key arn:aws:kms/);
    assert.equal(published[0], '');
    assert.match(String(published[1]), /xmpp_event_pusher_check/);
  });

  it('check diagnoses missing credentials', async () => {
    await using server = await endpoint((_, response) => response.end());
    const { stdout } = await check({ host: `http://127.0.0.1:${server.port}`, sns: 'credentials = "aws"' });
    assert.match(stdout, /FAIL {2}SNS: NoCredentials: [\s\S]*no AWS credentials/);
  });

  it("check diagnoses an outbox that can't be written or created", async () => {
    const outboxAt = async (file: string) => {
      const config = await configure({ host: 'sns.us-east-1.amazonaws.com' });
      await writeFile(config, readFileSync(config, 'utf8').replace('none.db', file));
      const { stdout } = await command(['check', '--config', config]);
      return stdout.split('\n').find((line) => line.includes('outbox: '));
    };
    await writeFile(path.join(folder, 'file'), '');
    assert.match(String(await outboxAt('new.db')), /^ok {4}outbox: the daemon creates .* at its first start/);
    assert.match(String(await outboxAt('nowhere/new.db')), /^FAIL {2}outbox: the folder .* does not exist/);
    assert.match(String(await outboxAt('file/new.db')), /^FAIL {2}outbox: .*file is not a folder/);
    const database = openDatabase(path.join(folder, 'there.db'), { create: true });
    assert.match(String(await outboxAt('there.db')), /^ok {4}outbox: .* can be written/);
    assert.equal(database.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'written'").get()?.n, 0);
    database.exec('BEGIN IMMEDIATE');
    assert.match(String(await outboxAt('there.db')), /^FAIL {2}outbox: .*locked/);
    database.close();
    await using disk = await mountSmallDisk('64k');
    assert.match(String(await outboxAt(path.join(disk.folder, 'new.db'))), /^FAIL {2}outbox: the disk of .* is full: /);
  });

  it('check lists every mistake in the configuration', async () => {
    const { code, stdout } = await check({ host: 'sns.eu-west-1.amazonaws.com', account: '12' });
    assert.equal(code, 1);
    assert.match(stdout, /^FAIL {2}configuration: [\s\S]*account_id is "12"/);
  });

  it('check --json writes JSON lines', async () => {
    const { stdout } = await check({ host: 'sns.us-east-1.amazonaws.com' }, ['--json']);
    const findings = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      findings.map(({ what, level }) => [what, level]),
      [
        ['configuration', 'ok'],
        ['outbox', 'ok'],
        ['tap.http.listen', 'ok'],
        ['admin.listen', 'ok'],
        ['plugin', 'ok'],
        ['SNS', 'fail'],
      ],
    );
    assert.deepEqual(Object.keys(findings[5]), ['what', 'level', 'seen', 'means', 'advice']);
  });
});

describe('with an SNS', () => {
  let sns: Sns;
  before(async () => {
    sns = await startSns(['there', 'ordered.fifo']);
  });
  after(() => sns[Symbol.asyncDispose]());
  const at = (topics: Record<string, string>): Setup => ({ host: sns.url, account: sns.accountId, topics });
  const gone = (topic: string) => arnOf(topic, sns.accountId);

  it('check accepts existing topics', async () => {
    const { code, stdout } = await check(at({ pm_messages_topic: 'there', muc_messages_topic: 'ordered.fifo' }));
    assert.equal(code, 0, stdout);
    assert.match(stdout, /ok {4}pm topic: .*:there exists/);
    assert.match(stdout, /ok {4}muc topic: .*:ordered\.fifo exists/);
  });

  it('check --publish sends one message to each topic', async () => {
    const before = sns.received.length;
    const { code, stdout } = await check(at({ pm_messages_topic: 'there' }), ['--publish']);
    assert.equal(code, 0, stdout);
    const received = await sns.receive(before + 1);
    assert.ok('xmpp_event_pusher_check' in (received.at(-1)?.body ?? {}));
  });

  it('check warns of more attributes than raw delivery accepts', async () => {
    const more = 'cloudevents = true\nattributes = ["event_id", "timestamp", "type", "stanza_id", "host"]';
    const { code, stdout } = await check({ ...at({ pm_messages_topic: 'there' }), sns: more });
    assert.equal(code, 0);
    assert.match(stdout, /warn {2}attributes: a message has up to 11\n.*raw delivery/);
  });

  it('check diagnoses a missing topic, and a FIFO topic without its suffix', async () => {
    const { code, stdout } = await check(at({ pm_messages_topic: 'nowhere', muc_messages_topic: 'ordered' }));
    assert.equal(code, 1);
    assert.match(stdout, /FAIL {2}pm topic: NotFound: .*:nowhere: [\s\S]*there is no topic nowhere/);
    assert.match(stdout, /aws sns create-topic --name nowhere --region eu-west-1/);
    assert.match(
      stdout,
      /FAIL {2}muc topic: .*:ordered: [\s\S]*but there is .*:ordered\.fifo[\s\S]*write "ordered\.fifo"/,
    );
  });

  it('topics create creates missing topics, once', async () => {
    const config = await configure(
      at({ presence_updates_topic: 'there', pm_messages_topic: 'new', muc_messages_topic: 'new.fifo' }),
    );
    const first = await command(['topics', 'create', '--yes', '--config', config]);
    assert.equal(first.code, 0);
    assert.equal(first.output, `exists    ${gone('there')}\nmade      ${gone('new')}\nmade      ${gone('new.fifo')}\n`);
    const second = await command(['topics', 'create', '--yes', '--config', config]);
    assert.equal(
      second.stdout,
      `${['there', 'new', 'new.fifo'].map((topic) => `exists    ${gone(topic)}\n`).join('')}`,
    );
    const { stdout } = await command(['check', '--config', config]);
    assert.ok(!stdout.includes('FAIL'), stdout);
  });

  it('topics create asks about each topic on a terminal, and creates nothing without an answer', async () => {
    const config = await configure(at({ pm_messages_topic: 'asked' }));
    const refused = await launch(process.execPath, [BIN, 'topics', 'create', '--config', config]);
    assert.equal(await refused.exited, 2);
    assert.match(refused.output(), /pass --yes/);
    // script(1) provides a terminal.
    const onTerminal = (answer: string) =>
      promisify(execFile)('sh', [
        '-c',
        `printf '${answer}\\n' | script -qec "'${process.execPath}' '${BIN}' topics create --config '${config}'" /dev/null`,
      ]);
    assert.match((await onTerminal('n')).stdout, /make .*:asked\? \[y\/N\][\s\S]*left out {2}/);
    assert.match((await onTerminal('y')).stdout, /made {6}/);
  });

  it('topics create notices that SNS created the topic in another account', async () => {
    const config = await configure({ ...at({ pm_messages_topic: 'elsewhere' }), account: '999999999999' });
    const { code, stdout } = await command(['topics', 'create', '--yes', '--config', config]);
    assert.equal(code, 1);
    assert.match(stdout, /FAIL .*999999999999:elsewhere: created .*:elsewhere instead/);
  });

  it('topics create continues with the next topic after a failure', async () => {
    await using server = await endpoint((form, response) => {
      if (form.get('Action') !== 'CreateTopic') return fails(response, 404, 'NotFound', 'Topic does not exist');
      return fails(response, 403, 'AuthorizationError', `not authorized to make ${form.get('Name')}`);
    });
    const topics = { pm_messages_topic: 'one', muc_messages_topic: 'two' };
    const config = await configure({ host: `http://127.0.0.1:${server.port}`, topics });
    const { code, stdout } = await command(['topics', 'create', '--yes', '--config', config]);
    assert.equal(code, 1);
    assert.match(
      stdout,
      /:one: AuthorizationError: .*iam-policy --with-create --config \S+` prints the policy\nFAIL .*:two: /,
    );
  });
});

describe('iam-policy', () => {
  const topics = { presence_updates_topic: 'p', pm_messages_topic: 'events', muc_messages_topic: 'events' };

  it('iam-policy allows publishing to the configured topics, and nothing else', async () => {
    const { code, stdout, stderr } = await command(['iam-policy', '--config', await configure({ host: 'x', topics })]);
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(stdout), {
      Version: '2012-10-17',
      Statement: [
        {
          Sid: 'PublishXmppEvents',
          Effect: 'Allow',
          Action: ['sns:Publish'],
          Resource: [arnOf('p'), arnOf('events')],
        },
      ],
    });
    assert.match(stderr, /--with-attributes/);
    assert.match(stderr, /--kms-key/);
  });

  const keyOf = (id: string) => `arn:aws:kms:eu-west-1:${ACCOUNT}:key/${id}`;

  it('iam-policy allows more on request', async () => {
    const config = await configure({ host: 'x', topics });
    const more = ['--with-attributes', '--with-create', '--kms-key', keyOf('k1'), '--kms-key', keyOf('k2')];
    const { stdout, stderr } = await command(['iam-policy', '--config', config, ...more]);
    const wanted = {
      topics: [arnOf('p'), arnOf('events')],
      kmsKeys: [keyOf('k1'), keyOf('k2')],
      attributes: true,
      create: true,
    };
    assert.deepEqual(JSON.parse(stdout), leastPolicy(wanted));
    assert.deepEqual(leastPolicy(wanted).Statement[0]?.Action, [
      'sns:Publish',
      'sns:GetTopicAttributes',
      'sns:CreateTopic',
    ]);
    assert.deepEqual(leastPolicy(wanted).Statement[1]?.Action, ['kms:GenerateDataKey*', 'kms:Decrypt']);
    assert.equal(stderr, '');
  });

  it('iam-policy is limited to one virtual host on request', async () => {
    const config = await configure({ host: 'x', topics: { pm_messages_topic: 'general' } });
    const section = `[[host_config]]\nhost = "a.example"\n[host_config.modules.mod_event_pusher.sns]\npm_messages_topic = "special"\nsns_host = "x"\nregion = "cn-north-1"\naccount_id = "${ACCOUNT}"\ncredentials = "aws"\n`;
    await writeFile(config, `${readFileSync(config, 'utf8')}\n${section}`);
    const resources = async (...args: string[]) =>
      JSON.parse((await command(['iam-policy', '--config', config, ...args])).stdout).Statement[0].Resource;
    const special = `arn:aws-cn:sns:cn-north-1:${ACCOUNT}:special`;
    assert.deepEqual(await resources(), [arnOf('general'), special]);
    assert.deepEqual(await resources('--host', 'A.example'), [special]);
    assert.deepEqual(await resources('--host', 'other.example'), [arnOf('general')]);
  });
});
