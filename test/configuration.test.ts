/** Which configuration a command reads, and where its variables come from. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it, type TestContext } from 'node:test';
import { CONFIG_VARIABLE } from '../src/config/find.ts';
import { commandLine } from './support/command-line.ts';
import { BIN } from './support/daemon.ts';
import { launch } from './support/process.ts';

describe('the configuration of a command', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'configuration-'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const at = (name: string) => path.join(folder, name);

  /** Writes a configuration with this topic, and `region` from a variable. */
  const configure = async (topic: string, file = 'pusher.toml') => {
    await mkdir(path.dirname(at(file)), { recursive: true });
    await writeFile(
      at(file),
      `[modules.mod_event_pusher.sns]
        pm_messages_topic = "${topic}"
        sns_host = "sns.eu-west-1.amazonaws.com"
        region = "\${TEST_REGION}"
        account_id = "123456789012"
        access_key_id = "\${TEST_KEY}"
        secret_access_key = "\${TEST_SECRET}"
      [tap.http]
        secret = "\${TEST_TAP}"
      [admin]
        listen = "0.0.0.0:1"
        token = "\${TEST_TOKEN}"`,
    );
    return at(file);
  };
  const policy = async (t: TestContext, ...args: string[]) => {
    const { code, output } = await commandLine(t, 'iam-policy', ...args);
    return code === 0 ? (/arn:[^"]*/.exec(output)?.[0] ?? output) : `${code} ${output}`;
  };
  /** Runs a command in the folder. */
  const inFolder = async (env: NodeJS.ProcessEnv = {}, ...args: string[]) => {
    const run = await launch(process.execPath, [BIN, 'iam-policy', ...args], {
      cwd: folder,
      env: { ...process.env, ...env },
    });
    return `${await run.exited} ${run.output().match(/arn:[^"]*/)?.[0] ?? run.output()}`;
  };

  it('without an option reads the configuration named by the variable, or the one in this folder', async () => {
    await configure('here');
    await configure('elsewhere', 'else/where.toml');
    await writeFile(at('environment'), 'TEST_REGION=eu-west-1');
    await writeFile(at('else/environment'), 'TEST_REGION=eu-west-2');
    assert.equal(await inFolder(), '0 arn:aws:sns:eu-west-1:123456789012:here');
    const env = { [CONFIG_VARIABLE]: at('else/where.toml') };
    assert.equal(await inFolder(env), '0 arn:aws:sns:eu-west-2:123456789012:elsewhere');
    assert.equal(await inFolder(env, '-c', 'pusher.toml'), '0 arn:aws:sns:eu-west-1:123456789012:here');
  });

  it('reads variables from the file `environment` beside the configuration, or from the named file', async (t) => {
    const file = await configure('events');
    await writeFile(at('environment'), '# a comment\nTEST_REGION="eu-west-1"\n');
    await writeFile(at('other'), 'TEST_REGION=eu-west-2\n');
    assert.match(await policy(t, '-c', file), /:eu-west-1:/);
    assert.match(await policy(t, '-c', file, '--env-file', at('other')), /:eu-west-2:/);
    process.env.TEST_REGION = 'eu-west-3';
    t.after(() => {
      delete process.env.TEST_REGION;
    });
    assert.match(await policy(t, '-c', file), /:eu-west-3:/, 'what the environment has counts first');
  });

  it("prints the configuration's policy without any secret", async (t) => {
    const file = await configure('events');
    await writeFile(at('environment'), 'TEST_REGION=eu-west-1\nTEST_KEY=\n');
    assert.match(await policy(t, '-c', file), /^arn:aws:sns:eu-west-1:123456789012:events$/);
    const { code, output } = await commandLine(t, 'run', '-c', file);
    assert.equal(code, 78);
    assert.match(output, /\$\{TEST_SECRET\}, which is not set in the environment/);
  });

  for (const [args, expected] of [
    [['dead-letters', 'list'], /outbox \S+ does not exist/],
    [['dead-letters', 'purge', '--all'], /outbox \S+ does not exist/],
    [['sources', 'list'], /outbox \S+ does not exist/],
    [['find', 'a'], /outbox \S+ does not exist/],
    [['history'], /outbox \S+ does not exist/],
    [['status'], /the variable of admin\.token is not set here; nor by its socket: no daemon answers/],
    [['tail'], /the variable of admin\.token is not set here; nor by its socket: no daemon answers/],
  ] as const)
    it(`needs no secret for ${args.join(' ')}`, async (t) => {
      const file = await configure('events');
      await writeFile(at('environment'), 'TEST_REGION=eu-west-1\n');
      const { code, output } = await commandLine(t, ...args, '-c', file);
      assert.equal(code, 1, output);
      assert.match(output, expected);
    });

  it('needs only the key to create topics', async (t) => {
    const file = await configure('events');
    await writeFile(at('environment'), 'TEST_REGION=eu-west-1\n');
    const { code, output } = await commandLine(t, 'topics', 'create', '--yes', '-c', file);
    assert.equal(code, 78);
    assert.match(output, /: 2 mistakes\n.*access_key_id refers to \$\{TEST_KEY\}.*\n.*secret_access_key refers to/);
  });

  it('names a configuration without any topic to create', async (t) => {
    const section = 'sns_host = "sns.eu-west-1.amazonaws.com"\nregion = "eu-west-1"\naccount_id = "123456789012"';
    await writeFile(at('pusher.toml'), `[modules.mod_event_pusher.sns]\n${section}\ncredentials = "aws"\n`);
    const answer = await commandLine(t, 'topics', 'create', '--yes', '-c', at('pusher.toml'));
    assert.deepEqual(answer, { code: 78, output: `xmpp-event-pusher: ${at('pusher.toml')}: no topic is configured\n` });
  });

  it("needs no variable of the tap's key to install an adapter", async (t) => {
    const file = at('pusher.toml');
    const section = 'secret = "known-secret"\ntls_cert = "none.pem"\ntls_key = "${CREDENTIALS_DIRECTORY}/tap.key"';
    await writeFile(file, `[tap.http]\n${section}\n`);
    const { code, output } = await commandLine(t, 'adapter', 'install', 'prosody', '--to', at('to'), '-c', file);
    assert.equal(code, 0, output);
    assert.match(output, /event_pusher_url = "https:/);
  });

  for (const [what, prepare, expected] of [
    ['is missing', () => undefined, /as NAME=value, but does not exist/],
    ['is a folder', () => mkdir(at('environment')), /can't be read: EISDIR/],
    ['lacks the variables', () => writeFile(at('environment'), 'A=1'), /it is not set in \S+environment either$/m],
    [
      'sets something else',
      () => writeFile(at('environment'), 'A=1\nexport TEST_REGION=eu-west-1'),
      /either; line 2 there is not NAME=value and is ignored/,
    ],
  ] as const)
    it(`explains the failure if the file of variables ${what}`, async (t) => {
      const file = await configure('events');
      await prepare();
      const said = await policy(t, '-c', file);
      assert.match(said, /^78 [\s\S]*region refers to \$\{TEST_REGION\}, which is not set/);
      assert.match(said, expected);
    });

  it('fails without the named file of variables', async (t) => {
    const file = await configure('events');
    assert.match(await policy(t, '-c', file, '--env-file', at('none')), /^78 .*can't read --env-file \S+none: ENOENT/);
  });
});
