/** TLS with RabbitMQ: what is wrong with it, and what the daemon says then, of its outbox and of its tap. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type Authority, makeAuthority } from '../../test/support/certificate.ts';
import { createDaemon } from '../../test/support/daemon.ts';
import { until } from '../../test/support/process.ts';
import { listenTls } from '../../test/support/rabbit-tls.ts';
import type { RabbitNode, RabbitServer } from '../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../test/support/shared-rabbit.ts';
import { startStubSns } from '../../test/support/stub-sns.ts';
import { closeConnection, connectOnce } from './connection.ts';
import { explain } from './explain.ts';
import { type BrokerTls, brokerTls } from './tls.ts';

const EVENT = {
  kind: 'message',
  type: 'chat',
  at: 1,
  host: 'localhost',
  from: 'alice@localhost/x',
  to: 'bob@localhost',
  body: 'hello',
};

describe('TLS with RabbitMQ', () => {
  let rabbit: RabbitServer;
  let vhost: string;
  let folder: string;
  let authority: Authority;
  let stranger: Authority;
  let ca: Buffer;
  /** Of a listener that asks for client certificates, and of one that does not. */
  let strict: number;
  let open: number;
  const LOCAL = 'DNS:localhost,IP:127.0.0.1';

  const make = async (name: string): Promise<Authority> => {
    const own = path.join(folder, name);
    await mkdir(own);
    return makeAuthority(own);
  };
  const listen = (certificate: { cert: Buffer; key: Buffer }, clientsOf?: string) =>
    listenTls(rabbit.nodes[0] as RabbitNode, { folder, certificate, ...(clientsOf ? { clientsOf } : {}) });

  before(async () => {
    rabbit = await sharedRabbit();
    vhost = await rabbit.vhost();
    folder = await mkdtemp(path.join(tmpdir(), 'rabbit-tls-'));
    authority = await make('authority');
    stranger = await make('stranger');
    ca = await readFile(authority.file);
    const certificate = await authority.certify(LOCAL);
    strict = await listen(certificate, authority.file);
    open = await listen(certificate);
    await rabbit.user('pusher', 'secret', vhost, ['.*', '.*', '.*']);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const url = (port: number, { login = 'guest:guest@', host = '127.0.0.1', protocol = 'amqps' } = {}) =>
    `${protocol}://${login}${host}:${port}/${vhost}`;
  const problemWith = async (address: string, tls: BrokerTls) =>
    connectOnce(address, tls).then(
      async (connection) => {
        await closeConnection(connection);
        return undefined;
      },
      (error: unknown) => explain(error),
    );
  /** Fails unless reason and advice match. */
  const refused = async (address: string, tls: BrokerTls, reason: RegExp, advice: RegExp) => {
    const found = await problemWith(address, tls);
    assert.match(found?.reason ?? 'it connected', reason);
    assert.match(found?.advice ?? '', advice);
  };

  it('connects with ca_file and a client certificate, and logs in with that if the url has no user', async () => {
    const client = await authority.certify(LOCAL, { subject: 'pusher' });
    assert.equal(await problemWith(url(open), { ca }), undefined);
    assert.equal(await problemWith(url(strict), { ca, ...client }), undefined);
    assert.equal(await problemWith(url(strict, { login: '' }), { ca, ...client }), undefined);
    const nobody = await authority.certify(LOCAL, { subject: 'nobody' });
    await refused(
      url(strict, { login: '' }),
      { ca, ...nobody },
      /EXTERNAL/,
      /ssl_cert_login_from.*give the url a user/,
    );
  });

  it("explains why it refuses the broker's certificate: authority, host, time", async () => {
    await refused(url(open), {}, /no authority that is trusted here/, /set ca_file/);
    await refused(url(open), { ca: await readFile(stranger.file) }, /no authority that is trusted here/, /set ca_file/);
    const other = await listen(await authority.certify('DNS:mq.example.org'));
    await refused(url(other, { host: 'localhost' }), { ca }, /another host .*mq\.example\.org/, /a name of that/);
    const expired = await listen(await authority.certify(LOCAL, { days: 0 }));
    await refused(url(expired), { ca }, /not valid now .*expired/, /clock .*renew the broker's certificate/);
  });

  it('explains why the broker refuses the client certificate: missing, authority, time', async () => {
    await refused(url(strict), { ca }, /asks for a client certificate/, /set cert_file and key_file/);
    const foreign = await stranger.certify(LOCAL);
    await refused(url(strict), { ca, ...foreign }, /refuses the certificate in cert_file/, /cacertfile/);
    const expired = await authority.certify(LOCAL, { days: 0 });
    await refused(url(strict), { ca, ...expired }, /expired/, /renew it/);
  });

  it('reports that only one side speaks TLS', async () => {
    const plain = rabbit.nodes[0]?.port ?? 0;
    await refused(url(plain), { ca }, /does not speak TLS/, /amqp:\/\//);
    await refused(url(open, { protocol: 'amqp' }), {}, /it speaks TLS there/, /amqps:\/\//);
    await refused(url(strict, { protocol: 'amqp' }), {}, /it speaks TLS there/, /amqps:\/\//);
  });

  it('refuses each invalid file by its name', async () => {
    const { cert, key } = await authority.certify(LOCAL);
    const files = { 'ca.pem': ca, 'cert.pem': cert, 'key.pem': key, 'other.key': (await authority.certify(LOCAL)).key };
    for (const [name, content] of Object.entries(files)) await writeFile(path.join(folder, name), content);
    await writeFile(path.join(folder, 'empty'), '');
    const reading = (ca_file: string, cert_file: string, key_file: string) => () =>
      brokerTls({ ca_file, cert_file, key_file }, folder, 'outbox');
    assert.ok(reading('ca.pem', 'cert.pem', 'key.pem')());
    for (const [read, message] of [
      [reading('missing', 'cert.pem', 'key.pem'), /^outbox\.ca_file: can't read .*missing.*ENOENT/],
      [reading('empty', 'cert.pem', 'key.pem'), /^outbox\.ca_file: .*empty has no certificate/],
      [reading('ca.pem', '.', 'key.pem'), /^outbox\.cert_file: can't read \.: .*EISDIR/],
      [reading('ca.pem', 'cert.pem', 'missing'), /^outbox\.key_file: can't read missing/],
      [reading('ca.pem', 'cert.pem', 'other.key'), /^outbox: key_file is not the key of cert_file/],
      [reading('ca.pem', 'key.pem', 'cert.pem'), /^outbox: cert_file has to be a certificate/],
      [reading('ca.pem', 'cert.pem', 'empty'), /^outbox: .*key_file its private key/],
    ] as const)
      assert.throws(read, { code: 'CONFIG_INVALID', message });
  });

  it('outbox and tap report a refused certificate in /readyz, log and check, and continue with a renewed file', async () => {
    const published: string[] = [];
    await using stub = await startStubSns({ accepted: ({ message }) => void published.push(message) });
    const { cert, key } = await authority.certify(LOCAL, { subject: 'pusher' });
    const section = `url = "${url(strict, { login: '' })}"\nca_file = "ca.pem"\ncert_file = "cert.pem"\nkey_file = "key.pem"`;
    await using daemon = await createDaemon(
      { url: stub.url, region: 'eu-west-1', accountId: '123456789012' },
      { outbox: `engine = "rabbitmq"\n${section}`, rest: `[tap.rabbitmq]\n${section}\nqueue = "events"` },
    );
    const put = (name: string, content: Buffer) => writeFile(path.join(daemon.folder, name), content);
    await Promise.all([put('ca.pem', await readFile(stranger.file)), put('cert.pem', cert), put('key.pem', key)]);

    await daemon.start({ ready: false });
    const readyz = async () => (await fetch(`${daemon.adminUrl}/readyz`)).text();
    const SAID = /no authority that is trusted here signed the broker's certificate .*set ca_file/s;
    for (const part of ['tap rabbitmq', 'outbox'])
      await until(`${part} to say it`, async () => new RegExp(`${part}.*${SAID.source}`, 's').test(await readyz()));
    assert.match(daemon.output(), SAID);
    const failing = await daemon.command('check');
    assert.match(failing.output, SAID);
    assert.equal(failing.code, 1);
    const { status } = await daemon.post({ source: 's', epoch: 'e', first_seq: 1, events: [EVENT] });
    assert.equal(status, 503);

    await put('ca.pem', ca);
    await until('it to be ready', async () => (await fetch(`${daemon.adminUrl}/readyz`)).ok);
    assert.equal((await daemon.post({ source: 's', epoch: 'e', first_seq: 1, events: [EVENT] })).status, 200);
    await until('the notification', () => published.length === 1);
    await daemon.stop();
    const fine = await daemon.command('check');
    assert.match(fine.output, /ok +RabbitMQ: amqps:\/\/\S+ allows all that the outbox needs/);
    assert.match(fine.output, /ok +tap\.rabbitmq broker: amqps:\/\/\S+ takes the login/);

    await put('key.pem', Buffer.from('none'));
    const broken = await daemon.command('check');
    for (const part of ['RabbitMQ: outbox', 'tap\\.rabbitmq: tap\\.rabbitmq'])
      assert.match(broken.output, new RegExp(`FAIL +${part}: cert_file has to be .*key_file its private key`));
  });
});
