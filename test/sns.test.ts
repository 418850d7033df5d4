/** The daemon's limits and failures with SNS, over HTTP. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { makeCertificate } from './support/certificate.ts';
import { createDaemon, type Daemon, type DaemonOptions, TOPICS } from './support/daemon.ts';
import { launch, until } from './support/process.ts';
import { type Sns, startSns } from './support/sns.ts';

const HOST = { region: 'eu-west-1', accountId: '123456789012' };

const pm = (n: number, from = 'alice', body = `m${n}`) => ({
  kind: 'message',
  at: 1_763_820_191_120 + n,
  host: 'localhost',
  type: 'chat',
  from: `${from}@localhost/phone`,
  to: 'bob@localhost',
  body,
});

interface Request {
  readonly form: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
}

/** The answer of an SNS that accepts all entries of a batch. */
function taken(form: URLSearchParams): string {
  const ids = [...form].filter(([key]) => key.endsWith('.Id')).map(([, id]) => id);
  const members = ids.map((id) => `<member><MessageId>m${id}</MessageId><Id>${id}</Id></member>`).join('');
  return `<PublishBatchResponse><PublishBatchResult><Successful>${members}</Successful><Failed/></PublishBatchResult></PublishBatchResponse>`;
}
const messagesOf = ({ form }: Request) =>
  [...form].filter(([key]) => key.endsWith('.Message')).map(([, value]) => JSON.parse(value).message);

