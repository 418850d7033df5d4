import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { until } from '../../test/support/process.ts';
import type { SnsOptions } from '../config/sns-options.ts';
import { type CredentialSource, credentialsOf } from './credentials.ts';

const HOUR = 3_600_000;
const ROLE = 'arn:aws:iam::123456789012:role/pusher';

const optionsWith = (more: Partial<SnsOptions>) => ({ region: 'eu-west-1', ...more }) as SnsOptions;

/** The credentials of a source, without the SDK's own additions. */
async function given(source: CredentialSource) {
  const { accessKeyId, secretAccessKey, sessionToken } = await source.get();
  return [accessKeyId, secretAccessKey, sessionToken];
}

describe('the credentials', () => {
  let folder: string;
  let server: Server;
  let url: string;
  /** Answers of a fake AWS endpoint; `asked` lists the requests. */
  let answer: (request: IncomingMessage, body: string) => string | undefined;
  /** The status of its answers. */
  let status: number;
  let asked: { method: string; path: string; headers: IncomingMessage['headers']; body: string }[];
  const environment = { ...process.env };

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'credentials-'));
    asked = [];
    status = 200;
    server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request.setEncoding('utf8')) body += chunk;
      asked.push({ method: String(request.method), path: String(request.url), headers: request.headers, body });
      const text = answer(request, body);
      response.writeHead(text === undefined ? 500 : status, { 'content-type': 'application/json' }).end(text);
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    // Hides this machine's own settings.
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    process.env.AWS_CONFIG_FILE = path.join(folder, 'config');
    process.env.AWS_SHARED_CREDENTIALS_FILE = path.join(folder, 'credentials');
    process.env.AWS_EC2_METADATA_DISABLED = 'true';
  });
  afterEach(async () => {
    process.env = { ...environment };
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  });

  const fromAws = () => credentialsOf(optionsWith({ credentials: 'aws' }));
  /** In the form of container and instance endpoints. */
  const role = (name: string, leftMs = HOUR) =>
    JSON.stringify({
      Code: 'Success',
      AccessKeyId: name,
      SecretAccessKey: `${name}-secret`,
      Token: `${name}-token`,
      Expiration: new Date(Date.now() + leftMs).toISOString(),
    });
  const expectRole = (name: string) => [name, `${name}-secret`, `${name}-token`];
  /** In the form of STS. */
  const assumed = (action: string, name: string) =>
    `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${action}Result><Credentials>
       <AccessKeyId>${name}</AccessKeyId><SecretAccessKey>${name}-secret</SecretAccessKey>
       <SessionToken>${name}-token</SessionToken><Expiration>${new Date(Date.now() + HOUR).toISOString()}</Expiration>
     </Credentials><AssumedRoleUser><Arn>${ROLE}/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>
     </${action}Result></${action}Response>`;

  it('uses the keys of the configuration without asking a provider', () => {
    process.env.AWS_ACCESS_KEY_ID = 'ANOTHER';
    const source = credentialsOf(
      optionsWith({ credentials: 'static', access_key_id: 'KEY', secret_access_key: 'secret' }),
    );
    assert.deepEqual(source.get(), { accessKeyId: 'KEY', secretAccessKey: 'secret' });
  });

  it('reads credentials from the environment', async () => {
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'ENV', AWS_SECRET_ACCESS_KEY: 's', AWS_SESSION_TOKEN: 't' });
    assert.deepEqual(await given(fromAws()), ['ENV', 's', 't']);
  });

  it('reads the named profile, and reads its file again when AWS rejects its keys', async () => {
    const write = (key: string) =>
      writeFile(
        path.join(folder, 'credentials'),
        `[default]\naws_access_key_id = NOT\naws_secret_access_key = n\n[ops]\naws_access_key_id = ${key}\naws_secret_access_key = s\n`,
      );
    process.env.AWS_PROFILE = 'ops';
    await write('FIRST');
    const source = fromAws();
    const first = await source.get();
    await write('SECOND');
    assert.deepEqual(await given(source), ['FIRST', 's', undefined]);
    source.expired(first);
    assert.deepEqual(await given(source), ['SECOND', 's', undefined]);
    // A late answer to a request signed with the first credentials.
    await write('THIRD');
    source.expired(first);
    assert.deepEqual(await given(source), ['SECOND', 's', undefined]);
  });

  it("runs the profile's credential_process", async () => {
    const file = path.join(folder, 'given.json');
    await writeFile(file, JSON.stringify({ Version: 1, AccessKeyId: 'PROCESS', SecretAccessKey: 's' }));
    await writeFile(path.join(folder, 'config'), `[default]\ncredential_process = cat ${file}\n`);
    assert.deepEqual(await given(fromAws()), ['PROCESS', 's', undefined]);
  });

  it("assumes the profile's role with the source profile's keys", async () => {
    process.env.AWS_ENDPOINT_URL_STS = url;
    await writeFile(
      path.join(folder, 'config'),
      `[default]\nrole_arn = ${ROLE}\nsource_profile = base\nregion = eu-west-1\n[profile base]\nregion = eu-west-1\n`,
    );
    await writeFile(path.join(folder, 'credentials'), '[base]\naws_access_key_id = BASE\naws_secret_access_key = s\n');
    answer = () => assumed('AssumeRole', 'ROLE');
    assert.deepEqual(await given(fromAws()), expectRole('ROLE'));
    const [request] = asked;
    assert.match(String(request?.headers.authorization), /Credential=BASE\/\d{8}\/eu-west-1\/sts\//);
    const form = new URLSearchParams(request?.body);
    assert.deepEqual([form.get('Action'), form.get('RoleArn')], ['AssumeRole', ROLE]);
  });

  it('uses a web identity, as in a Kubernetes pod', async () => {
    const file = path.join(folder, 'token');
    await writeFile(file, 'the.web.token');
    Object.assign(process.env, {
      AWS_ENDPOINT_URL_STS: url,
      AWS_REGION: 'eu-west-1',
      AWS_ROLE_ARN: ROLE,
      AWS_WEB_IDENTITY_TOKEN_FILE: file,
    });
    answer = () => assumed('AssumeRoleWithWebIdentity', 'WEB');
    assert.deepEqual(await given(fromAws()), expectRole('WEB'));
    const form = new URLSearchParams(asked[0]?.body);
    assert.deepEqual(
      [form.get('Action'), form.get('RoleArn'), form.get('WebIdentityToken')],
      ['AssumeRoleWithWebIdentity', ROLE, 'the.web.token'],
    );
  });

  it("uses the container's endpoint", async () => {
    process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = `${url}/task`;
    process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN = 'let-me-in';
    answer = () => role('TASK');
    assert.deepEqual(await given(fromAws()), expectRole('TASK'));
    assert.deepEqual([asked[0]?.path, asked[0]?.headers.authorization], ['/task', 'let-me-in']);
  });

  it("uses the instance's metadata with its session token", async () => {
    delete process.env.AWS_EC2_METADATA_DISABLED;
    process.env.AWS_EC2_METADATA_SERVICE_ENDPOINT = url;
    answer = ({ method, url: path }) => {
      if (method === 'PUT') return 'session';
      return path?.endsWith('/pusher') ? role('INSTANCE') : 'pusher';
    };
    assert.deepEqual(await given(fromAws()), expectRole('INSTANCE'));
    assert.deepEqual(
      asked.map(({ method, path, headers }) => [method, path, headers['x-aws-ec2-metadata-token']]),
      [
        ['PUT', '/latest/api/token', undefined],
        ['GET', '/latest/meta-data/iam/security-credentials/', 'session'],
        ['GET', '/latest/meta-data/iam/security-credentials/pusher', 'session'],
      ],
    );
  });

  it('fetches credentials once and again before they expire, and uses the old ones until then', async () => {
    process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = `${url}/task`;
    const source = fromAws();
    answer = () => role('LONG');
    await source.get();
    for (let n = 0; n < 10; n++) assert.deepEqual(await given(source), expectRole('LONG'));
    assert.equal(asked.length, 1);

    const other = credentialsOf(optionsWith({ credentials: 'aws' }), 20);
    answer = () => role('SHORT', 200_000);
    assert.deepEqual(await given(other), expectRole('SHORT'));
    // Less than five minutes left: it asks, and uses the old ones until an answer arrives.
    answer = () => undefined;
    const before = asked.length;
    await until('it to ask in vain', async () => {
      assert.deepEqual(await given(other), expectRole('SHORT'));
      return asked.length > before;
    });
    answer = () => role('NEXT');
    await until('the next ones', async () => (await other.get()).accessKeyId === 'NEXT');
  });

  for (const [what, leftMs] of [
    ['are about to expire', 60_000],
    ['expire at once, as a wrong clock has it', -60_000],
  ] as const)
    it(`does not fetch credentials for each request if they ${what}`, async () => {
      process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = `${url}/task`;
      answer = () => role('SHORT', leftMs);
      const source = fromAws();
      const all = await Promise.all(Array.from({ length: 20 }, () => given(source)));
      for (let n = 0; n < 20; n++) all.push(await given(source));
      assert.ok(all.every(([key]) => key === 'SHORT'));
      assert.equal(asked.length, 1);
    });

  it('fetches rejected credentials once, not for each rejection', async () => {
    process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = `${url}/task`;
    let handed = 0;
    answer = () => role(`ROLE${++handed}`);
    const source = fromAws();
    for (let n = 0; n < 10; n++) source.expired(await source.get());
    assert.equal(handed, 2);
  });

  describe('missing credentials are reported with the cause and without secrets', () => {
    const cause = async (): Promise<string> => {
      const error = await Promise.resolve(fromAws().get()).then(
        () => assert.fail('there are some'),
        (error: Error) => error,
      );
      assert.doesNotMatch(error.message, /hidden/);
      assert.ok(error.message.length <= 300);
      return error.message;
    };
    const profile = async (lines: string) => {
      process.env.AWS_PROFILE = 'ops';
      await writeFile(path.join(folder, 'config'), `[profile ops]\n${lines}\n`);
    };

    it('rejects when no provider has credentials', async () => {
      assert.match(await cause(), /^none found: no keys in the environment, no profile/);
    });
    it('reports half a key', async () => {
      process.env.AWS_ACCESS_KEY_ID = 'AKIA';
      assert.equal(await cause(), 'AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not');
    });
    it('reports a missing profile', async () => {
      process.env.AWS_PROFILE = 'nobody';
      assert.match(await cause(), /^Could not resolve credentials using profile: \[nobody\]/);
    });
    it('reports a profile that points to a missing one', async () => {
      await profile(`role_arn = ${ROLE}\nsource_profile = gone`);
      assert.match(await cause(), /profile: \[gone\]/);
    });
    it('reports a failing process, without the secrets in its arguments and output', async () => {
      await profile("credential_process = sh -c 'echo hidden >&2; exit 3' --token hidden");
      assert.match(await cause(), /^credential_process sh failed; its arguments and output are not shown/);
    });
    it('reports a process that prints something else', async () => {
      await profile('credential_process = echo hidden');
      assert.match(await cause(), /credential_process returned invalid JSON/);
    });
    it('reports an expired SSO session', async () => {
      await profile(
        'sso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start',
      );
      assert.match(await cause(), /aws sso login/);
    });
    it('reports a web identity without its file', async () => {
      Object.assign(process.env, { AWS_ROLE_ARN: ROLE, AWS_WEB_IDENTITY_TOKEN_FILE: path.join(folder, 'none') });
      assert.match(await cause(), /^ENOENT: no such file/);
    });
    it('reports a refusal of STS', async () => {
      const file = path.join(folder, 'token');
      await writeFile(file, 'hidden');
      Object.assign(process.env, {
        AWS_ENDPOINT_URL_STS: url,
        AWS_ROLE_ARN: ROLE,
        AWS_WEB_IDENTITY_TOKEN_FILE: file,
      });
      status = 403;
      answer = () =>
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>';
      assert.match(await cause(), /HTTP 403: .*Not authorized to perform sts:AssumeRoleWithWebIdentity/);
    });
    it("reports an error of the container's agent", async () => {
      process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = `${url}/task`;
      answer = () => undefined;
      assert.match(await cause(), /the container's credentials endpoint: .*500/);
    });
  });
});
