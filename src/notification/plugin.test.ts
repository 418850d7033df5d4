import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { jid } from '@xmpp/jid';
import type { PusherError } from '../errors.ts';
import { DEFAULT_PLUGIN, type SnsPlugin, toMessageAttributes, withinTime } from './plugin.ts';
import { loadPlugin } from './plugins.ts';

const EVENT = {
  kind: 'presence',
  id: 'x',
  at: 1,
  host: 'localhost',
  jid: 'alice@localhost/phone',
  present: true,
} as const;

describe('loading a plugin', () => {
  let folder: string;
  let config: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'plugin-'));
    config = path.join(folder, 'pusher.toml');
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const write = async (name: string, text: string) => {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text);
  };
  const guid = (plugin: SnsPlugin) => plugin.userGuid?.(jid('alice@localhost/phone'), EVENT);

  it('uses the default plugin when none is set', async () => {
    assert.deepEqual(await loadPlugin(DEFAULT_PLUGIN, config), {});
  });

  for (const [what, name, text] of [
    [
      'a TypeScript file',
      './plugin.ts',
      'export const userGuid = (jid: { local: string }): string => `ts ${jid.local}`;',
    ],
    ['a JavaScript file', './plugin.js', 'export function userGuid(jid) { return `js ${jid.local}`; }'],
    ['a file of a folder', 'plugins/plugin.mjs', 'export const userGuid = (jid) => `mjs ${jid.local}`;'],
    ['a CommonJS file', './plugin.cjs', 'exports.userGuid = (jid) => `cjs ${jid.local}`;'],
  ] as const)
    it(`loads ${what}, relative to the configuration`, async () => {
      await write('package.json', '{"type":"module"}');
      await write(name, text);
      assert.equal(guid(await loadPlugin(name, config)), `${path.extname(name).slice(1)} alice`);
    });

  it('reloads a plugin whose file changed', async () => {
    await write('changing.mjs', 'export const userGuid = () => "before";');
    await utimes(path.join(folder, 'changing.mjs'), 1_000, 1_000);
    const before = await loadPlugin('./changing.mjs', config);
    assert.equal(guid(before), 'before');
    await write('changing.mjs', 'export const userGuid = () => "after";');
    assert.equal(guid(await loadPlugin('./changing.mjs', config)), 'after');
    assert.equal(guid(before), 'before');
  });

  it('accepts an absolute path of a plugin', async () => {
    await write('absolute.mjs', 'export const userGuid = () => "absolute";');
    assert.equal(guid(await loadPlugin(path.join(folder, 'absolute.mjs'), config)), 'absolute');
  });

  for (const [what, exports] of [
    ['main', '"main": "./index.js"'],
    ['exports', '"exports": "./index.js"'],
    ['exports for import only', '"exports": { ".": { "import": "./index.js" } }'],
  ] as const)
    it(`loads a package installed beside the configuration: ${what}`, async () => {
      const name = `pusher-plugin-${exports.length}`;
      await write(`node_modules/${name}/package.json`, `{"name":"${name}","type":"module",${exports}}`);
      await write(`node_modules/${name}/index.js`, `export const userGuid = () => "${name}";`);
      assert.equal(guid(await loadPlugin(name, config)), name);
    });

  it('accepts an object as the default export, and keeps its this', async () => {
    await write('object.mjs', 'export default { prefix: "o:", userGuid(jid) { return this.prefix + jid.local; } };');
    assert.equal(guid(await loadPlugin('./object.mjs', config)), 'o:alice');
    await write(
      'instance.mjs',
      'class Plugin { #n = 0; filter() { return ++this.#n > 1; } }\nexport default new Plugin();',
    );
    const { filter } = await loadPlugin('./instance.mjs', config);
    const event = {} as Parameters<NonNullable<SnsPlugin['filter']>>[0];
    assert.deepEqual([filter?.(event), filter?.(event)], [false, true]);
  });

  const unusable = async (name: string): Promise<string> => {
    const fault = (await loadPlugin(name, config).catch((error: unknown) => error)) as PusherError;
    assert.equal(fault.code, 'PLUGIN_UNUSABLE');
    const prefix = `plugin_module "${name}" of ${config}: `;
    assert.ok(fault.message.startsWith(prefix), fault.message);
    return fault.message.slice(prefix.length);
  };

  it("names a plugin that it can't find or load", async () => {
    assert.match(await unusable('./missing.ts'), /^can't be loaded: Cannot find module/);
    assert.match(await unusable('no-such-package'), /^can't be loaded: Cannot find (module|package)/);
    await write('syntax.mjs', 'export const userGuid = (');
    assert.match(await unusable('./syntax.mjs'), /^can't be loaded: Unexpected/);
    await write('throws.mjs', 'throw new Error("at its top level");');
    assert.equal(await unusable('./throws.mjs'), "can't be loaded: at its top level");
  });

  it('names an export that is not a function, and a module without functions', async () => {
    await write('number.mjs', 'export const filter = 5;');
    assert.equal(await unusable('./number.mjs'), 'exports filter, which should be a function and is a number');
    const none = 'exports none of userGuid, presenceAttributes, messageAttributes, filter';
    await write('empty.mjs', 'export default 5;');
    assert.equal(await unusable('./empty.mjs'), none);
    await write('started.mjs', 'export const start = () => {};');
    assert.equal(await unusable('./started.mjs'), none);
  });

  for (const [name, meant] of [
    ['messageAtributes', 'messageAttributes'],
    ['message_attributes', 'messageAttributes'],
    ['user_guid', 'userGuid'],
    ['userGUID', 'userGuid'],
    ['filtr', 'filter'],
    ['onStart', 'start'],
    ['version', 'stop'],
  ] as const)
    it(`refuses the unknown export ${name} with the nearest name`, async () => {
      const says = `exports ${name}, which is not a plugin function; did you mean ${meant}?`;
      await write(`unknown-${name}.mjs`, `export const filter = () => true; export const ${name} = () => '';`);
      assert.equal(await unusable(`./unknown-${name}.mjs`), says);
      await write(`unknown-${name}.cjs`, `exports.${name} = () => ''; exports.userGuid = () => '';`);
      if (name !== 'version' && name !== 'onStart') assert.equal(await unusable(`./unknown-${name}.cjs`), says);
    });

  it('ignores helpers of an object, but rejects names near a known one', async () => {
    const helpers = 'state: 1, store() {}, restart() {}, load() {}, users() {}';
    await write('helped.mjs', `export default { ${helpers}, filter() { return true; } };`);
    assert.deepEqual(Object.keys(await loadPlugin('./helped.mjs', config)), ['filter']);
    await write('near.mjs', 'export default new (class { filters() {} userGuid() { return ""; } })();');
    assert.match(await unusable('./near.mjs'), /^exports filters, .* did you mean filter\?$/);
  });

  it('rejects functions beside a default export, because they would never be called', async () => {
    await write('both.mjs', 'export const filter = () => false; export default { userGuid() { return "x"; } };');
    assert.equal(
      await unusable('./both.mjs'),
      'exports filter in addition to a default object: move it into that object',
    );
  });

  it('gives up on a plugin that never finishes loading', async (t) => {
    await write(
      'hangs.mjs',
      'await new Promise((resolve) => setTimeout(resolve, 1e8).unref()); export const filter = 1;',
    );
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const loading = unusable('./hangs.mjs');
    t.mock.timers.tick(10_000);
    assert.equal(
      await loading,
      "can't be loaded: it did not load, perhaps because of an await that never ends, within 10 s",
    );
    // The failure is not cached: once the module loads, it works.
    t.mock.timers.reset();
    await write('hangs.mjs', 'export const userGuid = () => "mended";');
    assert.equal(guid(await loadPlugin('./hangs.mjs', config)), 'mended');
  });
});

describe("a plugin's attributes", () => {
  it("converts a plugin's attributes to SNS's types", () => {
    const attributes = {
      text: 'Grüße 👩‍👩‍👧‍👦',
      integer: -5,
      float: 0.1,
      zero: 0,
      large: 1_763_820_191_120,
      bytes: new Uint8Array([0, 255]),
      buffer: Buffer.from('abc'),
      list: ['a', '"', ''],
    };
    assert.deepEqual(toMessageAttributes(attributes), [
      { name: 'text', type: 'String', value: 'Grüße 👩‍👩‍👧‍👦' },
      { name: 'integer', type: 'Number', value: '-5' },
      { name: 'float', type: 'Number', value: '0.1' },
      { name: 'zero', type: 'Number', value: '0' },
      { name: 'large', type: 'Number', value: '1763820191120' },
      { name: 'bytes', type: 'Binary', value: 'AP8=' },
      { name: 'buffer', type: 'Binary', value: 'YWJj' },
      { name: 'list', type: 'String.Array', value: '["a","\\"",""]' },
    ]);
    assert.deepEqual(toMessageAttributes({}), []);
    assert.deepEqual(toMessageAttributes({ a: undefined, b: 'x' }), [{ name: 'b', type: 'String', value: 'x' }]);
    assert.deepEqual(toMessageAttributes(Object.create(null)), []);
  });

  it('sends only the visible part of a view into a larger buffer', () => {
    const view = new Uint8Array(new Uint8Array([1, 2, 3, 4]).buffer, 1, 2);
    assert.equal(toMessageAttributes({ view })[0]?.value, 'AgM=');
  });

  const OF = 'should be a string, a finite number, a Uint8Array or an array of strings, and is';
  for (const [attributes, problem] of [
    [{ a: Number.NaN }, `attribute "a": ${OF} NaN`],
    [{ a: Number.POSITIVE_INFINITY }, `attribute "a": ${OF} Infinity`],
    [{ a: true }, `attribute "a": ${OF} boolean`],
    [{ a: 5n }, `attribute "a": ${OF} bigint`],
    [{ a: null }, `attribute "a": ${OF} object`],
    [{ a: { b: 1 } }, `attribute "a": ${OF} object`],
    [{ a: () => '' }, `attribute "a": ${OF} function`],
    [{ a: ['x', 1] }, `attribute "a": ${OF} an array of other things`],
    [{ a: '' }, 'attribute "a": its value is empty'],
    [{ a: [] }, 'attribute "a": its value is empty'],
    [{ a: new Uint8Array() }, 'attribute "a": its value is empty'],
    [{ a: 'x\u0001' }, 'attribute "a": its value holds U+0001, which SNS does not allow'],
    [{ a: '\ud800' }, 'attribute "a": its value holds U+D800, which SNS does not allow'],
    [{ a: ['\uffff'] }, 'attribute "a": its value holds U+FFFF, which SNS does not allow'],
    [{ 'aws.x': 'y' }, 'attribute "aws.x": names that start with "aws." or "amazon." are reserved'],
    [
      { 'a b': 'y' },
      'attribute "a b": its name may hold ASCII letters, digits, _, - and single dots inside, and must not be empty',
    ],
    [
      { '': 'y' },
      'attribute "": its name may hold ASCII letters, digits, _, - and single dots inside, and must not be empty',
    ],
    [null, 'attributes should be an object, not null'],
    [undefined, 'attributes should be an object, not undefined'],
    ['text', 'attributes should be an object, not string'],
    [5, 'attributes should be an object, not number'],
    [[], 'attributes should be an object, not an array'],
  ] as const)
    it(`refuses a plugin's attributes: ${problem}`, () => {
      assert.throws(() => toMessageAttributes(attributes), { message: problem });
    });
});

describe('the time a plugin function has', () => {
  it('gives a plugin function 5 s', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let settled = false;
    const waiting = withinTime(new Promise(() => undefined)).finally(() => {
      settled = true;
    });
    t.mock.timers.tick(4_999);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(settled, false);
    t.mock.timers.tick(1);
    await assert.rejects(waiting, { message: 'did not answer within 5 s' });
  });

  it('returns the result or error of a plugin function that settles in time', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    assert.equal(await withinTime(Promise.resolve(5)), 5);
    await assert.rejects(withinTime(Promise.reject(new Error('its own'))), { message: 'its own' });
  });

  it('ignores a result or error after the time limit', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { promise, reject } = Promise.withResolvers<never>();
    const waiting = withinTime(promise);
    t.mock.timers.tick(5_000);
    await assert.rejects(waiting);
    reject(new Error('too late'));
    await new Promise((resolve) => setImmediate(resolve));
  });
});
