import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { BIN, createDaemon, type Daemon } from '../../test/support/daemon.ts';
import { launch, type Process, until } from '../../test/support/process.ts';

const SNS = { url: 'http://127.0.0.1:9', region: 'eu-west-1', accountId: '123456789012' };

describe('run', { timeout: 120_000 }, () => {
  let daemon: Daemon;
  let child: Process | undefined;
  before(async () => {
    daemon = await createDaemon(SNS);
  });
  afterEach(async () => {
    await child?.end('SIGKILL');
    await daemon.stop();
  });
  after(() => daemon[Symbol.asyncDispose]());

  /** Runs it to its end. */
  const fails = async (code = 1): Promise<string> => {
    child = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile]);
    assert.equal(await child.exited, code);
    assert.doesNotMatch(child.output(), /\n\s+at /, 'no stack for what is not a bug');
    return child.output();
  };

  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    it(`run exits with 0 after ${signal}`, async () => {
      await daemon.configure({});
      child = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile]);
      const running = child;
      await until('it to run', () => running.output().includes('"msg":"running"'));
      await running.end(signal);
      assert.equal(await running.exited, 0);
      const lines = running
        .output()
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line));
      assert.deepEqual(lines.map(({ msg }) => msg).slice(-3), [
        'running',
        'stopping: waiting for the requests under way; the rest stays in the outbox',
        'stopped',
      ]);
      const said = lines.find(({ msg }) => msg === 'running');
      assert.equal(said.tap, daemon.tapUrl);
      assert.equal(said.admin, daemon.adminUrl);
    });

  const running = async (...args: string[]): Promise<Process> => {
    const started = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile, ...args]);
    child = started;
    await until('it to run', () => started.output().includes('"msg":"running"'));
    return started;
  };
  const plugin = async (code: string): Promise<void> => {
    await writeFile(path.join(daemon.folder, 'plugin.mjs'), code);
    await daemon.configure({ sns: 'plugin_module = "./plugin.mjs"' });
  };
  const event = (body: string) => ({
    source: 's',
    events: [
      { kind: 'message', at: 1, host: 'h', type: 'chat', from: 'a@h/x', to: 'b@h', body, stanza_id: '\u009b31m' },
    ],
  });

  it('run survives an unhandled rejection of a plugin, and does not print its text', async () => {
    await plugin(
      "export const filter = (event) => { void Promise.reject(new Error('quoted ' + event.body)); return true; }",
    );
    const started = await running();
    for (const _ of [1, 2]) assert.equal((await daemon.post(event('Zitronenfalter'))).status, 200);
    await until('the log', () => started.output().split('unhandled promise rejection').length > 2);
    await started.end('SIGTERM');
    assert.equal(await started.exited, 0);
    assert.doesNotMatch(started.output(), /Zitronenfalter|quoted/);
  });

  for (const [what, thrown, logged] of [
    [
      'an error',
      "Object.assign(new TypeError('quoted ' + event.body), { code: 'ERR_ODD' })",
      { name: 'TypeError', code: 'ERR_ODD' },
    ],
    ['an error named by what was written', "Object.assign(new Error('x'), { name: 'quoted ' + event.body })", {}],
    ['a text', 'event.body', {}],
    ['nothing', 'undefined', {}],
  ] as const)
    it(`run exits with 1 after an uncaught exception of a plugin, and does not print its text: ${what}`, async () => {
      await plugin(`export const filter = (event) => { setImmediate(() => { throw ${thrown}; }); return true; }`);
      const started = await running();
      await daemon.post(event('Zitronenfalter')).catch(() => {});
      assert.equal(await started.exited, 1);
      assert.doesNotMatch(started.output(), /Zitronenfalter|quoted/);
      const { level, name, code, msg } = JSON.parse(started.output().trimEnd().split('\n').at(-1) as string);
      assert.deepEqual([level, { ...(name && { name }), ...(code && { code }) }], ['fatal', logged]);
      assert.match(msg, /^uncaught exception/);
    });

  /** Has it reload a plugin that is loaded only when there is a file `go`; settles when it waits for that. */
  const reloadSlowly = async (started: Process): Promise<void> => {
    await rm(path.join(daemon.folder, 'go'), { force: true });
    await plugin(`
      import { existsSync } from 'node:fs';
      console.error('loading again');
      while (!existsSync(new URL('go', import.meta.url))) await new Promise((done) => setTimeout(done, 10));
      export const filter = () => true;`);
    process.kill(started.pid, 'SIGHUP');
    await until('the reload', () => started.output().includes('loading again'));
  };

  it('a stop does not wait for a reload, and prevents further ones', async () => {
    await plugin('export const filter = () => true;');
    const started = await running();
    await reloadSlowly(started);
    process.kill(started.pid, 'SIGHUP');
    await started.end('SIGTERM');
    assert.equal(await started.exited, 0);
    const said = started.output().match(/"msg":"(stopping|reloaded|reload failed|stopped)/g);
    assert.deepEqual(said, ['"msg":"stopping', '"msg":"stopped']);
  });

  it('a dry run escapes control characters', async () => {
    await daemon.configure({ sns: 'attributes = ["stanza_id"]' });
    const started = await running('--dry-run');
    assert.equal((await daemon.post(event('a\u009b2Jb'))).status, 200);
    await until('the notification', () => started.output().includes('user_message_sent\t'));
    const [line] = started.output().match(/^user_message_sent\t.*$/m) ?? [];
    assert.match(String(line), /"message":"a·2Jb".*\tstanza_id=·31m$/);
  });

  it('run lists every mistake in the configuration', async () => {
    await daemon.configure({ sns: 'pool_size = 0\nbogus = 1' });
    const output = await fails(78);
    assert.match(output, /pusher\.toml: 2 mistakes\n/);
    assert.match(output, /sns\.pool_size is the number 0, should be a whole number from 1 to 10,000\n/);
    assert.match(output, /sns\.bogus is not a known option; did you mean "[a-z_]+"\?\n/);
  });

  it("run names a plugin that it can't load", async () => {
    await daemon.configure({ sns: 'plugin_module = "./missing.ts"' });
    assert.match(await fails(), /plugin_module "\.\/missing\.ts" of .*pusher\.toml: can't be loaded: /);
  });

  it("run names an outbox that it can't use", async () => {
    await daemon.configure({ outbox: 'path = "./nowhere/outbox.db"' });
    assert.match(await fails(), /outbox .*\/nowhere\/outbox\.db can't be created: the folder /);
  });

  it('run names another daemon that uses the outbox, without disturbing it', async () => {
    await daemon.configure({});
    await daemon.start();
    const other = await createDaemon(SNS, { outbox: `path = "${path.join(daemon.folder, 'outbox.db')}"` });
    const second = await launch(process.execPath, [BIN, 'run', '--config', other.configFile]);
    assert.equal(await second.exited, 1);
    assert.match(second.output(), new RegExp(`is in use by another daemon \\(process ${daemon.pid}\\)`));
    assert.equal((await daemon.post({ source: 's', events: [] })).status, 200);
    await other[Symbol.asyncDispose]();
  });

  it("run names an address that it can't listen on, and exits even with a plugin that would keep it alive", async () => {
    await writeFile(
      path.join(daemon.folder, 'busy.mjs'),
      'setInterval(() => {}, 1_000); export const filter = () => true;',
    );
    await daemon.configure({ sns: 'plugin_module = "./busy.mjs"' });
    const port = Number(new URL(daemon.tapUrl).port);
    const server = net.createServer().listen(port, '127.0.0.1');
    try {
      assert.match(
        await fails(),
        new RegExp(`tap\\.http\\.listen: can't listen on 127\\.0\\.0\\.1:${port}: .*EADDRINUSE`),
      );
    } finally {
      server.close();
    }
  });
});
