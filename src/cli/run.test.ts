import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
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
  const fails = async (): Promise<string> => {
    child = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile]);
    assert.equal(await child.exited, 1);
    assert.doesNotMatch(child.output(), /\n\s+at /, 'no stack for what is not a bug');
    return child.output();
  };

  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    it(`runs until ${signal}, and then exits with 0`, async () => {
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
        'stopping: requests under way may end, the rest stays in the outbox',
        'stopped',
      ]);
      const said = lines.find(({ msg }) => msg === 'running');
      assert.equal(said.tap, daemon.tapUrl);
      assert.equal(said.admin, daemon.adminUrl);
    });

  it('names every mistake in the configuration', async () => {
    await daemon.configure({ sns: 'pool_size = 0\nbogus = 1' });
    const output = await fails();
    assert.match(output, /pusher\.toml: 2 mistakes\n/);
    assert.match(output, /sns\.pool_size is the number 0, should be a whole number from 1 to 10,000\n/);
    assert.match(output, /sns\.bogus is not a known option; did you mean "[a-z_]+"\?\n/);
  });

  it('names a plugin that can not be loaded', async () => {
    await daemon.configure({ sns: 'plugin_module = "./missing.ts"' });
    assert.match(await fails(), /plugin_module "\.\/missing\.ts" of .*pusher\.toml: can't be loaded: /);
  });

  it('names an outbox that it can not use', async () => {
    await daemon.configure({ outbox: 'path = "./nowhere/outbox.db"' });
    assert.match(await fails(), /outbox .*\/nowhere\/outbox\.db can't be made: there is no folder /);
  });

  it('names another daemon on the same outbox, and leaves that alone', async () => {
    await daemon.configure({});
    await daemon.start();
    const other = await createDaemon(SNS, { outbox: `path = "${path.join(daemon.folder, 'outbox.db')}"` });
    const second = await launch(process.execPath, [BIN, 'run', '--config', other.configFile]);
    assert.equal(await second.exited, 1);
    assert.match(second.output(), new RegExp(`is in use by another daemon \\(process ${daemon.pid}\\)`));
    assert.equal((await daemon.post({ source: 's', events: [] })).status, 200);
    await other[Symbol.asyncDispose]();
  });

  it('names an address that it can not listen on, also with a plugin that would keep it alive', async () => {
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
