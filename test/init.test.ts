/** `init` creates a working configuration, with or without existing files. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { startDaemon } from '../src/daemon.ts';
import { createLogger } from '../src/ops/log.ts';
import { commandLine } from './support/command-line.ts';
import { BIN } from './support/daemon.ts';
import { ACCOUNT, ASKED, AWS_SECRET, KEY, useInit, without } from './support/init.ts';
import { launch, type Process, until } from './support/process.ts';
import { mountSmallDisk } from './support/tmpfs.ts';

describe('init', () => {
  const bench = useInit();
  const { at, text, init, loaded } = bench;

  it('init writes a configuration with fresh secrets, creates the topics, and ends with a check', async (t) => {
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
    assert.deepEqual(readdirSync(bench.folder).toSorted(), ['environment', 'pusher.toml']);
  });

  it('a second init reuses what exists and changes nothing', async (t) => {
    await init(t, ...ASKED, '--no-topics');
    const before = [text('pusher.toml'), text('environment')];
    const { code, output } = await init(t, '--region', 'eu-west-2');
    assert.equal(code, 0, output);
    assert.match(
      output,
      /^kept {6}\S+pusher\.toml: it exists already\. --region, --sns-host, --tap-listen, --admin-listen have/,
    );
    assert.match(output, /(made|exists) {4,}\S+eu-west-1\S+:user_presence_updated/);
    assert.deepEqual([text('pusher.toml'), text('environment')], before);
  });

  it('init says to restart a daemon that runs', async (t) => {
    const first = await init(t, ...ASKED);
    assert.match(first.output, /\nStart the daemon, and check it:\n/);
    const daemon = await startDaemon(loaded(), createLogger('silent'));
    const { output } = await init(t, ...ASKED, '--overwrite', '--pm-topic', 'others').finally(() => daemon.stop());
    assert.match(output, /\nThe daemon runs with the configuration that it started with\. Restart it, and check it:\n/);
  });

  it('says what of the environment it does not use when it is run again', async (t) => {
    await init(t, ...ASKED, '--no-topics');
    Object.assign(process.env, { AWS_REGION: 'eu-west-2', AWS_SECRET_ACCESS_KEY: 'another' });
    const { output } = await init(t).finally(() => delete process.env.AWS_REGION);
    assert.match(output, /^kept {6}\S+: it exists already\. .*AWS_REGION=eu-west-2 have no effect\. To overwrite it: /);
    assert.match(
      output,
      /^warn {2}environment: this shell has other values than the file for AWS_SECRET_ACCESS_KEY\n.*\n {6}do {5}run `unset AWS_SECRET_ACCESS_KEY`/m,
    );
  });

  for (const [what, environment, flags, expected] of [
    [
      'a secret with a newline',
      { AWS_SECRET_ACCESS_KEY: 'abc\n' },
      [],
      'AWS_SECRET_ACCESS_KEY in the environment ends in U+000A (a newline)',
    ],
    [
      'a secret that begins with a space',
      { AWS_SECRET_ACCESS_KEY: ' abc' },
      [],
      'AWS_SECRET_ACCESS_KEY in the environment begins with U+0020 (a space)',
    ],
    [
      'a region of the environment that can be none',
      { AWS_REGION: 'eu west' },
      [],
      '--region, by default, should be an AWS region, such as `eu-west-1`',
    ],
    ['a wrong account', {}, ['--account', '12345'], '--account should be an AWS account number: 12 digits'],
  ] as const)
    it(`names ${what}, shows no value, and writes nothing`, async (t) => {
      Object.assign(process.env, environment);
      const others = ['--access-key-id', KEY, ...('AWS_REGION' in environment ? [] : ['--region', 'eu-west-1'])];
      const account = flags.length > 0 ? flags : ['--account', ACCOUNT];
      const { code, output } = await init(t, ...others, ...account).finally(() => delete process.env.AWS_REGION);
      assert.deepEqual([code, output], [2, `error: ${expected}\n`]);
      assert.deepEqual(readdirSync(bench.folder), []);
    });

  for (const [flag, value] of [
    ['--tap-listen', '5290'],
    ['--admin-listen', 'localhost'],
    ['--sns-host', 'sns host'],
  ] as const)
    it(`refuses ${flag} ${value} before anything is written`, async (t) => {
      const { code, output } = await commandLine(t, 'init', '--yes', ...ASKED, flag, value);
      assert.equal(code, 2, output);
      assert.match(
        output,
        new RegExp(`^error: option '${flag} <\\w+>' argument '${value}' is invalid\\. It should be `),
      );
    });

  it('names addresses among what has no effect when it is run again', async (t) => {
    await init(t, ...ASKED, '--no-topics');
    const { output } = await init(t);
    assert.match(output, /^kept .* --sns-host, --tap-listen, --admin-listen have no effect\. To overwrite it: /);
  });

  it('init keeps a copy of what it overwrites, and secrets that adapters use', async (t) => {
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

  it("init treats a package's example as no configuration", async (t) => {
    for (const [name, example] of [
      ['pusher.toml', 'pusher.toml'],
      ['environment', 'environment.example'],
    ] as const)
      await writeFile(at(name), readFileSync(new URL(`../deploy/systemd/${example}`, import.meta.url)));
    const { output: checked } = await commandLine(t, 'check', '--config', at('pusher.toml'));
    assert.match(checked, /tap\.http\.secret is \$\{TAP_SECRET\}, which is empty in the environment/);
    assert.match(
      checked,
      /it is the package's example as it came: `xmpp-event-pusher init --config \S+pusher\.toml` fills it in\n/,
    );
    const { code, output } = await init(t, ...ASKED);
    assert.equal(code, 0, output);
    assert.doesNotMatch(output, /kept|replaced|old/);
    assert.match(text('environment'), /^AWS_SECRET_ACCESS_KEY=wJalr/m);
    assert.doesNotMatch(text('environment'), /=$/m);
    assert.deepEqual(readdirSync(bench.folder).toSorted(), ['environment', 'pusher.toml']);
  });

  it('init uses no key if AWS has a role for this machine', async (t) => {
    delete process.env.AWS_SECRET_ACCESS_KEY;
    const { output } = await init(t, '--region', 'eu-west-1', '--account', ACCOUNT, '--role', '--no-topics');
    assert.match(output, /wrote {5}\S+pusher\.toml/);
    assert.match(text('pusher.toml'), /^ {2}credentials = "aws"$/m);
    assert.doesNotMatch(text('environment'), /AWS/);
  });

  it('init says that it takes no temporary key of the environment', async (t) => {
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'ASIAEXAMPLE', AWS_SESSION_TOKEN: 'token' });
    const { code, output } = await init(t, '--region', 'eu-west-1', '--account', ACCOUNT).finally(() => {
      delete process.env.AWS_ACCESS_KEY_ID;
      delete process.env.AWS_SESSION_TOKEN;
    });
    assert.equal(code, 2);
    assert.match(
      output,
      /required: --access-key-id or --role \(not the temporary one of AWS_SESSION_TOKEN\), AWS_SECRET_ACCESS_KEY in/,
    );
    assert.deepEqual(readdirSync(bench.folder), []);
  });

  it('init says what failed and how to continue, and continues there', async (t) => {
    const down = ['--config', at('pusher.toml'), '--server', 'none', '--sns-host', 'http://127.0.0.1:1'];
    const { code, output } = await commandLine(t, 'init', '--yes', ...ASKED, ...down);
    assert.equal(code, 1, output);
    assert.match(output, /FAIL {6}\S+:user_presence_updated: ECONNREFUSED/);
    assert.match(output, /Fix what failed, and run this again: xmpp-event-pusher init --config \S+pusher\.toml\n/);
    await writeFile(at('pusher.toml'), text('pusher.toml').replace('http://127.0.0.1:1', bench.sns.url));
    const again = await commandLine(t, 'init', '--yes', '--config', at('pusher.toml'), '--server', 'none');
    assert.match(again.output, /^kept [\s\S]*(made|exists) {4,}\S+:user_presence_updated/);
  });

  for (const [what, args, expected] of [
    ['nothing is said', [], /so these are required: --region, --account, --access-key-id or --role$/m],
    ['a region is none', [...ASKED.slice(2), '--region', 'EU'], /error: --region should be an AWS region/],
    ['a topic has no name for one', [...ASKED, '--pm-topic', 'a b'], /error: --pm-topic should be an SNS topic name/],
    ['a key and a role are given', [...ASKED, '--role'], /'--role' cannot be used with option '--access-key-id <id>'/],
    [
      'RabbitMQ is wanted, and nobody says where',
      [...ASKED, '--rabbitmq'],
      /--rabbitmq needs --from with the mongooseim\.toml/,
    ],
  ] as const)
    it(`init writes nothing if ${what}`, async (t) => {
      const { code, output } = await init(t, ...args);
      assert.equal(code, 2, output);
      assert.match(output, expected);
      assert.deepEqual(readdirSync(bench.folder), []);
    });

  it('init leaves no partial file if writing fails', async (t) => {
    await writeFile(at('file'), '');
    const { code, output } = await init(t, ...ASKED, '--overwrite', '--no-topics');
    assert.equal(code, 0, output);
    const elsewhere = await commandLine(
      t,
      'init',
      '--yes',
      ...[...bench.flags, ...ASKED].map((word) => word.replace('/pusher.toml', '/file/pusher.toml')),
    );
    assert.equal(elsewhere.code, 78, elsewhere.output);
    assert.match(elsewhere.output, /can't write \S+file\/environment: /);
  });

  it('init leaves no partial file on a full disk', async (t) => {
    // Room for one of the two files.
    await using disk = await mountSmallDisk('4k');
    const words = [...bench.flags, ...ASKED].map((word) => word.replace(bench.folder, disk.folder));
    const { code, output } = await commandLine(t, 'init', '--yes', ...words, '--no-topics');
    assert.equal(code, 78, output);
    assert.match(output, /can't write \S+\/pusher\.toml: ENOSPC/);
    assert.deepEqual(readdirSync(disk.folder), ['environment']);
  });
});

describe('init and odd files', () => {
  const bench = useInit();
  const { at, text, init, loaded } = bench;

  for (const name of ['pusher.toml', 'environment'])
    for (const overwrite of [[], ['--overwrite']])
      it(`init names a folder in the place of ${name} ${overwrite.join('')}`, async (t) => {
        mkdirSync(at(name));
        Object.assign(process.env, { AWS_REGION: 'eu-west-1' });
        const { code, output } = await init(t, ...ASKED, ...overwrite).finally(() => delete process.env.AWS_REGION);
        assert.equal(code, 78, output);
        assert.match(output, new RegExp(`^xmpp-event-pusher: can't read \\S+/${name}: EISDIR[^\n]*\n$`));
        assert.deepEqual(readdirSync(bench.folder), [name]);
      });

  it('init follows symbolic links, and keeps them', async (t) => {
    mkdirSync(at('real'));
    for (const name of ['pusher.toml', 'environment']) symlinkSync(`real/${name}`, at(name));
    await writeFile(at('real/pusher.toml'), '# by hand\n');
    const { code, output } = await init(t, ...ASKED, '--overwrite', '--no-topics');
    assert.equal(code, 1, output);
    assert.match(output, /; the old one is \S+\/real\/pusher\.toml\.old\n/);
    for (const name of ['pusher.toml', 'environment']) assert.ok(lstatSync(at(name)).isSymbolicLink(), name);
    assert.deepEqual(readdirSync(at('real')).toSorted(), ['environment', 'pusher.toml', 'pusher.toml.old']);
    assert.equal(text('real/pusher.toml.old'), '# by hand\n');
    assert.equal(loaded().sns?.account_id, ACCOUNT);
  });
});

describe('init on a terminal', () => {
  const bench = useInit();
  const { loaded } = bench;
  const onTerminal = (args: readonly string[], more: NodeJS.ProcessEnv = {}) => {
    const { AWS_SECRET_ACCESS_KEY: _, ...env } = process.env;
    const words = [process.execPath, BIN, ...args].map((word) => `'${word}'`);
    const options = { stdin: 'pipe' as const, env: { ...env, ...more } };
    return launch('script', ['-qefc', `exec ${words.join(' ')}`, '/dev/null'], options);
  };
  const start = (...args: string[]) => onTerminal(['init', ...bench.flags, ...args]);

  const seen = (screen: Process) => stripVTControlCharacters(screen.output()).replaceAll('\r', '');

  it('init asks, uses defaults for empty answers, and hides secrets', async () => {
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
    await answer(/\(no key\)\? \[y\/N\] $/, 'what?');
    await answer(/It should be y or n\.\n.*\(no key\)\? \[y\/N\] $/, 'No');
    await answer(/Access key id: $/, KEY);
    await answer(/not shown\): $/, AWS_SECRET);
    await answer(/Create the missing topics\? \[Y\/n\] $/, '');
    assert.equal(await screen.exited, 0, screen.output());
    assert.ok(!screen.output().includes(AWS_SECRET));
    assert.deepEqual([loaded().sns?.secret_access_key, loaded().sns?.pm_messages_topic], [AWS_SECRET, 'chats']);
  });

  it('init stops at Ctrl-C, and has written nothing', async () => {
    const screen = await start('--region', 'eu-west-1');
    await until('a question', () => /12 digits: $/.test(seen(screen)));
    screen.type('1234\x03');
    assert.equal(await screen.exited, 130, screen.output());
    assert.match(
      screen.output(),
      /Stopped\. The files written so far stay; continue with: xmpp-event-pusher init --config /,
    );
    assert.deepEqual(readdirSync(bench.folder), []);
  });

  it('init takes lines that were pasted before their questions, and shows no secret among them', async () => {
    const screen = await start();
    await until('a question', () => /eu-west-1: $/.test(seen(screen)));
    screen.type(['eu-west-1', ACCOUNT, '', 'chats', 'none', '', KEY, AWS_SECRET, '', ''].join('\r'));
    assert.equal(await screen.exited, 0, screen.output());
    assert.match(seen(screen), /12 digits: 0{12}\n.*\[user_presence_updated\]: \n.*: chats\n.*: none\n/);
    assert.ok(!screen.output().includes(AWS_SECRET), screen.output());
    assert.deepEqual([loaded().sns?.secret_access_key, loaded().sns?.pm_messages_topic], [AWS_SECRET, 'chats']);
  });

  it('init stops at Ctrl-C also while it waits for AWS', async () => {
    let requests = 0;
    const silent = http.createServer(() => {
      requests += 1;
    });
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const endpoint = ['--sns-host', `http://127.0.0.1:${port}`];
    const topics = ['--presence-topic', 'presence', '--pm-topic', 'none', '--muc-topic', 'none'];
    const words = ['init', ...without(bench.flags, '--sns-host'), ...endpoint, ...ASKED, ...topics];
    const screen = await onTerminal(words, { AWS_SECRET_ACCESS_KEY: AWS_SECRET });
    try {
      await until('a question', () => /missing topics\? \[Y\/n\] $/.test(seen(screen)) || !screen.running);
      screen.type('\r');
      await until('a request', () => requests > 0 || !screen.running);
      screen.type('\x03');
      assert.equal(await screen.exited, 130, screen.output());
      assert.match(seen(screen), /\nStopped\. The files written so far stay; continue with: xmpp-event-pusher init /);
    } finally {
      silent.closeAllConnections();
      silent.close();
    }
  });

  for (const [key, typed] of [
    ['Ctrl-C', '\x03'],
    ['Ctrl-D', '\x04'],
  ] as const)
    it(`topics create stops at ${key}, and makes no topic`, async (t) => {
      await bench.init(t, ...ASKED, '--presence-topic', 'never-made', '--no-topics');
      const screen = await onTerminal(['topics', 'create', '--config', bench.at('pusher.toml')]);
      await until('a question', () => /make \S+:never-made\? \[y\/N\] $/.test(seen(screen)) || !screen.running);
      screen.type(typed);
      assert.equal(await screen.exited, 130, screen.output());
      assert.match(seen(screen), /\nStopped\. Topics made so far stay\.\n$/);
      const { output } = await commandLine(t, 'check', '--config', bench.at('pusher.toml'));
      assert.match(output, /never-made/);
      assert.doesNotMatch(output, /never-made exists/);
    });
});
