/** What a plugin or the environment does to the process: the daemon ends with 0 only when it was asked to, and says what it should. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { BIN, createDaemon, type Daemon } from '../../test/support/daemon.ts';
import { launch, type Process, until } from '../../test/support/process.ts';

const EVENT = { kind: 'presence', at: 1, host: 'h', jid: 'Zitronenfalter@h/x', present: true };

describe('run', () => {
  let daemon: Daemon;
  let child: Process | undefined;
  beforeEach(async () => {
    daemon = await createDaemon({ url: 'http://127.0.0.1:9', region: 'eu-west-1', accountId: '123456789012' });
  });
  afterEach(async () => {
    await child?.end('SIGKILL');
    await daemon[Symbol.asyncDispose]();
  });

  const start = async (code: string, env: NodeJS.ProcessEnv = {}): Promise<Process> => {
    await writeFile(path.join(daemon.folder, 'plugin.mjs'), code);
    await daemon.configure({ sns: 'plugin_module = "./plugin.mjs"' });
    const started = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile], {
      env: { ...process.env, ...env },
    });
    child = started;
    await until('it to run', () => started.output().includes('"msg":"running"'));
    return started;
  };
  const post = () => daemon.post({ source: 's', events: [EVENT] });

  for (const mode of ['strict', 'warn', 'none', 'throw'])
    it(`run survives an unhandled rejection under NODE_OPTIONS=--unhandled-rejections=${mode}`, async () => {
      const code =
        'export const filter = (event) => { void Promise.reject(new Error("quoted " + event.jid)); return true; }';
      const started = await start(code, { NODE_OPTIONS: `--unhandled-rejections=${mode}` });
      for (const _ of [1, 2]) assert.equal((await post()).status, 200);
      if (mode !== 'none')
        await until('the log', () => /unhandled promise rejection|UnhandledRej/.test(started.output()));
      await started.end('SIGTERM');
      assert.equal(await started.exited, 0);
      assert.doesNotMatch(started.output(), /Zitronenfalter|quoted/);
    });

  for (const [what, code] of [
    ['process.exit(0)', 'process.exit(0)'],
    ['process.exit()', 'process.exit()'],
    ['process.exit() with an exit code of 0 set before', 'process.exitCode = 0; process.exit()'],
  ] as const)
    it(`run exits with 1 and reports it if a plugin calls ${what}`, async () => {
      const started = await start(`export const filter = () => { ${code}; }`);
      await post().catch(() => {});
      assert.equal(await started.exited, 1);
      assert.match(started.output(), /the process exits unexpectedly/);
    });

  it('run exits with 0 on request, whatever exit code a plugin set', async () => {
    const started = await start('process.exitCode = 3; export const filter = () => true;');
    await started.end('SIGTERM');
    assert.equal(await started.exited, 0);
  });

  it("run continues if a plugin's output can't be written", async () => {
    const code =
      'export const filter = () => { for (const s of [process.stdout, process.stderr]) s.emit("error", Object.assign(new Error("EPIPE"), { code: "EPIPE" })); return true; }';
    const started = await start(code);
    assert.equal((await post()).status, 200);
    await started.end('SIGTERM');
    assert.equal(await started.exited, 0);
  });

  it("run logs Node.js warnings, but of a plugin's warnings only the name", async () => {
    const code = `export const filter = (event) => {
      process.emitWarning('old', 'DeprecationWarning', 'DEP9');
      process.emitWarning('quoted ' + event.jid, 'PluginWarning');
      return true; }`;
    const started = await start(code);
    await post();
    await until('both', () => started.output().split('warning from Node.js').length > 2);
    const lines = started
      .output()
      .trim()
      .split('\n')
      .filter((line) => line.includes('warning from'));
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)).map(({ name, code, problem }) => ({ name, code, problem })),
      [
        { name: 'DeprecationWarning', code: 'DEP9', problem: 'old' },
        { name: 'PluginWarning', code: undefined, problem: undefined },
      ],
    );
  });
});
