import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { importPlugin } from './plugin-import.ts';

/** A reload loads changed files again, whatever their kind and place. */
describe('a plugin imported again', () => {
  let folder: string;
  let config: string;
  beforeEach(async () => {
    folder = await realpath(await mkdtemp(path.join(tmpdir(), 'plugin-import-')));
    config = path.join(folder, 'pusher.toml');
  });
  afterEach(() => rm(folder, { recursive: true }));

  const write = async (name: string, text: string) => {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text);
  };
  /** The result of the plugin's userGuid, and whether the module was evaluated for it. */
  const load = async (name: string, anew = false) => {
    const { exports, fresh } = await importPlugin(name, config, anew);
    const { userGuid } = exports as { userGuid: () => unknown };
    return [await userGuid(), fresh];
  };
  /** Changes a link's target in one step. */
  const lead = async (link: string, target: string) => {
    await symlink(target, path.join(folder, 'new'));
    await rename(path.join(folder, 'new'), path.join(folder, link));
  };

  it('importing a plugin again returns the same module while its files are unchanged, or a new one on request', async () => {
    await write('p.mjs', 'let n = 0; export const userGuid = () => ++n;');
    assert.deepEqual(await load('./p.mjs'), [1, true]);
    assert.deepEqual(await load('./p.mjs'), [2, false]);
    assert.deepEqual(await load('./p.mjs', true), [1, true]);
  });

  for (const [what, plugin, helper] of [
    ['an ES module', 'p.mjs', 'h.mjs'],
    ['TypeScript', 'p.ts', 'h.ts'],
    ['an ES module in a folder above', 'sub/p.mjs', 'h.mjs'],
  ] as const)
    it(`reloads what a plugin imports: ${what}`, async () => {
      const specifier = path.posix.join(path.posix.relative(path.posix.dirname(plugin), '.'), helper);
      const from = specifier.startsWith('.') ? specifier : `./${specifier}`;
      await write(plugin, `import { v } from '${from}'; export const userGuid = () => v;`);
      await write(helper, 'export const v = 1;');
      assert.deepEqual(await load(`./${plugin}`), [1, true]);
      await write(helper, 'export const v = 22;');
      assert.deepEqual(await load(`./${plugin}`), [22, true]);
    });

  it('reloads modules that a plugin imports while running', async () => {
    await write('p.mjs', 'export const userGuid = async () => (await import("./late.mjs")).v;');
    await write('late.mjs', 'export const v = 1;');
    assert.deepEqual(await load('./p.mjs'), [1, true]);
    await write('late.mjs', 'export const v = 22;');
    assert.deepEqual(await load('./p.mjs'), [22, true]);
  });

  it('reloads CommonJS plugins with the modules, folders and JSON that they require', async () => {
    await write(
      'p.cjs',
      'const [a, b, c] = [require("./a"), require("./lib"), require("./c.json")]; exports.userGuid = async () => [a.v, b.v, c.v, (await import("./d.mjs")).v].join();',
    );
    const files = ['a.js', 'lib/index.js', 'c.json', 'd.mjs'];
    const text = (name: string, v: number) =>
      name.endsWith('.json') ? `{"v":${v}}` : name.endsWith('.mjs') ? `export const v = ${v};` : `exports.v = ${v};`;
    for (const name of files) await write(name, text(name, 1));
    assert.deepEqual(await load('./p.cjs'), ['1,1,1,1', true]);
    const values = [1, 1, 1, 1];
    for (const [index, name] of files.entries()) {
      values[index] = 22;
      await write(name, text(name, 22));
      assert.deepEqual(await load('./p.cjs'), [values.join(), true], name);
    }
    await write('p.cjs', 'exports.userGuid = () => "itself";');
    assert.deepEqual(await load('./p.cjs'), ['itself', true]);
  });

  for (const [what, extension, text] of [
    ['ES modules', 'mjs', 'import { v } from "./v.mjs"; export const userGuid = () => v;'],
    ['CommonJS', 'cjs', 'const { v } = require("./v.cjs"); exports.userGuid = () => v;'],
  ] as const) {
    const versionIn = async (release: string, v: number) => {
      await write(`${release}/plugin.${extension}`, text);
      await write(`${release}/v.${extension}`, extension === 'mjs' ? `export const v = ${v};` : `exports.v = ${v};`);
    };
    it(`reloads a plugin behind a switched symbolic link, even if the old folder is gone: ${what}`, async () => {
      await versionIn('releases/1', 1);
      await versionIn('releases/2', 2);
      await lead('current', 'releases/1');
      assert.deepEqual(await load(`./current/plugin.${extension}`), [1, true]);
      await lead('current', 'releases/2');
      await rm(path.join(folder, 'releases/1'), { recursive: true });
      assert.deepEqual(await load(`./current/plugin.${extension}`), [2, true]);
      assert.deepEqual(await load(`./current/plugin.${extension}`, true), [2, true]);
    });

    it(`reloads a plugin in a Kubernetes volume, whose files are links through a link: ${what}`, async () => {
      await versionIn('..2026_1', 1);
      await lead('..data', '..2026_1');
      for (const name of ['plugin', 'v']) await lead(`${name}.${extension}`, `..data/${name}.${extension}`);
      assert.deepEqual(await load(`./plugin.${extension}`), [1, true]);
      await versionIn('..2026_2', 2);
      await lead('..data', '..2026_2');
      await rm(path.join(folder, '..2026_1'), { recursive: true });
      assert.deepEqual(await load(`./plugin.${extension}`), [2, true]);
    });
  }

  it('follows a changed symbolic link among the imports of a plugin', async () => {
    await write('p.mjs', 'import { v } from "./v.mjs"; export const userGuid = () => v;');
    for (const v of [1, 2]) await write(`v${v}.mjs`, `export const v = ${v};`);
    await lead('v.mjs', 'v1.mjs');
    assert.deepEqual(await load('./p.mjs'), [1, true]);
    await lead('v.mjs', 'v2.mjs');
    assert.deepEqual(await load('./p.mjs'), [2, true]);
  });

  it('reloads a plugin that is a package, with its files', async () => {
    await write(
      'node_modules/plug/package.json',
      '{"name":"plug","type":"module","exports":{".":{"import":"./i.js"}}}',
    );
    await write('node_modules/plug/i.js', 'import { v } from "./v.js"; export const userGuid = () => v;');
    await write('node_modules/plug/v.js', 'export const v = 1;');
    assert.deepEqual(await load('plug'), [1, true]);
    await write('node_modules/plug/v.js', 'export const v = 22;');
    assert.deepEqual(await load('plug'), [22, true]);
  });

  it('reports files that only a restart reloads: imported packages, and ES modules that CommonJS requires', async () => {
    const stale = async (name: string) =>
      (await importPlugin(name, config, false)).stale.filter((file) => file.startsWith(folder));
    await write('node_modules/dep/package.json', '{"name":"dep","main":"i.js"}');
    await write('node_modules/dep/i.js', 'exports.v = 1;');
    await write('p.mjs', 'import dep from "dep"; export const userGuid = () => dep.v;');
    assert.deepEqual(await stale('./p.mjs'), []);
    await write('node_modules/dep/i.js', 'exports.v = 22;');
    assert.deepEqual(await stale('./p.mjs'), [path.join(folder, 'node_modules/dep/i.js')]);
    await rm(path.join(folder, 'node_modules/dep/i.js'));
    await write('e.mjs', 'export const v = 1;');
    await write('p.cjs', 'exports.userGuid = () => require("./e.mjs").v;');
    assert.deepEqual(await load('./p.cjs'), [1, true]);
    await write('e.mjs', 'export const v = 22;');
    assert.ok((await stale('./p.cjs')).includes(path.join(folder, 'e.mjs')));
  });

  it('retries a plugin that failed to load, even with unchanged files', async () => {
    await write('p.mjs', 'if (!globalThis.mended) throw new Error("not yet"); export const userGuid = () => "up";');
    await assert.rejects(load('./p.mjs'), { message: 'not yet' });
    Object.assign(globalThis, { mended: true });
    assert.deepEqual(await load('./p.mjs'), ['up', true]);
  });
});
