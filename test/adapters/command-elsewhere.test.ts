/** `adapter` on a machine with an XMPP server only, whose daemon is elsewhere. */
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type Bench, createBench } from '../support/adapter-command.ts';

const EXAMPLE = path.join(import.meta.dirname, '../../deploy/systemd/pusher.toml');

let bench: Bench;
beforeEach(async () => {
  bench = await createBench();
});
afterEach(() => bench[Symbol.asyncDispose]());
const inFolder = (...names: string[]) => path.join(bench.folder, ...names);

describe("adapter install on the XMPP server's own machine", () => {
  it('install upgrades with the options it finds, where the package has its example for a configuration', async () => {
    await mkdir(inFolder('conf.d'));
    const include = 'VirtualHost "localhost"\nInclude "conf.d/*.cfg.lua"';
    const config = await bench.prosodyConfig('modules_enabled = { "saslauth" }', include);
    const where = ['--server-config', config, '--to', inFolder('modules')];
    const adapter = (words: string[], secret?: string) =>
      bench.adapter(words, { XMPP_EVENT_PUSHER_CONFIG: '', ...(secret && { EVENT_PUSHER_SECRET: secret }) });
    await bench.write('pusher.toml', await readFile(EXAMPLE, 'utf8'));
    const bare = await adapter(['install', 'prosody', '--configure', ...where]);
    assert.equal(bare.code, 1);
    assert.match(bare.output, /there is no configuration here: .* its tap with --url and --secret\n/);
    const url = 'http://127.0.0.1:1/v1/events';
    await adapter(['install', 'prosody', '--configure', ...where, '--url', url], 'known');
    const options = () => readFile(inFolder('conf.d/xmpp-event-pusher.cfg.lua'), 'utf8');
    const before = await options();
    const again = await adapter(['install', 'prosody', '--configure', ...where]);
    assert.equal(again.code, 0, again.output);
    assert.match(again.output, /The secret is the one in \S+conf\.d\/xmpp-event-pusher\.cfg\.lua\.\n/);
    assert.equal(await options(), before);
    assert.equal((await adapter(['install', 'prosody', '--configure', ...where], 'second')).code, 0);
    assert.equal(await options(), before.replace('"known"', '"second"'));
    const status = await adapter(['status', 'prosody', ...where]);
    assert.match(status.output, /^ok {4}localhost: posts to http:\S+, set in \S+$/m);
    assert.match(status.output, /^FAIL {2}\S+: nothing listens there/m);
  });
});
