/** `adapter install` and `uninstall` as an operator runs them. Needs Prosody, which evaluates its own configuration. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse as parseToml } from 'smol-toml';
import { controlLine, findControl } from '../../src/cli/adapter/ejabberd/control.ts';
import { ejabberd } from '../../src/cli/adapter/ejabberd/ejabberd.ts';
import { prosody } from '../../src/cli/adapter/prosody/prosody.ts';
import type { TapOptions } from '../../src/cli/adapter/tap.ts';
import { version } from '../../src/version.ts';
import { type Bench, createBench } from '../support/adapter-command.ts';
import { BIN } from '../support/daemon.ts';
import { launch } from '../support/process.ts';
import { mountSmallDisk } from '../support/tmpfs.ts';

const ADAPTERS = fileURLToPath(new URL('../../adapters', import.meta.url));
const PROSODY = path.join(ADAPTERS, 'prosody/mod_event_pusher');
const EJABBERD = path.join(ADAPTERS, 'ejabberd');

let bench: Bench;
beforeEach(async () => {
  bench = await createBench();
});
afterEach(() => bench[Symbol.asyncDispose]());

const inFolder = (...names: string[]) => path.join(bench.folder, ...names);
const filesIn = async (folder: string) =>
  (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .toSorted();

/** Checks that a folder has every file of another one, the named further files, and no others. */
async function assertCopied(from: string, to: string, { without = /^$/, more = ['VERSION'] } = {}): Promise<void> {
  const expected = (await filesIn(from)).filter((name) => !without.test(name));
  assert.deepEqual(await filesIn(to), [...expected, ...more].toSorted());
  for (const name of expected)
    assert.deepEqual(await readFile(path.join(to, name)), await readFile(path.join(from, name)), name);
}

