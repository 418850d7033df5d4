/** `init`, from nothing to a configuration that works, and whatever is there already. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it, type TestContext } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { readProsody } from '../src/cli/adapter/prosody/configuration.ts';
import { readEnvFile } from '../src/config/env-file.ts';
import { loadConfig, type PusherConfig } from '../src/config/load.ts';
import { commandLine } from './support/command-line.ts';
import { BIN } from './support/daemon.ts';
import { freePorts, launch, type Process, until } from './support/process.ts';
import { type Sns, startSns } from './support/sns.ts';

const KEY = 'AKIAIOSFODNN7EXAMPLE';
const AWS_SECRET = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
const ACCOUNT = '000000000000';

describe('init', () => {
  let sns: Sns;
  let folder: string;
  let flags: string[];
  const aws = Object.keys(process.env).filter((name) => /^AWS_/.test(name));
  before(async () => {
    for (const name of aws) delete process.env[name];
    sns = await startSns([]);
  });
  after(() => sns[Symbol.asyncDispose]());
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'init-'));
    const [tap, admin] = await freePorts(2);
    const addresses = ['--tap-listen', `127.0.0.1:${tap}`, '--admin-listen', `127.0.0.1:${admin}`];
    flags = ['--config', at('pusher.toml'), '--sns-host', sns.url, '--server', 'none', ...addresses];
    process.env.AWS_SECRET_ACCESS_KEY = AWS_SECRET;
  });
  afterEach(async () => {
    readEnvFile(at('none'), { named: false });
    delete process.env.AWS_SECRET_ACCESS_KEY;
    await rm(folder, { recursive: true });
  });

  const at = (name: string) => path.join(folder, name);
  const text = (name: string) => readFileSync(at(name), 'utf8');
  const ASKED = ['--region', 'eu-west-1', '--account', ACCOUNT, '--access-key-id', KEY];
  const init = (t: TestContext, ...args: string[]) => commandLine(t, 'init', '--yes', ...flags, ...args);
  const loaded = (): PusherConfig => {
    const environment: NodeJS.ProcessEnv = {};
    readEnvFile(at('environment'), { named: false }, environment);
    return loadConfig(at('pusher.toml'), environment);
  };
  /** With addresses and endpoint but no other flag. */
  const bare = (...args: string[]) =>
    flags.filter((_, index) => !/^--sns-host$/.test(flags[index & ~1] ?? '')).concat(args);

  it('makes a configuration with fresh secrets and the topics, and ends with a check', async (t) => {
    const { code, output } = await init(t, ...ASKED, '--pm-topic', 'chats', '--muc-topic', 'none');
    assert.equal(code, 0, output);
    assert.match(output, /^wrote {5}\S+environment\nwrote {5}\S+pusher\.toml\n/);
    assert.match(output, /"sns:Publish",\s+"sns:GetTopicAttributes",\s+"sns:CreateTopic"/);
    assert.match(output, /made {6}\S+:user_presence_updated\nmade {6}\S+:chats\n/);
    assert.match(output, /^ok {4}pm topic: \S+:chats exists and this key may publish to it$/m);
    assert.match(
      output,
      /xmpp-event-pusher run --config \S+pusher\.toml\n {2}xmpp-event-pusher status --config \S+\n$/,
    );
    assert.ok(!output.includes(AWS_SECRET), 'shows no secret');
    const { sns: section, tap, admin } = loaded();
    assert.deepEqual(
      [section?.secret_access_key, section?.access_key_id, section?.account_id, section?.muc_messages_topic],
      [AWS_SECRET, KEY, ACCOUNT, undefined],
    );
    assert.match(tap.http.secret ?? '', /^[\w-]{32}$/);
    assert.match(admin.token ?? '', /^[\w-]{32}$/);
    assert.ok(!text('pusher.toml').includes(AWS_SECRET) && !text('pusher.toml').includes(tap.http.secret ?? ''));
    assert.equal(statSync(at('environment')).mode & 0o007, 0, 'others can not read it');
    assert.deepEqual(readdirSync(folder).toSorted(), ['environment', 'pusher.toml']);
  });

  it('goes on with what is there when it is run again, and changes nothing of it', async (t) => {
    await init(t, ...ASKED, '--no-topics');
    const before = [text('pusher.toml'), text('environment')];
    const { code, output } = await init(t, '--region', 'eu-west-2');
    assert.equal(code, 0, output);
    assert.match(output, /^kept {6}\S+pusher\.toml: it was there already\. --sns-host, --region|--region, --sns-host/);
    assert.match(output, /(made|exists) {4,}\S+eu-west-1\S+:user_presence_updated/);
    assert.deepEqual([text('pusher.toml'), text('environment')], before);
  });

  it('keeps a copy of what it overwrites, and secrets that adapters know', async (t) => {
    await writeFile(at('environment'), '# mine\nTAP_SECRET="known"\nAWS_ACCESS_KEY_ID=former\nOTHER=1\n');
    await writeFile(at('pusher.toml'), '# by hand\n');
    const { code, output } = await init(t, ...ASKED, '--overwrite');
    assert.equal(code, 0, output);
    assert.match(output, /^completed \S+environment; kept: TAP_SECRET; replaced: AWS_ACCESS_KEY_ID\n/);
    assert.match(output, /wrote {5}\S+pusher\.toml; the old one is \S+pusher\.toml\.old\n/);
    assert.equal(text('pusher.toml.old'), '# by hand\n');
    assert.match(
      text('environment'),
      /^# mine\nTAP_SECRET="known"\nAWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nOTHER=1\nADMIN_/,
    );
    assert.equal(loaded().tap.http.secret, 'known');
  });

  it('takes the example of a package for nothing', async (t) => {
    for (const [name, example] of [
      ['pusher.toml', 'pusher.toml'],
      ['environment', 'environment.example'],
    ] as const)
      await writeFile(at(name), readFileSync(new URL(`../deploy/systemd/${example}`, import.meta.url)));
    const { code, output } = await init(t, ...ASKED);
    assert.equal(code, 0, output);
    assert.doesNotMatch(output, /kept|replaced|old/);
    assert.match(text('environment'), /^AWS_SECRET_ACCESS_KEY=wJalr/m);
    assert.doesNotMatch(text('environment'), /=$/m);
    assert.deepEqual(readdirSync(folder).toSorted(), ['environment', 'pusher.toml']);
  });

  it('uses no key where AWS has a role for this machine', async (t) => {
    delete process.env.AWS_SECRET_ACCESS_KEY;
    const { output } = await init(t, '--region', 'eu-west-1', '--account', ACCOUNT, '--role', '--no-topics');
    assert.match(output, /wrote {5}\S+pusher\.toml/);
    assert.match(text('pusher.toml'), /^ {2}credentials = "aws"$/m);
    assert.doesNotMatch(text('environment'), /AWS/);
  });

  it('says what failed and how to go on, and does so', async (t) => {
    const down = ['--config', at('pusher.toml'), '--server', 'none', '--sns-host', 'http://127.0.0.1:1'];
    const { code, output } = await commandLine(t, 'init', '--yes', ...ASKED, ...down);
    assert.equal(code, 1, output);
    assert.match(output, /FAIL {6}\S+:user_presence_updated: ECONNREFUSED/);
    assert.match(output, /Mend what failed, and run this again: xmpp-event-pusher init --config \S+pusher\.toml\n/);
    await writeFile(at('pusher.toml'), text('pusher.toml').replace('http://127.0.0.1:1', sns.url));
    const again = await commandLine(t, 'init', '--yes', '--config', at('pusher.toml'), '--server', 'none');
    assert.match(again.output, /^kept [\s\S]*(made|exists) {4,}\S+:user_presence_updated/);
  });

  for (const [what, args, expected] of [
    ['nothing is said', [], /so this has to be said: --region, --account, --access-key-id or --role$/m],
    ['a region is none', [...ASKED.slice(2), '--region', 'EU'], /error: --region should be an AWS region/],
    ['a topic has no name for one', [...ASKED, '--pm-topic', 'a b'], /error: --pm-topic should be an SNS topic name/],
    ['a key and a role are given', [...ASKED, '--role'], /'--role' cannot be used with option '--access-key-id <id>'/],
    ['two sources are given', [...ASKED, '--from', 'x'], /cannot be used with option/],
  ] as const)
    it(`writes nothing where ${what}`, async (t) => {
      const { code, output } = await init(t, ...args);
      assert.equal(code, 2, output);
      assert.match(output, expected);
      assert.deepEqual(readdirSync(folder), []);
    });

  it('leaves no half of a file where it can not write', async (t) => {
    await writeFile(at('file'), '');
    const { code, output } = await init(t, ...ASKED, '--overwrite', '--no-topics');
    assert.equal(code, 0, output);
    const elsewhere = await commandLine(
      t,
      'init',
      '--yes',
      ...bare('--sns-host', sns.url, ...ASKED).map((word) => word.replace('/pusher.toml', '/file/pusher.toml')),
    );
    assert.equal(elsewhere.code, 78, elsewhere.output);
    assert.match(elsewhere.output, /can't write \S+file\/environment: /);
  });

  describe('from a mongooseim.toml', () => {
    const take = (t: TestContext, toml: string) =>
      writeFile(at('mongooseim.toml'), toml).then(() =>
        commandLine(t, 'init', '--yes', '--no-topics', '--from', at('mongooseim.toml'), ...bare()),
      );
    const SECTION = `presence_updates_topic = "presence"
      pm_messages_topic = "pm"
      muc_messages_topic = "muc"
      plugin_module = "mod_event_pusher_sns_defaults"
      sns_host = "sns.eu-west-2.amazonaws.com"
      region = "eu-west-2"
      access_key_id = "AKIA\${KEY}"
      secret_access_key = "its\\"secret$"
      account_id = "123456789012"
      pool_size = 50
      publish_retry_count = 5
      publish_retry_time_ms = 100`;

    it('takes each option of its section, with the secret moved out of the file', async (t) => {
      const { output } = await take(t, `[general]\nhosts = ["a"]\n[modules.mod_event_pusher.sns]\n${SECTION}`);
      assert.match(output, /note {6}taken from \S+mongooseim\.toml, which stays as it is\n/);
      const { sns: section } = loaded();
      assert.deepEqual(
        { ...section, sns_host: section?.sns_host.host, access_key_id: section?.access_key_id },
        {
          ...section,
          presence_updates_topic: 'presence',
          pm_messages_topic: 'pm',
          muc_messages_topic: 'muc',
          sns_host: 'sns.eu-west-2.amazonaws.com',
          region: 'eu-west-2',
          access_key_id: 'AKIA${KEY}',
          secret_access_key: 'its"secret$',
          account_id: '123456789012',
          pool_size: 50,
          publish_retry_count: 5,
          publish_retry_time_ms: 100,
        },
      );
      assert.doesNotMatch(text('pusher.toml'), /its/);
    });

    it('takes those of single domains, and says what it can not take', async (t) => {
      const { output } = await take(
        t,
        `[modules.mod_event_pusher.rabbit]
        [[host_config]]
          host = "a.example"
          [host_config.modules.mod_event_pusher.sns]
            ${SECTION.replace('defaults"', 'mine"').replace('pool_size', 'pool_sizes')}
        [[host_config]]
          host = "b.example"
          [host_config.modules.mod_roster]
        [[host_config]]
          host_type = "tenants"
          [host_config.modules.mod_event_pusher.sns]
            ${SECTION}`,
      );
      const { sns: general, hosts } = loaded();
      assert.equal(general, undefined);
      assert.deepEqual([hosts.get('a.example')?.region, hosts.get('b.example'), hosts.size], ['eu-west-2', null, 2]);
      for (const expected of [
        /modules\.mod_event_pusher\.rabbit: events go on to RabbitMQ/,
        /host_config of a\.example: \S+plugin_module: mod_event_pusher_sns_mine is a module in Erlang/,
        /host_config of a\.example: \S+pool_sizes: there is no such option here/,
        /host_config of the host type tenants: events name domains/,
      ])
        assert.match(output, expected);
    });

    for (const [what, toml, expected] of [
      [
        'there is no such section',
        '[general]\n',
        /has no \[modules\.mod_event_pusher\.sns\] to take: leave --from out/,
      ],
      ['it is no TOML', 'x', /can't read \S+mongooseim\.toml: Invalid TOML/],
      [
        'the section has a mistake',
        `[modules.mod_event_pusher.sns]\n${SECTION.replace('pool_size = 50', 'pool_size = 0')}`,
        /pool_size is the number 0, should be/,
      ],
    ] as const)
      it(`writes nothing where ${what}`, async (t) => {
        const { code, output } = await take(t, toml);
        assert.equal(code, 78, output);
        assert.match(output, expected);
        assert.deepEqual(readdirSync(folder), ['mongooseim.toml']);
      });
  });

  describe('with a Prosody on this machine', () => {
    const prosody = async (t: TestContext, main: string, ...args: string[]) => {
      await chmod(folder, 0o755);
      await mkdir(at('conf.d'), { recursive: true });
      await mkdir(at('modules'), { recursive: true });
      await writeFile(
        at('prosody.cfg.lua'),
        `data_path = "${at('data')}"\nmodules_enabled = { "saslauth"; "roster" }\n${main}`,
      );
      const where = ['--server', 'prosody', '--server-config', at('prosody.cfg.lua')];
      const own = flags.filter((word) => word !== '--server' && word !== 'none');
      return commandLine(t, 'init', '--yes', ...own, ...ASKED, ...where, ...args);
    };
    const hosts = () =>
      readProsody(at('prosody.cfg.lua')).hosts.map(({ name, enabled, url, secret }) => ({
        name,
        enabled,
        url,
        secret,
      }));

    it('installs the adapter, and configures it in a file of its own', async (t) => {
      const main = `plugin_paths = { "${at('modules')}" }\nVirtualHost "a.example"\nVirtualHost "b.example"\nInclude "conf.d/*.cfg.lua"\n`;
      const { code, output } = await prosody(t, main);
      assert.equal(code, 0, output);
      assert.ok(existsSync(at('modules/mod_event_pusher/mod_event_pusher.lua')));
      assert.match(output, /Wrote \S+conf\.d\/xmpp-event-pusher\.cfg\.lua, for a\.example, b\.example\n/);
      assert.match(output, /Then restart Prosody/);
      const { tap } = loaded();
      const url = `http://127.0.0.1:${tap.http.listen.port}/v1/events`;
      assert.deepEqual(
        hosts(),
        ['a.example', 'b.example'].map((name) => ({ name, enabled: true, url, secret: tap.http.secret })),
      );
      assert.equal(statSync(at('conf.d/xmpp-event-pusher.cfg.lua')).mode & 0o007, 0);

      const again = await prosody(t, `${main}VirtualHost "c.example"\n`);
      assert.equal(again.code, 0, again.output);
      assert.match(again.output, /Wrote \S+, for a\.example, b\.example, c\.example\n/);
      const { output: removed } = await commandLine(
        t,
        'adapter',
        'uninstall',
        'prosody',
        '--server-config',
        at('prosody.cfg.lua'),
      );
      assert.match(removed, /Removed \S+conf\.d\/xmpp-event-pusher\.cfg\.lua\n/);
      assert.ok(hosts().every(({ enabled }) => !enabled));
    });

    it('sets plugin_paths where the configuration has none', async (t) => {
      const { output } = await prosody(
        t,
        'VirtualHost "a.example"\nInclude "conf.d/*.cfg.lua"\n',
        '--to',
        at('modules'),
      );
      assert.match(output, /Wrote /);
      assert.deepEqual(readProsody(at('prosody.cfg.lua')).pluginPaths, [at('modules')]);
    });

    it('prints what to write where no folder of files is included, or a host has a list of its own', async (t) => {
      const paths = `plugin_paths = { "${at('modules')}" }\n`;
      const { output } = await prosody(t, `${paths}VirtualHost "a.example"\n--Include "conf.d/*.cfg.lua"\n`);
      assert.match(output, /Add at the end of \S+prosody\.cfg\.lua:\n\n {2}VirtualHost "a\.example" \{/);
      const list = await prosody(
        t,
        `${paths}VirtualHost "a.example"\n  modules_enabled = { "ping" }\nVirtualHost "b.example"\nInclude "conf.d/*.cfg.lua"\n`,
      );
      assert.match(list.output, /Wrote \S+, for b\.example\n/);
      assert.match(list.output, /Add as the first entry of the modules_enabled of VirtualHost "a\.example"/);
    });
  });

  it('leaves an ejabberd that does not run able to start: without options for a module that it does not have', async (t) => {
    await chmod(folder, 0o755);
    await mkdir(at('modules.d'));
    await writeFile(at('ejabberd.yml'), 'hosts:\n  - localhost\nmodules:\n  mod_disco: {}\n');
    const places = { CONTRIB_MODULES_PATH: at('contrib'), CONTRIB_MODULES_CONF_DIR: at('modules.d') };
    const set = Object.entries({ ...places, EJABBERD_CONFIG_PATH: at('ejabberd.yml'), SPOOL_DIR: at('spool') });
    await writeFile(at('ejabberdctl.cfg'), set.map(([name, value]) => `${name}=${value}\n`).join(''));
    const own = flags.filter((word) => word !== '--server' && word !== 'none');
    const where = ['--server', 'ejabberd', '--server-config', at('ejabberdctl.cfg')];
    const { code, output } = await commandLine(t, 'init', '--yes', ...own, ...ASKED, ...where);
    assert.equal(code, 0, output);
    assert.deepEqual(readdirSync(at('modules.d')), []);
    const options = readFileSync(at('contrib/sources/mod_event_pusher/conf/mod_event_pusher.yml'), 'utf8');
    assert.ok(options.includes(loaded().tap.http.secret ?? '-'), options);
    assert.match(output, /Then load it into the running server:\n\n {2}ejabberdctl module_install mod_event_pusher\n/);
  });

  describe('on a terminal', () => {
    const start = async (...args: string[]) => {
      const { AWS_SECRET_ACCESS_KEY: _, ...env } = process.env;
      const words = [process.execPath, BIN, 'init', ...flags, ...args].map((word) => `'${word}'`);
      return launch('script', ['-qefc', `exec ${words.join(' ')}`, '/dev/null'], { stdin: 'pipe', env });
    };

    const seen = (screen: Process) => stripVTControlCharacters(screen.output()).replaceAll('\r', '');

    it('asks, takes what it suggests for an empty answer, and does not show a secret', async () => {
      const screen = await start();
      const answer = async (question: RegExp, line: string) => {
        await until(`${question}`, () => question.test(seen(screen)) || !screen.running);
        screen.type(`${line}\r`);
      };
      await answer(/AWS region, such as eu-west-1: $/, 'nowhere at all');
      await answer(/It should be an AWS region[^\n]*\n.*AWS region, such as eu-west-1: $/, 'eu-west-1');
      await answer(/12 digits: $/, ACCOUNT);
      await answer(/presence \(none: not published\) \[user_presence_updated\]: $/, '');
      await answer(/private messages [^\n]*: $/, 'chats');
      await answer(/group messages [^\n]*: $/, 'none');
      await answer(/\(no key\)\? \[y\/N\] $/, '');
      await answer(/Access key id: $/, KEY);
      await answer(/not shown\): $/, AWS_SECRET);
      await answer(/topics that are missing\? \[Y\/n\] $/, '');
      assert.equal(await screen.exited, 0, screen.output());
      assert.ok(!screen.output().includes(AWS_SECRET));
      assert.deepEqual([loaded().sns?.secret_access_key, loaded().sns?.pm_messages_topic], [AWS_SECRET, 'chats']);
    });

    it('ends at Ctrl-C, and has written nothing', async () => {
      const screen = await start('--region', 'eu-west-1');
      await until('a question', () => /12 digits: $/.test(seen(screen)));
      screen.type('1234\x03');
      assert.equal(await screen.exited, 130, screen.output());
      assert.match(screen.output(), /Ended\. What is written stays; go on with: xmpp-event-pusher init --config /);
      assert.deepEqual(readdirSync(folder), []);
    });
  });
});
