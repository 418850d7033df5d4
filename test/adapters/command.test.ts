/** `adapter install` and `adapter check`, as an operator runs them. Needs Prosody. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startCollector } from '../support/collector.ts';
import { BIN, createDaemon, type Daemon, SECRET, TOPICS } from '../support/daemon.ts';
import { freePorts, launch } from '../support/process.ts';
import { startProsody } from '../support/prosody.ts';
import { startSns } from '../support/sns.ts';
import { connect } from '../support/xmpp.ts';

const ADAPTERS = fileURLToPath(new URL('../../adapters', import.meta.url));
const digest = async (file: string) =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');

describe('adapter install', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'install-'));
    // Started by root, prosodyctl becomes the user "prosody" before it reads anything.
    await chmod(folder, 0o755);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  async function install(
    args: string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<{ code: number | null; output: string }> {
    const run = await launch(process.execPath, [BIN, 'adapter', 'install', ...args], {
      cwd: folder,
      env: { ...process.env, ...env },
    });
    return { code: await run.exited, output: run.output() };
  }

  /** A `prosodyctl` on the PATH that is the real one with a configuration of the test's. */
  async function prosodyctl(pluginPaths: string[]): Promise<NodeJS.ProcessEnv> {
    const bin = path.join(folder, 'bin');
    await mkdir(bin, { recursive: true });
    const config = path.join(bin, 'prosody.cfg.lua');
    const paths = pluginPaths.map((one) => JSON.stringify(one)).join('; ');
    await writeFile(config, `plugin_paths = { ${paths} }; data_path = "${folder}"\nVirtualHost "localhost"\n`);
    const script = path.join(bin, 'prosodyctl');
    await writeFile(script, `#!/bin/sh\nexec /usr/bin/prosodyctl --config ${config} "$@"\n`);
    await chmod(script, 0o755);
    return { PATH: `${bin}:${process.env.PATH}` };
  }

  it('asks Prosody where it looks, copies the module there and makes a secret', async () => {
    const missing = path.join(folder, 'not-there');
    const plugins = path.join(folder, 'plugins');
    await mkdir(plugins);
    await writeFile(path.join(plugins, 'mod_other.lua'), '-- somebody else');
    await writeFile(path.join(plugins, 'mod_event_pusher.lua'), '-- version 0.1.0');
    const env = await prosodyctl([missing, plugins]);
    const { code, output } = await install(['prosody'], env);
    assert.equal(code, 0, output);
    assert.deepEqual((await readdir(plugins)).toSorted(), ['mod_event_pusher', 'mod_other.lua']);
    assert.equal(
      await digest(path.join(plugins, 'mod_event_pusher/mod_event_pusher.lua')),
      await digest(path.join(ADAPTERS, 'prosody/mod_event_pusher/mod_event_pusher.lua')),
    );
    const secret = /event_pusher_secret = "([\w-]{32})"/.exec(output)?.[1];
    assert.ok(secret, output);
    assert.match(output, new RegExp(`\\[tap\\.http\\]\\n\\s+secret = "${secret}"`));
    assert.match(output, /event_pusher_url = "http:\/\/127\.0\.0\.1:5290\/v1\/events"/);
    assert.match(output, /modules_enabled = \{ "event_pusher" \}/);
  });

  /** A daemon's configuration, whose secret is `known`. */
  async function configuration(listen: string): Promise<string> {
    const file = path.join(folder, 'pusher.toml');
    await writeFile(
      file,
      `[modules.mod_event_pusher.sns]
       sns_host = "sns.eu-west-1.amazonaws.com"
       region = "eu-west-1"
       access_key_id = "a"
       secret_access_key = "b"
       account_id = "123456789012"
       [tap.http]
       listen = "${listen}"
       secret = "known"`,
    );
    return file;
  }

  it("uses the daemon's address and secret where there is a configuration", async () => {
    const file = await configuration('[::1]:6000');
    const { code, output } = await install(['prosody', '--to', 'mods', '--config', file]);
    assert.equal(code, 0, output);
    assert.match(output, /event_pusher_url = "http:\/\/\[::1\]:6000\/v1\/events"/);
    assert.match(output, /event_pusher_secret = "known"/);
    assert.match(output, /plugin_paths/);
    assert.doesNotMatch(output, /Write into .*pusher\.toml/);
  });

  it('prints all that Prosody has to be told', async () => {
    await using tap = await startCollector({ secret: 'known' });
    const file = await configuration(new URL(tap.url).host);
    const { output } = await install(['prosody', '--to', 'mods', '--config', file]);
    const printed = output.split('\n').filter((line) => /^ {2}\w+ = /.test(line));
    const isGlobal = (line: string) => line.includes('plugin_paths');
    await using server = await startProsody({
      url: '',
      adapter: false,
      globalSettings: printed.filter(isGlobal).join('\n'),
      settings: printed.filter((line) => !isGlobal(line)).join('\n'),
    });
    const alice = await connect(server, 'alice', 'phone');
    await alice.logout();
    await tap.wait('online and offline', () => tap.events.length === 2);
  });

  it('installs the package for ejabberdctl, with its options, and leaves them alone the next time', async () => {
    const first = await install(['ejabberd', '--to', 'modules']);
    assert.equal(first.code, 0, first.output);
    const target = path.join(folder, 'modules/sources/mod_event_pusher');
    assert.equal(
      await digest(path.join(target, 'src/mod_event_pusher.erl')),
      await digest(path.join(ADAPTERS, 'ejabberd/src/mod_event_pusher.erl')),
    );
    const conf = path.join(target, 'conf/mod_event_pusher.yml');
    const secret = /secret: "([\w-]{32})"/.exec(await readFile(conf, 'utf8'))?.[1];
    assert.ok(secret);
    assert.equal((await stat(conf)).mode & 0o777, 0o640);
    assert.match(first.output, /ejabberdctl module_install mod_event_pusher/);
    await writeFile(conf, `${await readFile(conf, 'utf8')}    queue_max: 5000\n`);
    const second = await install(['ejabberd', '--to', 'modules']);
    assert.equal(second.code, 0, second.output);
    assert.match(await readFile(conf, 'utf8'), /queue_max: 5000/);
    assert.match(second.output, new RegExp(`secret = "${secret}"`));
  });

  it('says what is missing when the server does not answer, or the folder can not be written', async () => {
    const nowhere = await install(['prosody'], { PATH: path.dirname(process.execPath) });
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.output, /"prosodyctl about" does not answer here: give .*--to/);
    await writeFile(path.join(folder, 'file'), '');
    const blocked = await install(['prosody', '--to', 'file/below']);
    assert.equal(blocked.code, 1);
    assert.match(blocked.output, /can't write file\/below/);
    assert.equal((await install(['mongooseim'])).code, 2);
  });
});

