/** `init` with an XMPP server on this machine. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { describe, it, type TestContext } from 'node:test';
import { readProsody } from '../src/cli/adapter/prosody/configuration.ts';
import { commandLine } from './support/command-line.ts';
import { ASKED, useInit, without } from './support/init.ts';

describe('init', () => {
  const bench = useInit();
  const { at, loaded } = bench;

  describe('with a Prosody on this machine', () => {
    const prosody = async (t: TestContext, main: string, ...args: string[]) => {
      await chmod(bench.folder, 0o755);
      await mkdir(at('conf.d'), { recursive: true });
      await mkdir(at('modules'), { recursive: true });
      await writeFile(
        at('prosody.cfg.lua'),
        `data_path = "${at('data')}"\nmodules_enabled = { "saslauth"; "roster" }\n${main}`,
      );
      const where = ['--server', 'prosody', '--server-config', at('prosody.cfg.lua')];
      const own = without(bench.flags, '--server');
      return commandLine(t, 'init', '--yes', ...own, ...ASKED, ...where, ...args);
    };
    const hosts = () =>
      readProsody(at('prosody.cfg.lua')).hosts.map(({ name, enabled, url, secret }) => ({
        name,
        enabled,
        url,
        secret,
      }));

    it('init installs the adapter, and configures it in a separate file', async (t) => {
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

    it('init sets plugin_paths if the configuration has none', async (t) => {
      const { output } = await prosody(
        t,
        'VirtualHost "a.example"\nInclude "conf.d/*.cfg.lua"\n',
        '--to',
        at('modules'),
      );
      assert.match(output, /Wrote /);
      assert.match(
        output,
        / {2}xmpp-event-pusher adapter status prosody --to \S+modules --server-config \S+cfg\.lua --config \S+\n$/,
      );
      assert.deepEqual(readProsody(at('prosody.cfg.lua')).pluginPaths, [at('modules')]);
    });

    it('init prints what to write if no folder is included or a host has its own list', async (t) => {
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

  it('init leaves a stopped ejabberd able to start: without options for a missing module', async (t) => {
    await chmod(bench.folder, 0o755);
    await mkdir(at('modules.d'));
    await writeFile(at('ejabberd.yml'), 'hosts:\n  - localhost\nmodules:\n  mod_disco: {}\n');
    const places = { CONTRIB_MODULES_PATH: at('contrib'), CONTRIB_MODULES_CONF_DIR: at('modules.d') };
    const set = Object.entries({ ...places, EJABBERD_CONFIG_PATH: at('ejabberd.yml'), SPOOL_DIR: at('spool') });
    await writeFile(at('ejabberdctl.cfg'), set.map(([name, value]) => `${name}=${value}\n`).join(''));
    const own = without(bench.flags, '--server');
    const where = ['--server', 'ejabberd', '--server-config', at('ejabberdctl.cfg')];
    const { code, output } = await commandLine(t, 'init', '--yes', ...own, ...ASKED, ...where);
    assert.equal(code, 0, output);
    assert.deepEqual(readdirSync(at('modules.d')), []);
    const options = readFileSync(at('contrib/sources/mod_event_pusher/conf/mod_event_pusher.yml'), 'utf8');
    assert.ok(options.includes(loaded().tap.http.secret ?? '-'), options);
    assert.match(output, /Then load it into the running server:\n\n {2}ejabberdctl module_install mod_event_pusher\n/);
  });
});
