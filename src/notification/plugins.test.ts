import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { jid } from '@xmpp/jid';
import { until } from '../../test/support/process.ts';
import { SILENT } from '../log.ts';
import type { PluginContext, SnsPlugin } from './plugin.ts';
import { createPlugins, type Plugins } from './plugins.ts';

const EVENT = { kind: 'presence', id: 'x', at: 1, host: 'h', jid: 'a@h/x', present: true } as const;
const noted: string[] = [];
Object.assign(globalThis, { noted });

describe('the plugins of a routing', () => {
  let folder: string;
  let config: string;
  const warned: object[] = [];
  const log = { ...SILENT, warn: (fields: object) => void warned.push(fields) };
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'plugins-'));
    config = path.join(folder, 'pusher.toml');
    noted.length = 0;
    warned.length = 0;
  });
  afterEach(() => rm(folder, { recursive: true }));

  const open = () => createPlugins(config, log);
  const MODULE = `
    let name = 'not started';
    export const start = async ({ options, log }) => {
      await null;
      name = options.name ?? 'none';
      noted.push('start ' + name + ' ' + typeof log.info + ' ' + Object.isFrozen(options));
    };
    export const stop = async () => { await null; noted.push('stop ' + name); };
    export const userGuid = () => name;`;
  const guid = (plugin: SnsPlugin) => plugin.userGuid?.(jid('a@h'), EVENT);

  it('starts plugins with options and log before their first call, and stops them once', async () => {
    await writeFile(path.join(folder, 'p.mjs'), MODULE);
    const plugins = open();
    const plugin = await plugins.open('./p.mjs', { name: 'one' });
    assert.equal(guid(plugin), 'one');
    await plugins.stop();
    await plugins.stop();
    assert.deepEqual(noted, ['start one function true', 'stop one']);
  });

  it('sections with the same options share a plugin; other options get their own', async () => {
    await writeFile(path.join(folder, 'p.mjs'), MODULE);
    const plugins = open();
    const opened = [];
    for (const name of ['one', 'one', 'two']) opened.push(await plugins.open('./p.mjs', { name }));
    assert.equal(opened[0], opened[1]);
    assert.deepEqual(opened.map(guid), ['one', 'one', 'two']);
    await plugins.stop();
    assert.deepEqual(noted.toSorted(), ['start one function true', 'start two function true', 'stop one', 'stop two']);
  });

  it('a reload replaces plugins with start or stop, starting the new one before it stops the old', async () => {
    await writeFile(path.join(folder, 'p.mjs'), MODULE);
    const before = open();
    const old = await before.open('./p.mjs', { name: 'old' });
    const after = open();
    const fresh = await after.open('./p.mjs', { name: 'new' });
    await before.stop();
    assert.deepEqual([guid(old), guid(fresh)], ['old', 'new']);
    assert.deepEqual(noted, ['start old function true', 'start new function true', 'stop old']);
    await after.stop();
  });

  it('accepts objects as plugins, and keeps their this', async () => {
    const plugin = {
      prefix: 'o:',
      started: false,
      start({ options }: PluginContext) {
        // A host program's options may contain values that can't be copied.
        this.started = (options.ready as () => boolean)();
      },
      userGuid() {
        return this.prefix + this.started;
      },
    };
    const plugins = open();
    assert.equal(guid(await plugins.open(plugin, { ready: () => true })), 'o:true');
    assert.deepEqual(await plugins.open({}), {});
    const misspelt = { user_guid: () => '', filter: () => true };
    await assert.rejects(plugins.open(misspelt), { code: 'PLUGIN_UNUSABLE', message: /did you mean userGuid\?$/ });
  });

  const fails = (plugins: Plugins, plugin: SnsPlugin, message: RegExp) =>
    assert.rejects(plugins.open({ ...plugin, filter: () => true }), { code: 'PLUGIN_UNUSABLE', message });

  it('rejects a plugin whose start fails, and still stops it', async (t) => {
    const plugins = open();
    let stopped = 0;
    const stop = () => void stopped++;
    const start = () => Promise.reject(new Error('no database'));
    await fails(plugins, { start, stop }, /^plugin_module "object" of .*: start\(\) failed: no database$/);
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const hanging = fails(plugins, { start: () => new Promise(() => {}), stop }, /start\(\) did not end within 10 s$/);
    await new Promise((resolve) => setImmediate(resolve));
    t.mock.timers.tick(10_000);
    await hanging;
    t.mock.timers.reset();
    await plugins.stop();
    assert.equal(stopped, 2);
  });

  it('logs a plugin whose stop fails or hangs, and continues', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const plugins = open();
    const filter = () => true;
    await plugins.open({ filter, stop: () => Promise.reject(new Error('already gone')) });
    await plugins.open({ filter, stop: () => new Promise(() => {}) });
    let over = false;
    const stopping = plugins.stop().then(() => {
      over = true;
    });
    for (let n = 0; n < 10; n++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(over, false);
    t.mock.timers.tick(5_000);
    await stopping;
    assert.deepEqual(warned, [
      { plugin: 'object', problem: 'already gone' },
      { plugin: 'object', problem: 'stop() did not end within 5 s' },
    ]);
  });

  it('stops a plugin only after its pending calls', async () => {
    const { promise: answer, resolve } = Promise.withResolvers<string>();
    const plugins = open();
    const plugin = await plugins.open({ userGuid: () => answer, stop: () => void noted.push('stop') });
    const asked = Promise.resolve(guid(plugin)).then((name) => noted.push(String(name)));
    const stopping = plugins.stop();
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(noted, []);
    resolve('answered');
    await Promise.all([asked, stopping]);
    await until('both', () => noted.length === 2);
    assert.deepEqual(noted, ['answered', 'stop']);
  });

  it('names in the log which plugin imports files that need a restart', async () => {
    await mkdir(path.join(folder, 'node_modules/dep'), { recursive: true });
    const dep = path.join(folder, 'node_modules/dep/index.js');
    await writeFile(dep, 'exports.v = 1;');
    await writeFile(path.join(folder, 'p.mjs'), 'import dep from "dep"; export const userGuid = () => `${dep.v}`;');
    assert.equal(guid(await open().open('./p.mjs')), '1');
    await writeFile(dep, 'exports.v = 22;');
    assert.equal(guid(await open().open('./p.mjs')), '1');
    assert.equal(warned.length, 1);
    assert.match(JSON.stringify(warned), /node_modules\/dep\/index\.js/);
  });
});
