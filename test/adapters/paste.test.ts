/**
 * The output of `adapter install`, pasted unchanged into Debian's own configuration files: both servers start, users
 * log in, and their events arrive. Needs Prosody and ejabberd.
 */
import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { queueStatus } from '../../src/cli/adapter/queue.ts';
import { type Collector, startCollector } from '../support/collector.ts';
import { commandLineWith } from '../support/command-line.ts';
import {
  type DebianEjabberd,
  type DebianProsody,
  type DebianServer,
  debianEjabberd,
  debianProsody,
} from '../support/debian.ts';
import { until } from '../support/process.ts';
import { connect } from '../support/xmpp.ts';

/** All characters that end a string or have a special meaning in Lua or YAML. */
const SECRET = `q"u'o\\t\\\\e %s %%d $HOME #{x} [[y]] -- @z: é`;

const adapter = (...args: string[]) =>
  commandLineWith({ ...process.env, EVENT_PUSHER_SECRET: SECRET }, 'adapter', ...args);

/** The lines to paste below a title. */
function printed(output: string, title: RegExp): string {
  const lines = output.split('\n');
  const at = lines.findIndex((line) => title.test(line));
  assert.notEqual(at, -1, output);
  const rest = lines.slice(at + 2);
  return rest.slice(0, rest.indexOf('')).join('\n');
}

/** Checks the adapter's status of its queue, while the daemon accepts events and while it is away. */
async function assertStatus(server: DebianServer, tap: Collector, folder: string): Promise<void> {
  const status = () => queueStatus(path.join(server.folder, folder));
  const before = tap.events.length;
  const alice = await connect(server, 'alice', 'desk');
  // The file is written later: what it says now may be of an earlier session.
  await tap.wait('online', () => tap.events.length > before);
  await until('what was delivered', () => status()?.waiting === 0 && status()?.contact !== undefined);
  assert.equal(status()?.problem, undefined);
  await tap.refuse();
  await alice.logout();
  await until('what waits, and why', () => status()?.waiting === 1 && status()?.problem !== undefined);
  await tap.listen();
  await until('that all is well again', () => status()?.waiting === 0 && status()?.problem === undefined);
  assert.doesNotMatch(await server.log(), /status\b.*left alone/);
}

describe("Debian's Prosody", () => {
  let server: DebianProsody;
  let tap: Collector;
  let output: string;
  const stack = new AsyncDisposableStack();
  before(async () => {
    tap = stack.use(await startCollector({ secret: SECRET }));
    const own = 'VirtualHost "own.example"\n\tmodules_enabled = { "mam" }\n\tallow_registration = false';
    server = stack.use(await debianProsody(`VirtualHost "example.org"\n${own}`));
    const folder = path.join(server.folder, `we're "50%" mods`);
    const args = ['--to', folder, '--server-config', server.serverConfig, '--url', tap.url];
    const installed = await adapter('install', 'prosody', ...args);
    assert.equal(installed.code, 0, installed.output);
    output = installed.output;
  });
  after(() => stack.disposeAsync());

  const edit = async (change: (text: string) => string) => {
    const text = await readFile(server.configFile, 'utf8');
    const changed = change(text);
    assert.notEqual(changed, text);
    await writeFile(server.configFile, changed);
  };

  /** Each domain's modules in the running server. */
  const modulesOf = (host: string) => server.shell('module', 'list', host);

  it('Prosody starts with the lines pasted at the end and into existing lists, and loads all its modules', async () => {
    const block = printed(output, /^Add at the end of /);
    assert.deepEqual(block.match(/VirtualHost "[^"]*"/g), [
      'VirtualHost "example.org"',
      'VirtualHost "localhost"',
      'VirtualHost "own.example"',
    ]);
    await edit((text) => {
      const pasted = `${text}\n${block}\n`.replace(
        'plugin_paths = {',
        `$&\n${printed(output, /entry of plugin_paths/)}`,
      );
      const list = printed(output, /entry of the modules_enabled of VirtualHost "own\.example"/);
      return pasted.replace('modules_enabled = { "mam"', `modules_enabled = {\n${list}\n "mam"`);
    });
    await server.start();
    const alice = await connect(server, 'alice', 'phone');
    await alice.logout();
    await tap.wait('online and offline', () => tap.events.length === 2);
    for (const host of ['localhost', 'example.org', 'own.example']) {
      const modules = await modulesOf(host);
      for (const name of ['event_pusher', 'saslauth', 'roster'])
        assert.match(modules, new RegExp(`\\b${name}\\b`), host);
    }
    assert.match(await modulesOf('own.example'), /\bmam\b/);
    assert.doesNotMatch(await server.log(), /error.*(event_pusher|custom_plugins)/);
    await server.stop();
  });

  it('a second install finds nothing to change, and the tap accepts the events', async () => {
    const where = ['--to', path.join(server.folder, `we're "50%" mods`), '--server-config', server.serverConfig];
    const again = await adapter('install', 'prosody', ...where, '--url', tap.url);
    assert.equal(again.code, 0, again.output);
    assert.match(again.output, /^Already configured: example\.org, localhost, own\.example$/m);
    assert.doesNotMatch(again.output, /^Add /m);
  });

  it('Prosody also starts with the lines pasted above the first VirtualHost', async () => {
    const block = printed(output, /^Add at the end of /);
    await edit((text) =>
      text.replace(`\n${block}\n`, '').replace('\nVirtualHost "localhost"\n', (found) => `\n${block}${found}`),
    );
    const before = tap.events.length;
    await server.start();
    const alice = await connect(server, 'alice', 'tablet');
    await alice.logout();
    await tap.wait('online and offline', () => tap.events.length === before + 2);
    assert.match(await modulesOf('example.org'), /\bevent_pusher\b/);
    await assertStatus(server, tap, 'data/localhost/event_pusher');
    await server.stop();
  });
});

