/** Signals at every point of a daemon's life, as a process of its own and as process 1 of a container. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BIN, createDaemon, type Daemon } from '../../test/support/daemon.ts';
import { launch, type Process, until } from '../../test/support/process.ts';
import { type StubSns, startStubSns } from '../../test/support/stub-sns.ts';

/** Blocks the loading of the program itself until there is a file `go`, as a slow disk would; says when it does. */
const SLOW_LOADING = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module';
  import { existsSync, writeSync } from 'node:fs';
  registerHooks({ load(url, context, next) {
    if (url.endsWith('/cli/main.ts')) {
      writeSync(2, 'loading the program\\n');
      while (!existsSync(process.env.GO)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
    return next(url, context);
  } });`)}`;

/** Never loaded. */
const HANGING = "console.error('loading the plugin'); await new Promise(() => setInterval(() => {}, 1_000));";

/** The signals that ask to stop, and the exit code after the second. */
const PAIRS = [
  ['SIGINT', 'SIGINT', 130],
  ['SIGTERM', 'SIGINT', 130],
  ['SIGINT', 'SIGTERM', 143],
] as const;

describe('a signal', { timeout: 280_000 }, () => {
  let sns: StubSns;
  let daemon: Daemon;
  let processes: { child: Process; pid: number }[];
  before(async () => {
    sns = await startStubSns({ fault: () => ({ kind: 'slow', ms: 60_000 }) });
  });
  after(() => sns[Symbol.asyncDispose]());
  beforeEach(async () => {
    processes = [];
    daemon = await createDaemon({ url: sns.url, region: 'eu-west-1', accountId: '123456789012' });
  });
  afterEach(async () => {
    for (const { child, pid } of processes) {
      if (child.running) process.kill(pid, 'SIGKILL');
      await child.exited;
    }
    await daemon[Symbol.asyncDispose]();
  });

  /** Runs a command; answers it with the pid to send signals to. */
  const start = async (asFirst: boolean, args: string[], options: { nodeArgs?: string[] } = {}) => {
    const node = [...(options.nodeArgs ?? []), BIN, ...args, '--config', daemon.configFile];
    const env = { ...process.env, GO: path.join(daemon.folder, 'go') };
    const [command, words] = asFirst
      ? ['unshare', ['--pid', '--fork', '--kill-child', process.execPath, ...node]]
      : [process.execPath, node];
    const child = await launch(command, words, { env });
    let pid = child.pid;
    if (asFirst)
      await until('process 1', () => {
        const [found] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
        pid = Number(found);
        return pid > 0;
      });
    const started = { child, pid, kill: (signal: NodeJS.Signals) => process.kill(pid, signal) };
    processes.push(started);
    return started;
  };
  const says = (child: Process, text: string) => until(text, () => child.output().includes(text));
  const plugin = async (code: string) => {
    await writeFile(path.join(daemon.folder, 'plugin.mjs'), code);
    await daemon.configure({ sns: 'plugin_module = "./plugin.mjs"' });
  };
  /** A daemon that a stop has to wait for: a request to SNS is under way. */
  const busy = async (asFirst: boolean) => {
    const started = await start(asFirst, ['run']);
    await says(started.child, '"msg":"running"');
    const requests = sns.requests;
    const event = { kind: 'presence', at: 1, host: 'h', jid: 'a@h/x', present: true };
    assert.equal((await daemon.post({ source: 's', events: [event] })).status, 200);
    await until('the request', () => sns.requests > requests);
    return started;
  };

  for (const asFirst of [false, true]) {
    const where = asFirst ? 'as process 1' : 'as any process';

    for (const signal of asFirst ? (['SIGTERM'] as const) : (['SIGTERM', 'SIGINT'] as const))
      it(`obeys ${signal} while the program is loading, ${where}`, async () => {
        const { child, kill } = await start(asFirst, ['run'], { nodeArgs: ['--import', SLOW_LOADING] });
        await says(child, 'loading the program');
        kill(signal);
        await writeFile(path.join(daemon.folder, 'go'), '');
        assert.equal(await child.exited, 0);
        assert.match(child.output(), new RegExp(`"signal":"${signal}","msg":"stopped during startup"`));
        assert.doesNotMatch(child.output(), /"msg":"running"/);
      });

    it(`a signal ends a hanging start, ${where}`, async () => {
      await plugin(HANGING);
      const { child, kill } = await start(asFirst, ['run']);
      await says(child, 'loading the plugin');
      kill('SIGTERM');
      assert.equal(await child.exited, 0);
    });

    for (const [first, second, code] of asFirst ? PAIRS.slice(0, 1) : PAIRS)
      it(`${second} ends at once a daemon that is stopping after ${first}, ${where}`, async () => {
        const { child, kill } = await busy(asFirst);
        kill(first);
        await says(child, 'waiting for requests under way');
        kill(second);
        assert.equal(await child.exited, code);
      });

    it(`a signal ends a command other than the daemon, ${where}`, async () => {
      await daemon.start();
      const { child, kill } = await start(asFirst, ['tail']);
      // It says nothing while nothing is published, so nothing tells when it listens: hence several.
      await until('the end', async () => {
        if (!child.running) return true;
        kill('SIGTERM');
        await sleep(50);
        return false;
      });
      assert.equal(await child.exited, asFirst ? 143 : null);
    });
  }

  it('the same signal twice, from a terminal and a wrapper, counts once', async () => {
    const { child, kill } = await busy(false);
    kill('SIGINT');
    kill('SIGINT');
    kill('SIGTERM');
    await says(child, 'waiting for requests under way');
    assert.ok(child.running);
  });

  it('SIGHUP during the start causes a reload afterwards', async () => {
    const { child, kill } = await start(false, ['run'], { nodeArgs: ['--import', SLOW_LOADING] });
    await says(child, 'loading the program');
    kill('SIGHUP');
    await writeFile(path.join(daemon.folder, 'go'), '');
    await says(child, '"msg":"reloaded"');
    assert.match(child.output(), /"msg":"running"[\s\S]*"msg":"reloaded"/);
    kill('SIGTERM');
    assert.equal(await child.exited, 0);
  });
});
