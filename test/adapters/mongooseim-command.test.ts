/** `adapter install`, `status` and `uninstall` for MongooseIM: the output is pasted, and a stand-in runs with it. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { findBeams } from '../../src/cli/adapter/mongooseim/beams.ts';
import { startCollector } from '../support/collector.ts';
import { commandLineWith } from '../support/command-line.ts';
import { atom, startMongooseIm } from '../support/mongooseim.ts';
import { openSession } from '../support/mongooseim-session.ts';

/** All characters that end a string or have a special meaning in Erlang. */
const SECRET = `q"u'o\\t\\\\e ~p %% [{x}] $HOME -- @z: é❤`;

describe('adapter install mongooseim', () => {
  let folder: string;
  const at = (...names: string[]) => path.join(folder, ...names);
  // In this order: each test continues with the result of the previous one.
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'install-'));
    await mkdir(at('rel/etc'), { recursive: true });
    await writeFile(at('rel/etc/mongooseim.toml'), '[general]\n  loglevel = "warning"\n\n[modules.mod_roster]\n');
    await writeFile(at('rel/etc/app.config'), '[\n {kernel, [{logger_level, notice}]}\n].\n');
    await writeFile(at('rel/etc/vm.args'), '## Name of the node\n-setcookie mongooseim\n');
  });
  after(() => rm(folder, { recursive: true, force: true }));

  function adapter(command: string, ...args: string[]): Promise<{ code: number; output: string }> {
    const places = ['--to', at('lib'), '--server-config', at('rel/etc/mongooseim.toml')];
    const env = { ...process.env, EVENT_PUSHER_SECRET: SECRET };
    return commandLineWith(env, 'adapter', command, 'mongooseim', ...places, ...args);
  }

  /** The line to paste below a title. */
  function printed(output: string, title: string): string {
    const lines = output.split('\n');
    const start = lines.findIndex((line) => line.includes(title));
    assert.notEqual(start, -1, output);
    return lines[start + 2] as string;
  }

  const edit = async (name: string, change: (text: string) => string) =>
    writeFile(at('rel/etc', name), change(await readFile(at('rel/etc', name), 'utf8')));

  it('install prints lines to paste: MongooseIM finds the module, with url and secret', async () => {
    await using tap = await startCollector({ secret: SECRET });
    const { code, output } = await adapter('install', '--url', tap.url);
    assert.equal(code, 0, output);
    await edit('vm.args', (text) => `${text}${printed(output, 'vm.args')}\n`);
    await edit('app.config', (text) => text.replace('[', () => `[\n${printed(output, 'app.config')}`));
    await edit('mongooseim.toml', (text) => `${text}${printed(output, 'mongooseim.toml')}\n`);

    const installed = { appConfig: at('rel/etc/app.config'), vmArgs: at('rel/etc/vm.args') };
    await using server = await startMongooseIm({ url: 'unused', installed });
    const beam = await server.call('code', 'which', atom('mod_xmpp_event_pusher'));
    assert.equal(JSON.parse(beam), at('lib/xmpp_event_pusher/ebin/mod_xmpp_event_pusher.beam'));
    await openSession(server, 'alice@localhost/phone');
    await tap.wait('the session', () => tap.events.length === 1);

    const status = await adapter('status', '--url', tap.url);
    // The test's tap is not a daemon and refuses an empty batch.
    assert.doesNotMatch(status.output, /FAIL {2}(?!http:)/);
    assert.match(status.output, /ok +version \S+ in .*xmpp_event_pusher\n/);
    assert.match(status.output, /posts to .* with the daemon's secret/);

    const moved = await adapter('install', '--url', 'http://127.0.0.1:1/v1/events');
    assert.equal(moved.code, 1);
    assert.match(moved.output, /WRONG: different options are in .*app\.config/);
  });

  it('uninstall deletes the module only if no configuration needs it', async () => {
    const refused = await adapter('uninstall');
    assert.equal(refused.code, 1);
    assert.match(refused.output, /does not start without that module/);
    await edit('mongooseim.toml', (text) => text.replace('[modules.mod_xmpp_event_pusher]', ''));
    const { code, output } = await adapter('uninstall');
    assert.equal(code, 0, output);
    assert.deepEqual(await readdir(at('lib')), []);
    assert.match((await adapter('uninstall')).output, /nothing to remove/);
  });

  it('status reports what is missing, and that keys in the section keep MongooseIM from starting', async () => {
    await writeFile(at('rel/etc/vm.args'), '-setcookie mongooseim\n');
    await writeFile(at('rel/etc/app.config'), '[].\n');
    const url = ['--url', 'http://127.0.0.1:1/v1/events'];
    const before = await adapter('status', ...url);
    assert.match(before.output, /FAIL +not installed/);
    assert.match(before.output, /has no \[modules\.mod_xmpp_event_pusher\]/);
    await edit('mongooseim.toml', (text) => `${text}[modules.mod_xmpp_event_pusher]\n  url = "http://127.0.0.1"\n`);
    const { output } = await adapter('status', ...url);
    assert.match(output, /must be empty: MongooseIM does not start with options there/);
    assert.match(output, /vm\.args does not name /);
    assert.match(output, /app\.config has no options/);
  });

  it("install chooses compiled modules that the release can load: the package's, or a compiler's", async () => {
    const packaged = at('packaged');
    await mkdir(packaged);
    await mkdir(at('rel/releases'), { recursive: true });
    const release = async (erts: string) => writeFile(at('rel/releases/start_erl.data'), `${erts} 6.8.0`);
    await writeFile(path.join(packaged, 'OTP'), '26\n');
    await release('15.2.3');
    {
      using beams = findBeams(at('rel'), packaged);
      assert.deepEqual([beams.folder, beams.otp], [packaged, 26]);
    }
    // Newer than any compiler.
    await writeFile(path.join(packaged, 'OTP'), '99\n');
    {
      using beams = findBeams(at('rel'), packaged);
      assert.notEqual(beams.folder, packaged);
      assert.ok((await readdir(beams.folder)).includes('mod_xmpp_event_pusher.beam'));
    }
    await release('12.1');
    assert.throws(() => findBeams(at('rel'), packaged), /does not run on the release's OTP 24/);
  });
});