describe("Debian's ejabberd", () => {
  let server: DebianEjabberd;
  let tap: Collector;
  const stack = new AsyncDisposableStack();
  before(async () => {
    tap = stack.use(await startCollector({ secret: SECRET }));
    server = stack.use(await debianEjabberd());
    await server.start();
  });
  after(() => stack.disposeAsync());

  const run = (command: string, ...args: string[]) =>
    adapter(command, 'ejabberd', '--server-config', server.serverConfig, ...args);
  const optionsFile = () => path.join(server.options, 'mod_event_pusher.yml');

  async function comesAndGoes(resource: string): Promise<void> {
    const before = tap.events.length;
    const alice = await connect(server, 'alice', resource);
    await alice.logout();
    await tap.wait('online and offline', () => tap.events.length === before + 2);
  }

  it('ejabberd loads the adapter with the options that install wrote', async () => {
    const { code, output } = await run('install', '--url', tap.url);
    assert.equal(code, 0, output);
    assert.match(output, /ejabberdctl module_install mod_event_pusher/);
    assert.equal(await server.api('module_install', { module: 'mod_event_pusher' }), 0);
    await comesAndGoes('phone');
  });

  it('writes the backlog to the status file', () => assertStatus(server, tap, 'mnesia/event_pusher/localhost'));

  it("runs every module's new version after an upgrade, and keeps a changed option, also at the next start", async () => {
    await writeFile(optionsFile(), `${await readFile(optionsFile(), 'utf8')}    queue_max: 4321\n`);
    const { code, output } = await run('install', '--url', tap.url);
    assert.equal(code, 0, output);
    const file = path.join(server.modules, 'sources/mod_event_pusher/src/event_pusher_log.erl');
    const source = await readFile(file, 'utf8');
    const changed = source.replace('"mod_event_pusher "', '"the new version "');
    assert.notEqual(changed, source);
    await writeFile(file, changed);
    await server.api('module_upgrade', { module: 'mod_event_pusher' });
    await tap.refuse();
    const before = tap.events.length;
    const alice = await connect(server, 'alice', 'watch');
    await until('a line of the new version', async () => /the new version .*can't deliver/.test(await server.log()));
    await tap.listen();
    await alice.logout();
    await tap.wait('online and offline', () => tap.events.length === before + 2);
    await server.stop();
    await server.start();
    await comesAndGoes('laptop');
    await server.api('dump_config', { out: path.join(server.folder, 'dump.yml') });
    assert.match(await readFile(path.join(server.folder, 'dump.yml'), 'utf8'), /queue_max: 4321/);
  });

  it('ejabberd starts without the adapter after uninstall', async () => {
    const { code, output } = await run('uninstall');
    assert.equal(code, 0, output);
    assert.match(output, /ejabberdctl reload_config/);
    await server.api('reload_config');
    assert.deepEqual(await readdir(server.options), []);
    const before = tap.events.length;
    await server.stop();
    await server.start();
    const alice = await connect(server, 'alice', 'phone');
    await alice.logout();
    await until('the log of the second login', async () =>
      /Opened c2s session for alice@localhost\/phone/.test(await server.log()),
    );
    assert.equal(tap.events.length, before);
  });
});