describe('adapter check', () => {
  let daemon: Daemon;
  const stack = new AsyncDisposableStack();
  before(async () => {
    const sns = stack.use(await startSns(Object.values(TOPICS)));
    daemon = stack.use(await createDaemon(sns));
    await daemon.start();
  });
  after(() => stack.disposeAsync());

  const check = (...args: string[]) => daemon.command('adapter', 'check', ...args);

  it('posts through the same address and secret, and leaves no trace', async () => {
    const { code, output } = await check();
    assert.equal(code, 0, output);
    assert.match(output, /^ok .*takes events with this secret\n$/);
    assert.doesNotMatch(await (await fetch(`${daemon.adminUrl}/metrics`)).text(), /adapter check/);
  });

  const cases: [name: string, args: () => Promise<string[]> | string[], expected: RegExp][] = [
    ['a wrong secret', () => ['--url', daemon.tapUrl, '--secret', 'wrong'], /refuses the secret/],
    [
      'a wrong path',
      () => ['--url', daemon.tapUrl.replace('v1', 'v2'), '--secret', SECRET],
      /the tap is at \/v1\/events/,
    ],
    [
      'https where http is spoken',
      () => ['--url', daemon.tapUrl.replace('http:', 'https:'), '--secret', SECRET],
      /does it speak http|EPROTO|packet length|wrong version/,
    ],
    [
      'nothing that listens',
      async () => ['--url', `http://127.0.0.1:${(await freePorts(1))[0]}/v1/events`],
      /nothing listens there/,
    ],
    ['a host that is not there', () => ['--url', 'http://no-such-host.invalid/v1/events'], /no such host/],
    ['no URL', () => ['--url', 'localhost'], /is no URL/],
  ];
  for (const [name, args, expected] of cases)
    it(`tells ${name}`, async () => {
      const { code, output } = await check(...(await args()));
      assert.equal(code, 1, output);
      assert.match(output, expected);
    });

  it('tells something else that answers there', async () => {
    const other = createServer((_, response) => response.end('<html>It works!</html>')).listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    const { code, output } = await check(
      '--url',
      `http://127.0.0.1:${(other.address() as AddressInfo).port}/v1/events`,
    );
    other.close();
    assert.equal(code, 1);
    assert.match(output, /not the tap of xmpp-event-pusher/);
  });
});
