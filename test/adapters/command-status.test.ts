/**
 * `adapter status` with a running daemon and fake servers made of files. Needs Prosody, which evaluates its
 * configuration.
 */
import assert from 'node:assert/strict';
import { chmod, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { ejabberd } from '../../src/cli/adapter/ejabberd/ejabberd.ts';
import { mongooseim } from '../../src/cli/adapter/mongooseim/mongooseim.ts';
import { prosody } from '../../src/cli/adapter/prosody/prosody.ts';
import type { AdapterServer } from '../../src/cli/adapter/server.ts';
import { adapterStatus, type Line } from '../../src/cli/adapter/status.ts';
import { knownTap } from '../../src/cli/adapter/tap.ts';
import { version } from '../../src/version.ts';
import { type Bench, createBench } from '../support/adapter-command.ts';
import { BIN, createDaemon, type Daemon, SECRET, TOPICS } from '../support/daemon.ts';
import { launch } from '../support/process.ts';
import { startSns } from '../support/sns.ts';

let daemon: Daemon;
const stack = new AsyncDisposableStack();
before(async () => {
  const sns = stack.use(await startSns(Object.values(TOPICS)));
  daemon = stack.use(await createDaemon(sns, { here: true }));
  await daemon.start();
});
after(() => stack.disposeAsync());

let bench: Bench;
beforeEach(async () => {
  bench = await createBench();
});
afterEach(() => bench[Symbol.asyncDispose]());

const inFolder = (...names: string[]) => path.join(bench.folder, ...names);
const configOf = (server: AdapterServer) => inFolder(server === prosody ? 'prosody.cfg.lua' : 'ejabberdctl.cfg');

async function status(server: AdapterServer, { known = true } = {}): Promise<string[]> {
  const lines: Line[] = [];
  const tap = known ? knownTap({ config: daemon.configFile }) : undefined;
  for await (const line of adapterStatus(server, { where: { serverConfig: configOf(server) }, tap })) lines.push(line);
  return lines.map(({ level, text }) => `${level} ${text}`);
}

const install = (server: AdapterServer) =>
  bench.install(server, { serverConfig: configOf(server), config: daemon.configFile });

/** Prosody's configuration with the lines that `install` prints for this url and secret. */
const prosodyWith = (url: string, secret: string, more = '') =>
  bench.prosodyConfig(
    `plugin_paths = { "${inFolder('modules')}" }\nmodules_enabled = { "saslauth"; "event_pusher" }\n${more}`,
    `VirtualHost "localhost"\nevent_pusher_url = "${url}"\nevent_pusher_secret = "${secret}"`,
  );

describe('adapter status prosody', () => {
  it('adapter status reports that all is well, and the backlog', async () => {
    await prosodyWith(daemon.tapUrl, SECRET);
    install(prosody);
    const at = Date.UTC(2026, 10, 29, 12);
    await bench.write('data/localhost/event_pusher/status', JSON.stringify({ waiting: 12, contact: at }));
    assert.deepEqual(await status(prosody), [
      `ok version ${version} in ${inFolder('modules/mod_event_pusher')}`,
      `ok localhost: posts to ${daemon.tapUrl} with the daemon's secret, set in ${inFolder('prosody.cfg.lua')}`,
      `ok ${inFolder('data/localhost/event_pusher')}: 12 events wait; the daemon last accepted events at 2026-11-29T12:00:00.000Z`,
      `ok ${daemon.tapUrl} accepts events with this secret`,
      'warn the daemon has not heard from prosody yet: it reports the first login. If nothing comes then, the server has not loaded the adapter: restart it, and read its log',
    ]);
  });

  it('adapter status names the file that sets the options, among those that Prosody reads', async () => {
    const options = (url: string) => `event_pusher_url = "${url}"\nevent_pusher_secret = "${SECRET}"`;
    await bench.write('conf.d/a.cfg.lua', `VirtualHost "a.example"\n${options(daemon.tapUrl)}`);
    await bench.write('conf.d/b.cfg.lua', `VirtualHost "b.example"\n-- event_pusher_url = "${daemon.tapUrl}"\n`);
    await bench.prosodyConfig(
      `modules_enabled = { "saslauth"; "event_pusher" }\n${options('http://127.0.0.1:1/all')}`,
      `VirtualHost 'c.example'\n${options('http://127.0.0.1:1/c')}\nInclude "conf.d/*.cfg.lua"`,
    );
    const said = await status(prosody, { known: false });
    const set = said.flatMap((line) => /^ok (\S+): posts to \S+, set in (.*)$/.exec(line)?.slice(1).join(' ') ?? []);
    assert.deepEqual(set, [
      `a.example ${inFolder('conf.d/a.cfg.lua')}`,
      `b.example ${inFolder('prosody.cfg.lua')}`,
      `c.example ${inFolder('prosody.cfg.lua')}`,
    ]);
  });

  it("adapter status reports the daemon's last contact and the missing events", async () => {
    await prosodyWith(daemon.tapUrl, SECRET);
    const event = { kind: 'presence', at: 1, host: 'localhost', jid: 'a@localhost/x', present: true };
    const batch = { source: 'prosody/localhost@here', epoch: 'e', events: [event] };
    await daemon.post({ ...batch, first_seq: 1 });
    assert.match(
      (await status(prosody)).at(-1) ?? '',
      /^ok the daemon last heard from prosody\/localhost@here at 20\S+Z$/,
    );
    await daemon.post({ ...batch, first_seq: 5 });
    assert.match(
      (await status(prosody)).at(-1) ?? '',
      /^warn .*Z; 3 events are missing, noticed at 20\S+Z; see its log, then `xmpp-event-pusher sources acknowledge prosody\/localhost@here --config \S+`$/,
    );
    await daemon.post({ ...batch, first_seq: 8 });
    assert.match(
      (await status(prosody)).at(-1) ?? '',
      /^warn .*Z; 2 holes in its numbers, the newest: 2 events are missing/,
    );
  });

  it('adapter status warns of a virtual host without the adapter', async () => {
    await bench.prosodyConfig(
      `plugin_paths = { "${inFolder('modules')}" }\nmodules_enabled = { "saslauth" }\n`,
      `VirtualHost "localhost"\nmodules_enabled = { "event_pusher" }\nevent_pusher_url = "${daemon.tapUrl}"\nevent_pusher_secret = "${SECRET}"\nVirtualHost "later.example"`,
    );
    assert.ok(
      (await status(prosody)).includes('warn later.example: not enabled, so nothing of this virtual host is published'),
    );
  });

  it('adapter status ignores an acknowledged hole', async () => {
    await prosodyWith(daemon.tapUrl, SECRET);
    const { output } = await daemon.command('sources', 'acknowledge', 'prosody/localhost@here');
    assert.match(output, /2 holes acknowledged/);
    assert.match(
      (await status(prosody)).at(-1) ?? '',
      /^ok the daemon last heard from prosody\/localhost@here at 20\S+Z$/,
    );
  });

  it('adapter status diagnoses: not installed, another secret, another url, nothing enabled', async () => {
    await prosodyWith(daemon.tapUrl, 'other');
    const other = await status(prosody);
    assert.equal(other[0], "fail not installed in the server's module folder");
    assert.ok(
      other.some((line) => /^fail localhost: has another secret than the daemon by .*pusher\.toml/.test(line)),
      other.join('\n'),
    );
    assert.ok(
      other.some((line) => /^fail .* rejects the secret/.test(line)),
      other.join('\n'),
    );
    assert.doesNotMatch(other.join('\n'), /\bother\b(?! secret)/, 'the secret is not shown');
    await prosodyWith(`${daemon.adminUrl}/v1/events`, SECRET);
    const admin = await status(prosody);
    assert.ok(
      admin.some((line) =>
        line.startsWith(
          `warn localhost: posts to ${daemon.adminUrl}/v1/events, but the daemon's tap is ${daemon.tapUrl}`,
        ),
      ),
    );
    assert.ok(
      admin.some((line) => line.endsWith(`is the daemon's admin address, not its tap: the tap is ${daemon.tapUrl}`)),
      admin.join('\n'),
    );
    await bench.prosodyConfig('');
    assert.ok((await status(prosody)).some((line) => /^fail no VirtualHost of .* has event_pusher/.test(line)));
  });

  it('adapter status names the loaded copy of two, with the release of each', async () => {
    await prosodyWith(daemon.tapUrl, SECRET, `installer_plugin_path = "${inFolder('data/custom_plugins')}"`);
    install(prosody);
    await bench.write('data/custom_plugins/mod_event_pusher.lua', '-- 0.1.0');
    await bench.write('modules/mod_event_pusher/mod_event_pusher.lua', '-- changed by hand');
    const [first, second] = await status(prosody);
    assert.equal(first, `ok version 0.1.0 in ${inFolder('data/custom_plugins/mod_event_pusher.lua')}`);
    assert.equal(
      second,
      `fail installed twice: also in ${inFolder('modules/mod_event_pusher')}, version ${version}, modified; remove one of them`,
    );
  });

  it('adapter status needs no configuration of the daemon: the tap verifies the secret', async () => {
    await prosodyWith(daemon.tapUrl, SECRET);
    install(prosody);
    assert.deepEqual((await status(prosody, { known: false })).slice(-1), [
      `ok ${daemon.tapUrl} accepts events with this secret`,
    ]);
    await prosodyWith(daemon.tapUrl, 'other');
    assert.match((await status(prosody, { known: false })).at(-1) ?? '', /^fail .* rejects the secret/);
  });

  it("adapter status reports the adapter's errors, and one that never ran", async () => {
    await prosodyWith(daemon.tapUrl, SECRET);
    const queue = 'data/localhost/event_pusher';
    await bench.write(`${queue}/status`, JSON.stringify({ waiting: 3, problem: 'status 401' }));
    const line = async () => (await status(prosody)).find((each) => each.includes(queue));
    assert.equal(
      await line(),
      `warn ${inFolder(queue)}: 3 events wait; the daemon has accepted none yet; the last attempt failed: status 401`,
    );
    for (const damaged of ['', '{"waiting":-1}', 'null', '{"wai']) {
      await bench.write(`${queue}/status`, damaged);
      assert.match((await line()) ?? '', /^warn .* the queue's length is unknown/);
    }
  });
});

describe('adapter status ejabberd', () => {
  it('adapter status reports that all is well for each queue', async () => {
    await bench.ejabberdConfig();
    install(ejabberd);
    await bench.write('ejabberd-modules/mod_event_pusher/ebin/mod_event_pusher.beam', '');
    for (const host of ['a.example', 'b.example'])
      await bench.write(`spool/event_pusher/${host}/status`, JSON.stringify({ waiting: 0 }));
    const options = inFolder('modules.d/mod_event_pusher.yml');
    assert.deepEqual((await status(ejabberd)).slice(0, 5), [
      `ok version ${version} in ${inFolder('ejabberd-modules/mod_event_pusher')}`,
      `ok all domains: posts to ${daemon.tapUrl} with the daemon's secret, set in ${options}`,
      `ok ${inFolder('spool/event_pusher/a.example')}: 0 events wait; the daemon has accepted none yet`,
      `ok ${inFolder('spool/event_pusher/b.example')}: 0 events wait; the daemon has accepted none yet`,
      `ok ${daemon.tapUrl} accepts events with this secret`,
    ]);
  });

  it('adapter status diagnoses: not compiled, an older version loaded, options twice, a beam elsewhere', async () => {
    await bench.ejabberdConfig();
    install(ejabberd);
    assert.ok(
      (await status(ejabberd)).includes('fail not loaded yet; run: ejabberdctl module_install mod_event_pusher'),
    );
    await bench.write('ejabberd-modules/mod_event_pusher/ebin/mod_event_pusher.beam', '');
    install(ejabberd);
    assert.ok(
      (await status(ejabberd)).some((line) =>
        line.startsWith('fail the source is newer than the module that ejabberd compiled'),
      ),
    );
    await mkdir(inFolder('own'));
    await bench.write('own/mod_event_pusher.beam', '');
    const config = await bench.ejabberdConfig(
      '  mod_event_pusher: {url: "http://127.0.0.1:5290/v1/events", secret: x}',
    );
    await bench.write('ejabberdctl.cfg', `. ${config}.debian\nERL_OPTIONS="-pa ${inFolder('own')}"\n`);
    await bench.write(
      'ejabberdctl.cfg.debian',
      `CONTRIB_MODULES_PATH=${inFolder('ejabberd-modules')}\nCONTRIB_MODULES_CONF_DIR=${inFolder('modules.d')}\nEJABBERD_CONFIG_PATH=${inFolder('ejabberd.yml')}\nSPOOL_DIR=${inFolder('spool')}\n`,
    );
    const lines = await status(ejabberd);
    assert.equal(lines[0], `ok version unknown in ${inFolder('own/mod_event_pusher.beam')}`);
    assert.match(lines[1] ?? '', /^fail installed twice: .*ejabberd-modules\/mod_event_pusher, version/);
    assert.ok(
      lines.some((line) => /^fail both \S+ejabberd\.yml and \S+modules\.d\S+ have the options/.test(line)),
      lines.join('\n'),
    );
  });
});

describe('the command adapter status', () => {
  it('adapter status says which file this user may not read, and to run it as root', async () => {
    await bench.ejabberdConfig();
    const toml = await bench.write('mongooseim.toml', '[general]\n');
    for (const file of [toml, inFolder('ejabberd.yml')]) await chmod(file, 0o000);
    const others: [AdapterServer, string][] = [
      [mongooseim, toml],
      [ejabberd, configOf(ejabberd)],
    ];
    const isRoot = process.geteuid?.() === 0;
    for (const [server, serverConfig] of others) {
      const lines = adapterStatus(server, { where: { serverConfig }, tap: undefined });
      // Nothing is too private for root.
      if (isRoot) process.seteuid?.(65_534);
      try {
        await assert.rejects(lines.next(), {
          code: 'ADAPTER_INSTALL',
          message: /^this user may not read \S+(mongooseim\.toml|ejabberd\.yml): run this as root$/,
        });
      } finally {
        if (isRoot) process.seteuid?.(0);
      }
    }
  });

  it('adapter status exits with 1 at a problem, and works without a configuration', async () => {
    await prosodyWith(daemon.tapUrl, SECRET);
    const run = () => bench.adapter(['status', 'prosody', '--server-config', inFolder('prosody.cfg.lua')]);
    const before = await run();
    assert.equal(before.code, 1);
    assert.match(before.output, /^FAIL {2}not installed/m);
    install(prosody);
    const { code, output } = await run();
    assert.equal(code, 0, output);
    assert.match(output, /^ok {4}http:\S+ accepts events with this secret$/m);
  });

  it('the last line of install is a complete status command, with the same daemon, server and folder', async () => {
    await bench.write('bin/xmpp-event-pusher', `#!/bin/sh\nexec ${process.execPath} ${BIN} "$@"\n`);
    await chmod(inFolder('bin/xmpp-event-pusher'), 0o755);
    await prosodyWith(daemon.tapUrl, SECRET);
    const where = ['--server-config', inFolder('prosody.cfg.lua')];
    for (const tap of [
      ['--config', daemon.configFile],
      ['--url', daemon.tapUrl, '--secret', SECRET],
    ]) {
      const installed = await bench.adapter(['install', 'prosody', ...where, ...tap]);
      assert.equal(installed.code, 0, installed.output);
      const line = installed.output.trimEnd().split('\n').at(-1) ?? '';
      const run = await launch('sh', ['-c', line], { env: { PATH: `${inFolder('bin')}:${process.env.PATH}` } });
      assert.equal(await run.exited, 0, `${line}\n${run.output()}`);
      assert.match(run.output(), /with the daemon's secret/);
    }
  });
});