describe('adapter install prosody', () => {
  const pluginPaths = (...folders: string[]) =>
    `plugin_paths = { ${folders.map((each) => `"${inFolder(each)}"`).join('; ')} }`;
  const serverConfig = () => inFolder('prosody.cfg.lua');
  const install = (to?: string) =>
    bench.install(prosody, { serverConfig: serverConfig(), ...(to !== undefined && { to: inFolder(to) }) });
  beforeEach(() => bench.daemonConfig('secret = "known"'));

  it("install copies the whole folder to the administrator's modules, creating it if necessary, not to the installer's", async () => {
    await bench.prosodyConfig(pluginPaths('data/custom_plugins', 'local/modules'));
    await mkdir(inFolder('data/custom_plugins'), { recursive: true });
    const { code, output } = install();
    assert.equal(code, 0, output);
    await assertCopied(PROSODY, inFolder('local/modules/mod_event_pusher'));
    assert.deepEqual(await readdir(inFolder('data/custom_plugins')), []);
    assert.doesNotMatch(output, /plugin_paths/);
  });

  it('install prefers an existing folder', async () => {
    await bench.prosodyConfig(pluginPaths('missing', 'there'));
    await bench.write('there/mod_other.lua', '-- somebody else');
    install();
    assert.deepEqual((await readdir(inFolder('there'))).toSorted(), ['mod_event_pusher', 'mod_other.lua']);
  });

  it('install replaces an older adapter completely, including the single file of 0.1.0', async () => {
    await bench.prosodyConfig(pluginPaths('first', 'second'));
    await mkdir(inFolder('first'));
    await bench.write('second/mod_event_pusher.lua', '-- 0.1.0');
    await bench.write('second/mod_event_pusher/gone.lib.lua', '-- a file that the new one does not have');
    const { code, output } = install();
    assert.equal(code, 0, output);
    assert.deepEqual(await readdir(inFolder('second')), ['mod_event_pusher']);
    await assertCopied(PROSODY, inFolder('second/mod_event_pusher'));
    assert.equal(await readFile(inFolder('second/mod_event_pusher/VERSION'), 'utf8'), `${version}\n`);
  });

  it('install makes the files readable for the server, whatever the umask', async () => {
    await bench.prosodyConfig(pluginPaths('local/modules'));
    const command = [process.execPath, BIN, 'adapter', 'install', 'prosody', '--server-config', serverConfig()];
    const shell = await launch('sh', ['-c', 'umask 077; exec "$@"', 'sh', ...command], { cwd: bench.folder });
    assert.equal(await shell.exited, 0, shell.output());
    for (const name of ['local', 'local/modules', 'local/modules/mod_event_pusher'])
      assert.equal((await stat(inFolder(name))).mode & 0o005, 0o005, name);
    assert.equal((await stat(inFolder('local/modules/mod_event_pusher/mod_event_pusher.lua'))).mode & 0o004, 0o004);
  });

  it("install prints a block for each virtual host, and an entry for a host's own list", async () => {
    await bench.write('conf.d/more.cfg.lua', 'VirtualHost "included.example"\n');
    const hosts = [
      'VirtualHost "localhost"',
      'VirtualHost "own.example"',
      '  modules_enabled = { "mam" }',
      'VirtualHost "off.example"',
      '  enabled = false',
      'Component "rooms.example" "muc"',
      'Include "conf.d/*.cfg.lua"',
    ];
    await bench.prosodyConfig(pluginPaths('modules'), hosts.join('\n'));
    const { code, output } = install();
    assert.equal(code, 0, output);
    const blocks = output.split(/^(?= {2}VirtualHost)/m).slice(1);
    assert.deepEqual(
      blocks.map((block) => [/"([^"]*)"/.exec(block)?.[1], block.includes('modules_enabled = { "event_pusher" };')]),
      [
        ['included.example', true],
        ['localhost', true],
        ['own.example', false],
      ],
    );
    assert.match(output, /first entry of the modules_enabled of VirtualHost "own\.example":\n\n {2}"event_pusher";\n/);
    for (const host of ['included.example', 'localhost', 'own.example'])
      assert.match(output, new RegExp(`module load event_pusher ${host}\n`));
    assert.match(output, /event_pusher_url = "http:\/\/127\.0\.0\.1:5290\/v1\/events";\n/);
    assert.match(output, /event_pusher_secret = "known";\n/);
  });

  it("install names the host whose url or secret differs from the daemon's, and the right value", async () => {
    const url = 'event_pusher_url = "http://127.0.0.1:5290/v1/events"';
    const hosts = [
      `VirtualHost "right.example"\n${url}\nevent_pusher_secret = "known"`,
      `VirtualHost "secret.example"\n${url}\nevent_pusher_secret = "other"`,
      'VirtualHost "bare.example"',
    ];
    await bench.prosodyConfig(
      `${pluginPaths('modules')}\nmodules_enabled = { "saslauth"; "event_pusher" }`,
      hosts.join('\n'),
    );
    const { code, output } = install();
    assert.equal(code, 1);
    assert.match(output, /WRONG: for secret\.example, event_pusher_secret is not the daemon's/);
    assert.match(output, /WRONG: for bare\.example, event_pusher_url is not set, and event_pusher_secret is not set/);
    assert.match(output, /Already configured: right\.example\n/);
    assert.doesNotMatch(output, /^Add /m);
    assert.doesNotMatch(output, /other/);
  });

  it('install notices a list of modules overridden by one with the adapter alone', async () => {
    const list = 'modules_enabled = { "saslauth"; "roster" }';
    await bench.prosodyConfig(`${pluginPaths('modules')}\n${list}\nmodules_enabled = { "event_pusher" }`);
    const { code, output } = install();
    assert.equal(code, 1);
    assert.match(output, /WRONG: nobody can log in to localhost, .* second modules_enabled .* replaces the first/);
  });

  it('install names a second copy that Prosody could load', async () => {
    await bench.prosodyConfig(pluginPaths('modules', 'data/custom_plugins'));
    await bench.write('data/custom_plugins/mod_event_pusher.lua', '-- 0.1.0');
    const { code, output } = install();
    assert.equal(code, 1);
    assert.match(output, /WRONG: there is another copy .* rm -r \S+custom_plugins\/mod_event_pusher\.lua\n/);
  });

  it('install never touches the package itself, even if plugin_paths points to it', async () => {
    await bench.prosodyConfig(pluginPaths('link', 'modules'));
    await symlink(path.join(ADAPTERS, 'prosody'), inFolder('link'));
    const installed = install();
    assert.match(installed.output, /WRONG: .* Remove \S+link from plugin_paths\./);
    bench.uninstall(prosody, { serverConfig: serverConfig() });
    assert.ok(existsSync(path.join(PROSODY, 'mod_event_pusher.lua')));
    assert.deepEqual(await readdir(inFolder('modules')), []);
  });

  it('install creates a folder if none is configured, and prints plugin_paths for it', async () => {
    await bench.prosodyConfig('');
    const { code, output } = install('mods');
    assert.equal(code, 0, output);
    assert.match(
      output,
      new RegExp(`above the first VirtualHost .*:\n\n {2}plugin_paths = \\{ "${inFolder('mods')}" \\}\n`),
    );
    await bench.prosodyConfig(pluginPaths('modules'));
    const second = install('mods');
    assert.match(second.output, new RegExp(`first entry of plugin_paths .*:\n\n {2}"${inFolder('mods')}";\n`));
    assert.match(second.output, /Then restart Prosody, which reads plugin_paths only at its start/);
  });

  it('install reports what is missing: prosodyctl, a readable configuration, a writable folder', async () => {
    const nowhere = await bench.adapter(['install', 'prosody'], { PATH: path.dirname(process.execPath) });
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.output, /prosodyctl is not on the PATH: .*--to/);
    await bench.prosodyConfig('plugin_paths = {{{');
    const broken = install();
    assert.equal(broken.code, 1);
    assert.match(broken.output, /can't read .*prosody\.cfg\.lua.*:\n[\s\S]*prosody\.cfg\.lua:\d+: /);
    await bench.prosodyConfig(pluginPaths('modules'));
    await bench.write('file', '');
    const blocked = install('file/below');
    assert.equal(blocked.code, 1);
    assert.match(blocked.output, /can't write .*file\/below/);
    const unknown = await bench.adapter(['install', 'openfire']);
    assert.equal(unknown.code, 2);
  });

  it('install leaves no partial copy on a full disk', async () => {
    await bench.prosodyConfig(pluginPaths('modules'));
    await using disk = await mountSmallDisk('16k');
    const { code, output } = bench.install(prosody, { serverConfig: serverConfig(), to: disk.folder });
    assert.equal(code, 1);
    assert.match(output, /can't write .*mod_event_pusher: ENOSPC/);
    assert.deepEqual(await readdir(disk.folder), []);
  });

  it('install with a given folder needs no Prosody', async () => {
    const { code, output } = await bench.adapter(['install', 'prosody', '--to', 'mods'], {
      PATH: path.dirname(process.execPath),
    });
    assert.equal(code, 0, output);
    assert.match(output, /VirtualHost "DOMAIN" \{/);
    await assertCopied(PROSODY, inFolder('mods/mod_event_pusher'));
  });

  it("install refuses the package's own folder", () => {
    const { code, output } = bench.install(prosody, { to: path.join(ADAPTERS, 'prosody') });
    assert.equal(code, 1);
    assert.match(output, /is this package's own/);
  });
});

describe("ejabberd's command", () => {
  it("is named by its path if it isn't on the PATH: the latest release's", async () => {
    for (const release of ['23.10', '24.12']) await bench.write(`opt/ejabberd-${release}/bin/ejabberdctl`, '');
    const installed = inFolder('opt/ejabberd*/bin/ejabberdctl');
    const { PATH } = process.env;
    process.env.PATH = inFolder('opt/ejabberd-23.10/bin');
    try {
      assert.equal(controlLine('status', installed), 'ejabberdctl status');
      process.env.PATH = inFolder('nowhere');
      assert.equal(controlLine('status', installed), `${inFolder('opt/ejabberd-24.12/bin/ejabberdctl')} status`);
      assert.equal(findControl(inFolder('none')), undefined);
    } finally {
      process.env.PATH = PATH;
    }
  });
});

describe('adapter install prosody --configure', () => {
  it('install keeps its file of options if Prosody can not be asked again', async () => {
    const include = 'VirtualHost "localhost"\nInclude "conf.d/*.cfg.lua"';
    await mkdir(inFolder('conf.d'));
    const config = await bench.prosodyConfig('modules_enabled = { "saslauth" }', include);
    const install = (env: NodeJS.ProcessEnv = {}) =>
      bench.adapter(
        [
          ...['install', 'prosody', '--configure', '--server-config', config, '--to', inFolder('modules')],
          ...['--url', 'http://127.0.0.1:1/v1/events', '--secret', 'known'],
        ],
        env,
      );
    assert.equal((await install()).code, 0);
    const options = await readFile(inFolder('conf.d/xmpp-event-pusher.cfg.lua'), 'utf8');
    // Answers once, and fails then.
    const script = `#!/bin/sh\nif [ -e ${inFolder('asked')} ]; then echo broken; exit 1; fi\n: >${inFolder('asked')}\nPATH=\${PATH#*:} exec prosodyctl "$@"\n`;
    await chmod(await bench.write('bin/prosodyctl', script), 0o755);
    const { output } = await install({ PATH: `${inFolder('bin')}:${process.env.PATH}` });
    assert.match(output, /Already configured: localhost\n/);
    assert.equal(await readFile(inFolder('conf.d/xmpp-event-pusher.cfg.lua'), 'utf8'), options);
    assert.deepEqual(await readdir(inFolder('conf.d')), ['xmpp-event-pusher.cfg.lua']);
  });
});

describe('adapter uninstall prosody', () => {
  it('uninstall deletes every copy, and names the lines to remove from the configuration', async () => {
    const hosts = 'VirtualHost "localhost"\nVirtualHost "example.org"\nmodules_enabled = { "event_pusher" }';
    const config = await bench.prosodyConfig(`plugin_paths = { "${inFolder('one')}", "${inFolder('two')}" }`, hosts);
    await bench.write('one/mod_event_pusher/mod_event_pusher.lua', '--');
    await bench.write('two/mod_event_pusher.lua', '--');
    await bench.write('two/mod_other.lua', '--');
    await bench.write('data/localhost/event_pusher/position', 'queue');
    const { code, output } = bench.uninstall(prosody, { serverConfig: config });
    assert.equal(code, 0, output);
    assert.deepEqual(await readdir(inFolder('one')), []);
    assert.deepEqual(await readdir(inFolder('two')), ['mod_other.lua']);
    assert.ok(existsSync(inFolder('data/localhost/event_pusher/position')));
    assert.match(output, /Delete from .*prosody\.cfg\.lua, for example\.org, /);
    assert.match(output, /module unload event_pusher example\.org\n/);
    const again = bench.uninstall(prosody, { serverConfig: config });
    assert.match(again.output, /There was nothing to remove/);
  });

  it('uninstall names no line to remove where install wrote them all, and names the file of the others', async () => {
    const include = 'VirtualHost "localhost"\nInclude "conf.d/*.cfg.lua"';
    await mkdir(inFolder('conf.d'));
    const config = await bench.prosodyConfig('modules_enabled = { "saslauth" }', include);
    const where = { serverConfig: config, to: inFolder('modules') };
    const configured = await bench.adapter([
      ...['install', 'prosody', '--configure', '--server-config', config, '--to', where.to],
      ...['--url', 'http://127.0.0.1:1/v1/events', '--secret', 'known'],
    ]);
    assert.equal(configured.code, 0, configured.output);
    const again = bench.install(prosody, {
      ...where,
      configure: true,
      secret: 'new',
      url: 'http://127.0.0.1:1/v1/events',
    });
    assert.match(again.output, /module reload event_pusher localhost\n|restart Prosody, which reads plugin_paths/);
    assert.doesNotMatch(again.output, /module load/);
    const all = bench.uninstall(prosody, where);
    assert.match(all.output, /Removed .*\/conf\.d\/xmpp-event-pusher\.cfg\.lua\n/);
    assert.doesNotMatch(all.output, /Delete from/);
    assert.match(all.output, /module unload event_pusher localhost\n/);
    await bench.write('conf.d/own.cfg.lua', 'VirtualHost "own.example"\nmodules_enabled = { "event_pusher" }');
    const others = bench.uninstall(prosody, where);
    assert.match(others.output, /Delete from \S+\/conf\.d\/own\.cfg\.lua, for own\.example, /);
  });
});

describe('the secret that adapter install hands out', () => {
  beforeEach(() => bench.prosodyConfig(`plugin_paths = { "${inFolder('modules')}" }`));
  const install = (options: Partial<TapOptions> = {}) =>
    bench.install(prosody, { serverConfig: inFolder('prosody.cfg.lua'), ...options });

  it('install omits a secret whose variable is not set, and explains how to set it', async () => {
    await bench.daemonConfig('secret = "${TAP_SECRET}"');
    const unset = install();
    assert.equal(unset.code, 1);
    assert.match(unset.output, /\$\{TAP_SECRET\}, which is not set/);
    assert.match(unset.output, /\S+environment can also set variables, as NAME=value/);
    assert.ok(!existsSync(inFolder('modules')), 'nothing is installed');
    process.env.TAP_SECRET = 'from the environment';
    const set = install();
    delete process.env.TAP_SECRET;
    assert.equal(set.code, 0, set.output);
    assert.match(set.output, /event_pusher_secret = "from the environment"/);
  });

  it("install uses the daemon's secret despite mistakes in other sections of the configuration", async () => {
    await bench.write(
      'pusher.toml',
      '[tap.http]\nlisten = "[::1]:6000"\nsecret = "known"\n[outbox]\npath = "${UNSET}"\n',
    );
    const { code, output } = install();
    assert.equal(code, 0, output);
    assert.match(output, /event_pusher_url = "http:\/\/\[::1\]:6000\/v1\/events"/);
    assert.match(output, /event_pusher_secret = "known"/);
  });

  const refusals: [
    name: string,
    prepare: () => Promise<unknown> | undefined,
    options: Partial<TapOptions>,
    expected: RegExp,
  ][] = [
    ['no configuration', () => undefined, {}, /no \S+pusher\.toml here: .*--config.*--url and --secret/],
    ['another configuration that is not there', () => undefined, { config: 'x.toml' }, /no x\.toml here/],
    ['no TOML', () => bench.write('pusher.toml', 'secret'), {}, /pusher\.toml:1:\d+: not valid TOML/],
    [
      'a mistake in the section',
      () => bench.daemonConfig('secrte = "x"'),
      {},
      /tap\.http\.secrte is not a known option/,
    ],
    [
      'a URL without a secret',
      () => undefined,
      { url: 'http://tap.example:5290/v1/events' },
      /--secret or EVENT_PUSHER_SECRET/,
    ],
    [
      'something that is no URL',
      () => undefined,
      { url: 'tap.example', secret: 'x' },
      /tap\.example is not the URL of a tap/,
    ],
    [
      "another secret than the configuration's",
      () => bench.daemonConfig('secret = "known"'),
      { secret: 'x' },
      /--secret .* is not the tap\.http\.secret of \S+pusher\.toml/,
    ],
  ];
  for (const [name, prepare, options, expected] of refusals)
    it(`install refuses a secret: ${name}`, async () => {
      await prepare();
      const { code, output } = install(options);
      assert.equal(code, 1, output);
      assert.match(output, expected);
      assert.ok(!existsSync(inFolder('modules')), 'nothing is installed');
    });

  it('install uses a given secret for a remote daemon, also from the environment', async () => {
    for (const [args, env] of [
      [['--secret', "its 'secret'"], {}],
      [[], { EVENT_PUSHER_SECRET: "its 'secret'" }],
    ] as const) {
      const url = ['--url', 'https://tap.example:5290/v1/events', '--server-config', inFolder('prosody.cfg.lua')];
      const { code, output } = await bench.adapter(['install', 'prosody', ...url, ...args], env);
      assert.equal(code, 0, output);
      assert.match(output, /event_pusher_url = "https:\/\/tap\.example:5290\/v1\/events"/);
      assert.match(output, /event_pusher_secret = "its 'secret'"/);
      const [line = ''] = output.split('\n').filter((each) => each.includes('adapter status'));
      assert.equal(
        line.trim(),
        `EVENT_PUSHER_SECRET='its '\\''secret'\\''' xmpp-event-pusher adapter status prosody --url https://tap.example:5290/v1/events --server-config ${inFolder('prosody.cfg.lua')}`,
      );
    }
  });

  for (const [name, text, title] of [
    ['has no section', '[log]\n', /^Add at the end of \S+pusher\.toml/m],
    [
      'has the section',
      '[tap.http]\nlisten = "127.0.0.1:6001"\n[log]\n',
      /^Add directly below the line \[tap\.http\] of \S+pusher\.toml/m,
    ],
  ] as const)
    it(`install creates a secret, and prints it for pasting, if the daemon has none and ${name}`, async () => {
      await bench.write('pusher.toml', text);
      const { code, output } = install();
      assert.equal(code, 0, output);
      const secret = /event_pusher_secret = "([\w-]{32})"/.exec(output)?.[1];
      assert.ok(secret, output);
      const lines = output.slice(output.search(title)).split('\n').slice(2);
      const pasted = lines.slice(0, lines.indexOf('')).join('\n');
      const whole =
        name === 'has no section' ? `${text}${pasted}\n` : text.replace('[tap.http]\n', `[tap.http]\n${pasted}\n`);
      assert.equal((parseToml(whole) as { tap: { http: { secret: string } } }).tap.http.secret, secret);
    });

  it("install reuses an existing adapter's secret if the daemon has none, and prints it in TOML", async () => {
    await bench.prosodyConfig(
      `plugin_paths = { "${inFolder('modules')}" }\nmodules_enabled = { "event_pusher" }\nevent_pusher_secret = "a\\"b\${c}"`,
    );
    await bench.daemonConfig('');
    const { output } = install();
    assert.match(output, / secret = "a\\"b\$\$\{c\}"\n/);
  });
});

describe('adapter install ejabberd', () => {
  const serverConfig = () => inFolder('ejabberdctl.cfg');
  const install = () => bench.install(ejabberd, { serverConfig: serverConfig() });
  const source = () => inFolder('ejabberd-modules/sources/mod_event_pusher');
  const options = () => inFolder('modules.d/mod_event_pusher.yml');
  const EXPECTED = 'modules:\n  mod_event_pusher:\n    url: "http://127.0.0.1:5290/v1/events"\n    secret: "known"\n';
  beforeEach(() => bench.daemonConfig('secret = "known"'));

  it("install copies the package without its example, and writes the options to Debian's modules.d", async () => {
    await bench.ejabberdConfig();
    const { code, output } = install();
    assert.equal(code, 0, output);
    await assertCopied(EJABBERD, source(), { without: /^conf\// });
    assert.equal(await readFile(options(), 'utf8'), EXPECTED);
    assert.equal((await stat(options())).mode & 0o777, 0o640);
    assert.match(output, new RegExp(`Its live options are in ${options()}, for all domains\\.\n`));
    assert.match(output, /ejabberdctl module_install mod_event_pusher\n/);
  });

  it('install keeps existing options, and compares them', async () => {
    await bench.ejabberdConfig();
    const own = EXPECTED.replace('"known"', "'other' # mine").concat('    queue_max: 5000\n');
    await writeFile(options(), own);
    const { code, output } = install();
    assert.equal(code, 1);
    assert.equal(await readFile(options(), 'utf8'), own);
    assert.match(output, /WRONG: the secret is not the daemon's\. Correct it in \S+modules\.d\/mod_event_pusher\.yml/);
    assert.match(output, /\n {4}secret: "known"\n/);
    await writeFile(options(), own.replace("'other'", "'known'"));
    assert.equal(install().code, 0);
  });

  it('install --configure gives existing options the new secret, and keeps the others', async () => {
    await bench.ejabberdConfig();
    await bench.write('ejabberd-modules/mod_event_pusher/ebin/mod_event_pusher.beam', '');
    const own = `# mine\n${EXPECTED.replace('"known"', "'other' # $&")}    queue_max: 5000\n`;
    await writeFile(options(), own);
    const configure = () => bench.install(ejabberd, { serverConfig: serverConfig(), configure: true });
    const { code, output } = configure();
    assert.equal(code, 0, output);
    assert.equal(await readFile(options(), 'utf8'), `# mine\n${EXPECTED}    queue_max: 5000\n`);
    assert.match(output, /live options, with the daemon's url and secret, are in \S+modules\.d\/mod_event_pusher\.yml/);
    const twice = `${own}append_host_config:\n  a.example:\n    ${own.replaceAll('\n', '\n    ')}`;
    await writeFile(options(), twice);
    assert.match(configure().output, /WRONG: the secret is not the daemon's\. Correct it/);
    assert.equal(await readFile(options(), 'utf8'), twice);
  });

  for (const place of ['ejabberd-modules/mod_event_pusher/conf', 'ejabberd-modules/sources/mod_event_pusher/conf'])
    it(`install takes over 0.1.0's options from ${place}, where an upgrade would overwrite them`, async () => {
      await bench.ejabberdConfig();
      const own = `${EXPECTED}    queue_max: 5000\n`;
      await bench.write(`${place}/mod_event_pusher.yml`, own);
      const { code, output } = install();
      assert.equal(code, 0, output);
      assert.equal(await readFile(options(), 'utf8'), own);
      assert.ok(!existsSync(inFolder(place, 'mod_event_pusher.yml')));
    });

  const written: [name: string, modules: string, rest: string][] = [
    ['below modules', '  mod_event_pusher:\n    url: http://127.0.0.1:5290/v1/events\n    secret: known', ''],
    ['in flow style', '  mod_event_pusher: {url: "http://127.0.0.1:5290/v1/events", secret: known}', ''],
    ['in an included file', '', 'include_config_file: more.yml'],
    ['for one domain', '', `append_host_config:\n  localhost:\n    ${EXPECTED.replaceAll('\n', '\n    ')}`],
  ];
  for (const [name, modules, rest] of written)
    it(`install finds options in ejabberd.yml ${name}, and writes no others`, async () => {
      await bench.ejabberdConfig(modules, rest);
      await bench.write('more.yml', EXPECTED);
      const { code, output } = install();
      assert.equal(code, 0, output);
      assert.match(
        output,
        new RegExp(`Its live options are in ${inFolder(name.includes('included') ? 'more.yml' : 'ejabberd.yml')}\\.\n`),
      );
      assert.deepEqual(await readdir(inFolder('modules.d')), []);
      assert.ok(!existsSync(path.join(source(), 'conf')));
      await bench.daemonConfig('secret = "new"');
      const second = install();
      assert.equal(second.code, 1);
      assert.match(second.output, /WRONG: the secret.* is not the daemon's/);
    });

  it('install reports options in both places, with which ejabberd does not start', async () => {
    await bench.ejabberdConfig('  mod_event_pusher: {url: "http://127.0.0.1:5290/v1/events", secret: known}');
    await writeFile(options(), EXPECTED);
    const { code, output } = install();
    assert.equal(code, 1);
    assert.match(
      output,
      /WRONG: both \S+ejabberd\.yml and \S+modules\.d\S+ have the options, so ejabberd does not start/,
    );
  });

  it("install keeps the options with the module if ejabberd can't be asked", async () => {
    const to = () => bench.install(ejabberd, { to: inFolder('elsewhere') });
    const { code, output } = to();
    assert.equal(code, 0, output);
    const file = inFolder('elsewhere/sources/mod_event_pusher/conf/mod_event_pusher.yml');
    assert.equal(await readFile(file, 'utf8'), EXPECTED);
    assert.match(output, new RegExp(`CONTRIB_MODULES_PATH=${inFolder('elsewhere')}\n`));
    await writeFile(file, `${EXPECTED}    queue_max: 5000\n`);
    assert.equal(to().code, 0);
    assert.match(await readFile(file, 'utf8'), /queue_max: 5000/);
  });

  it('install prints module_upgrade if ejabberd has compiled the module', async () => {
    await bench.ejabberdConfig();
    await bench.write('ejabberd-modules/mod_event_pusher/ebin/mod_event_pusher.beam', '');
    assert.match(install().output, /ejabberdctl module_upgrade mod_event_pusher\n/);
  });

  it("install diagnoses a configuration that it can't read", async () => {
    await bench.ejabberdConfig('  mod_event_pusher: [');
    const { code, output } = install();
    assert.equal(code, 1);
    assert.match(output, /ejabberd\.yml is not valid YAML: .*line \d+/);
    const nowhere = bench.install(ejabberd, { serverConfig: 'nowhere' });
    assert.match(nowhere.output, /there is no nowhere/);
  });

  it('uninstall deletes nothing while ejabberd.yml needs it, then everything but the queue', async () => {
    await bench.ejabberdConfig('  mod_event_pusher: {url: "http://127.0.0.1:5290/v1/events", secret: known}');
    install();
    const uninstall = () => bench.uninstall(ejabberd, { serverConfig: serverConfig() });
    const refused = uninstall();
    assert.equal(refused.code, 1);
    assert.match(refused.output, /Nothing removed yet: .*ejabberd\.yml/);
    assert.ok(existsSync(source()));
    await bench.ejabberdConfig();
    install();
    await cp(path.join(EJABBERD, 'src'), inFolder('ejabberd-modules/mod_event_pusher/ebin'), { recursive: true });
    await bench.write('spool/event_pusher/localhost/0000000001.seg', '');
    const done = uninstall();
    assert.equal(done.code, 0, done.output);
    assert.deepEqual(await filesIn(inFolder('ejabberd-modules')), []);
    assert.deepEqual(await readdir(inFolder('modules.d')), []);
    assert.ok(existsSync(inFolder('spool/event_pusher/localhost/0000000001.seg')));
  });
});