describe('the daemon at SNS', { timeout: 120_000 }, () => {
  const stack: AsyncDisposable[] = [];
  afterEach(async () => {
    for (const thing of stack.splice(0).reverse()) await thing[Symbol.asyncDispose]();
  });
  const use = <T extends AsyncDisposable>(thing: T): T => {
    stack.push(thing);
    return thing;
  };

  /** A minimal SNS that records requests. */
  async function stub(
    answer: (request: Request, publishes: number) => { status?: number; body: string } | undefined,
    tls?: { cert: Buffer; key: Buffer },
  ): Promise<{ url: string; publishes: Request[]; calls: Request[] }> {
    const publishes: Request[] = [];
    const calls: Request[] = [];
    const handle: Parameters<typeof createServer>[1] = async (incoming, response) => {
      let text = '';
      for await (const chunk of incoming.setEncoding('utf8')) text += chunk;
      const request = { form: new URLSearchParams(text), headers: incoming.headers };
      calls.push(request);
      if (request.form.get('Action') === 'PublishBatch') publishes.push(request);
      const { status = 200, body } = answer(request, publishes.length) ?? { body: taken(request.form) };
      response.writeHead(status).end(body);
    };
    const server: Server = tls ? createTlsServer(tls, handle) : createServer(handle);
    server.listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    use({
      [Symbol.asyncDispose]: async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    });
    return { url: `${tls ? 'https' : 'http'}://localhost:${(server.address() as AddressInfo).port}`, publishes, calls };
  }

  async function daemonFor(url: string, options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = use(await createDaemon({ ...HOST, url }, { ...options, here: true }));
    await daemon.start();
    return daemon;
  }

  const post = async (daemon: Daemon, events: unknown[], first = 1) => {
    const { status, json } = await daemon.post({ source: 's', epoch: 'e', first_seq: first, events });
    assert.equal(status, 200, JSON.stringify(json));
  };

  it('keeps order and identity in FIFO topics, through failures and a restart', async () => {
    const topics = { presence: 'presence.fifo', pm: 'pm.fifo', muc: 'muc.fifo' };
    let failures = 3;
    const seen: string[] = [];
    const failing = (app: Sns['app']) =>
      app.addHook('preHandler', async (request, reply) => {
        const form = new URLSearchParams(request.body as Record<string, string>);
        if (form.get('Action') !== 'PublishBatch') return;
        seen.push(...[...form].filter(([key]) => key.endsWith('MessageDeduplicationId')).map(([, id]) => id));
        if (failures-- > 0)
          return reply.code(500).send('<ErrorResponse><Error><Code>InternalError</Code></Error></ErrorResponse>');
      });
    const sns = use(await startSns(Object.values(topics), failing));
    const daemon = use(await createDaemon(sns, { topics, here: true }));
    await daemon.start({ here: false });
    const events = Array.from({ length: 12 }, (_, n) => pm(n, n % 2 === 0 ? 'alice' : 'jürgen'));
    await post(daemon, events.slice(0, 6));
    await daemon.kill();
    await daemon.start();
    await post(daemon, events.slice(6), 7);
    const received = await sns.receive(12);
    for (const user of ['alice', 'jürgen'])
      assert.deepEqual(
        received.filter(({ body }) => body.from_user_id === `${user}@localhost`).map(({ body }) => body.message),
        events.filter(({ from }) => from.startsWith(user)).map(({ body }) => body),
      );
    assert.deepEqual([...new Set(seen)].toSorted(), Array.from({ length: 12 }, (_, n) => `s/e/${n + 1}`).toSorted());
  });

  it("follows a topic's MaximumMessageSize for messages and batches, and names sizes that are too large", async () => {
    const attributes = '<entry><key>MaximumMessageSize</key><value>2000</value></entry>';
    const sns = await stub(({ form }) =>
      form.get('Action') === 'GetTopicAttributes'
        ? {
            body: `<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes>${attributes}</Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>`,
          }
        : undefined,
    );
    const daemon = await daemonFor(sns.url);
    await post(daemon, [pm(1, 'a', 'x'.repeat(1_200)), pm(2, 'b', 'x'.repeat(1_200)), pm(3, 'c', 'x'.repeat(2_500))]);
    await until('both to arrive', () => sns.publishes.length === 2);
    const { output } = await daemon.command('dead-letters', 'list', '--json');
    const letter = JSON.parse(output);
    assert.equal(letter.reason, 'too-large');
    assert.match(letter.detail, /message of 2\d{3} bytes and attributes of 0 bytes make 2\d{3}, the topic takes 2000/);
  });

  it('keeps max_messages_per_second over all topics and sections of an account', async () => {
    const CAP = 40;
    const taken: { at: number; total: number }[] = [];
    const sns = await stub(({ form }) => {
      const total = (taken.at(-1)?.total ?? 0) + [...form.keys()].filter((key) => key.endsWith('.Id')).length;
      if (form.get('Action') === 'PublishBatch') taken.push({ at: performance.now(), total });
      return undefined;
    });
    const text = await readFile(use(await createDaemon({ ...HOST, url: sns.url })).configFile, 'utf8');
    const [section = ''] = text.split('[tap.http]');
    const other = section.replace('[modules', '[host_config.modules').replaceAll('_topic = "', '_topic = "other_');
    const rest = `[[host_config]]\n host = "other"\n${other}`;
    const daemon = await daemonFor(sns.url, { sns: `max_messages_per_second = ${CAP}`, rest });
    const events = Array.from({ length: 160 }, (_, n) => {
      const event = pm(n, `user${n}`);
      return { ...event, host: n % 2 === 0 ? 'localhost' : 'other', type: n % 4 < 2 ? 'chat' : 'groupchat' };
    });
    const began = performance.now();
    await post(daemon, events);
    await until('all to arrive', () => taken.at(-1)?.total === events.length);
    // A burst of ten is allowed.
    for (const { at, total } of taken)
      assert.ok(total <= 10 + (CAP * (at - began)) / 1_000, `${total} within ${at - began} ms`);
  });

  it("uses credentials of AWS's provider chain with their token, and new ones after they expire", async () => {
    const sns = await stub((_, publishes) =>
      publishes === 1
        ? {
            status: 403,
            body: '<ErrorResponse><Error><Code>ExpiredToken</Code><Message>expired</Message></Error></ErrorResponse>',
          }
        : undefined,
    );
    // The endpoint for the credentials of a container's role.
    let handed = 0;
    const container = createServer((_, response) => {
      handed += 1;
      const Expiration = new Date(Date.now() + 3_600_000).toISOString();
      response.end(
        JSON.stringify({
          AccessKeyId: `AKIA${handed}`,
          SecretAccessKey: 'secret',
          Token: `token${handed}`,
          Expiration,
        }),
      );
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => container.once('listening', resolve));
    const { port } = container.address() as AddressInfo;
    const daemon = use(await createDaemon({ ...HOST, url: sns.url }, { sns: 'credentials = "aws"' }));
    const text = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, text.replace(/^ *(access_key_id|secret_access_key) = .*\n/gm, ''));
    const env = {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://127.0.0.1:${port}/role`,
      AWS_EC2_METADATA_DISABLED: 'true',
      HOME: daemon.folder,
    };
    await daemon.start({ env });
    await post(daemon, [pm(1)]);
    await until('the second try', () => sns.publishes.length === 2);
    container.close();
    const [first, second] = sns.publishes;
    assert.equal(first?.headers['x-amz-security-token'], 'token1');
    assert.match(
      String(first?.headers.authorization),
      /Credential=AKIA1\/.*SignedHeaders=content-type;host;x-amz-date;x-amz-security-token/,
    );
    assert.equal(second?.headers['x-amz-security-token'], `token${handed}`);
    assert.ok(handed >= 2);
  });

  it('reports missing credentials, and continues once there are some', async () => {
    const sns = await stub(() => undefined);
    const daemon = use(await createDaemon({ ...HOST, url: sns.url }, { sns: 'credentials = "aws"' }));
    const text = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, text.replace(/^ *(access_key_id|secret_access_key) = .*\n/gm, ''));
    const file = path.join(daemon.folder, 'credentials');
    await daemon.start({
      env: { AWS_EC2_METADATA_DISABLED: 'true', HOME: daemon.folder, AWS_SHARED_CREDENTIALS_FILE: file },
    });
    await post(daemon, [pm(1)]);
    await until('the pause', async () => {
      const response = await fetch(`${daemon.adminUrl}/readyz`);
      return response.status === 503 && /NoCredentials/.test(await response.text());
    });
    assert.equal(sns.publishes.length, 0);
    await writeFile(file, '[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n');
    await until('it to arrive', () => sns.publishes.length === 1);
    assert.match(String(sns.publishes[0]?.headers.authorization), /Credential=AKIAFILE/);
  });

  it('trusts the certificate of a private endpoint only with its ca_file', async () => {
    const folder = use(await createDaemon({ ...HOST, url: 'http://localhost' })).folder;
    const sns = await stub(() => undefined, await makeCertificate(folder, 'DNS:localhost'));
    const daemon = await daemonFor(sns.url, { sns: 'publish_retry_count = 0' });
    await post(daemon, [pm(1)]);
    await until('the pause', async () => {
      const response = await fetch(`${daemon.adminUrl}/readyz`);
      return response.status === 503 && /SELF_SIGNED|self-signed/.test(await response.text());
    });
    assert.equal(sns.calls.length, 0);
    await daemon.configure({ sns: `ca_file = ${JSON.stringify(path.join(folder, 'cert.pem'))}` });
    await daemon.reload();
    await until('it to arrive', () => sns.publishes.length === 1);
  });

  it('a reload applies topics, plugin, rate and log level, loses nothing, and names the rest', async () => {
    const sns = await stub(() => undefined);
    const daemon = await daemonFor(sns.url);
    await writeFile(
      path.join(daemon.folder, 'plugin.js'),
      'export const userGuid = (jid) => `guid:${jid.getLocal()}`;',
    );
    await post(
      daemon,
      Array.from({ length: 50 }, (_, n) => pm(n, `user${n}`)),
    );
    await daemon.configure({
      sns: 'plugin_module = "./plugin.js"\n max_messages_per_second = 10000',
      outbox: 'max_bytes = 2000000',
      rest: '[log]\n level = "debug"',
    });
    const text = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, text.replace(`"${TOPICS.pm}"`, '"renamed"'));
    await daemon.reload();
    await until('the reload', () => /reloaded; changes in these sections need a restart/.test(daemon.output()));
    assert.match(daemon.output(), /"sections":\["outbox"\]/);
    await post(daemon, [pm(51, 'late')], 51);
    await until('all to arrive', () => new Set(sns.publishes.flatMap(messagesOf)).size === 51);
    const last = sns.publishes.find((request) => messagesOf(request).includes('m51')) as Request;
    assert.equal(last.form.get('TopicArn'), 'arn:aws:sns:eu-west-1:123456789012:renamed');
    assert.match(String(last.form.get('PublishBatchRequestEntries.member.1.Message')), /"from_user_id":"guid:late"/);

    await writeFile(daemon.configFile, 'not toml');
    await daemon.reload();
    await until('the refusal', () => /reload failed; the previous configuration stays in use/.test(daemon.output()));
    await post(daemon, [pm(52, 'later')], 52);
    await until('it to arrive', () => sns.publishes.flatMap(messagesOf).includes('m52'));
  });

  it('sends replayed notifications to a topic that is no longer configured', async () => {
    let refuses = true;
    const refused = '<ErrorResponse><Error><Code>InvalidParameter</Code><Message>no</Message></Error></ErrorResponse>';
    const sns = await stub(() => (refuses ? { status: 400, body: refused } : undefined));
    const daemon = await daemonFor(sns.url);
    await post(daemon, [pm(1)]);
    const list = async () => (await daemon.command('dead-letters', 'list')).output;
    await until('the dead letter', async () => /1 dead letter/.test(await list()));
    await daemon.stop();
    refuses = false;
    const text = await readFile(daemon.configFile, 'utf8');
    await writeFile(daemon.configFile, text.replace(`"${TOPICS.pm}"`, '"renamed"'));
    await daemon.start();
    const before = sns.publishes.length;
    await daemon.command('dead-letters', 'replay', '--all');
    await until('it to arrive', () => sns.publishes.length > before);
    assert.equal(sns.publishes.at(-1)?.form.get('TopicArn'), `arn:aws:sns:eu-west-1:123456789012:${TOPICS.pm}`);
  });

  it('a dry run prints instead of sending, and does not touch the outbox', async () => {
    const sns = await stub(() => undefined);
    const daemon = use(await createDaemon({ ...HOST, url: sns.url }, { sns: 'attributes = ["event_id"]', here: true }));
    const dry = await launch(process.execPath, [daemon.bin, 'run', '--dry-run', '--config', daemon.configFile]);
    await until('the dry run', async () => (await fetch(`${daemon.adminUrl}/readyz`)).ok);
    await post(daemon, [pm(1)]);
    const line = `${TOPICS.pm}\t{"to_user_id":"bob@localhost","message":"m1","from_user_id":"alice@localhost"}\tevent_id=s/e/1\n`;
    await until('the line', () => dry.output().includes(line));
    await dry.end('SIGTERM');
    assert.equal(sns.publishes.length, 0);
    // The dry run's event did not reach the real outbox, which accepts its number again.
    await daemon.start();
    const { json } = await daemon.post({ source: 's', epoch: 'e', first_seq: 1, events: [pm(1)] });
    assert.deepEqual(json, { accepted: 1, duplicates: 0, rejected: [] });
  });

  it("passes on a batch's trace context as an attribute", async () => {
    const sns = await stub(() => undefined);
    const daemon = await daemonFor(sns.url, { sns: 'attributes = ["traceparent"]' });
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    await daemon.post({ source: 's', events: [pm(1)] }, { traceparent });
    await until('it to arrive', () => sns.publishes.length === 1);
    const form = sns.publishes[0]?.form;
    assert.equal(
      form?.get('PublishBatchRequestEntries.member.1.MessageAttributes.entry.1.Value.StringValue'),
      traceparent,
    );
  });
});
