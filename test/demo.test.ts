/**
 * The demo as a user runs it: with a real Prosody, with recorded events, and with a Prosody that does not start. It
 * cleans up.
 */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { launch, until } from './support/process.ts';
import { mountSmallDisk } from './support/tmpfs.ts';

const DEMO = fileURLToPath(new URL('../scripts/demo.ts', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'demo-'));
  // If root runs the tests, Prosody runs as another user.
  await chmod(folder, 0o755);
});
afterEach(async () => {
  const [files, processes] = [await readdir(folder), await processesIn(folder)];
  await rm(folder, { recursive: true, force: true });
  assert.deepEqual(files, [], 'files are left behind');
  assert.deepEqual(processes, [], 'processes are left behind');
});

/** Command lines of processes whose environment or arguments contain the folder. */
async function processesIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'latin1').catch(() => '');
    const line = await read('cmdline');
    if (line.includes(folder) || (await read('environ')).includes(folder)) found.push(line.replaceAll('\0', ' '));
  }
  return found;
}

const start = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  launch(process.execPath, [DEMO, ...args], { env: { ...process.env, TMPDIR: folder, ...env } });

async function demo(args: string[], env: NodeJS.ProcessEnv = {}): Promise<{ code: number | null; output: string }> {
  const run = await start(args, env);
  const code = await run.exited;
  return { code, output: stripVTControlCharacters(run.output()) };
}

describe('the demo', { timeout: 120_000 }, () => {
  it('the demo shows what a subscriber receives when two people chat on a real Prosody', async () => {
    const { code, output } = await demo([]);
    assert.equal(code, 0, output);
    assert.match(output, /\nAll came\. 7 notifications expected, 7 received: Prosody → adapter → daemon → SNS → SQS\n/);
    assert.doesNotMatch(output, /recorded/);
  });

  it('the demo plays recorded events on request', async () => {
    const { code, output } = await demo(['--recorded']);
    assert.equal(code, 0, output);
    assert.match(
      output,
      /\nAll came\. 6 notifications expected, 6 received: recorded events → tap → daemon → SNS → SQS\n/,
    );
  });

  it('the demo plays recorded events if Prosody does not start, and says why', async () => {
    const bin = await mkdtemp(path.join(tmpdir(), 'bin-'));
    try {
      await writeFile(path.join(bin, 'prosody'), '#!/bin/sh\necho "lua is broken"\nexit 1\n');
      for (const place of [bin, path.join(bin, 'prosody')]) await chmod(place, 0o755);
      const { code, output } = await demo([], { PATH: `${bin}:${process.env.PATH}` });
      assert.equal(code, 0, output);
      assert.match(
        output,
        /Prosody is installed but does not start \([^)]*lua is broken\): recorded events are posted/,
      );
      assert.match(output, /\nAll came\. .*: recorded events → tap → /);
    } finally {
      await rm(bin, { recursive: true, force: true });
    }
  });

  it('the demo prints its options with --help', async () => {
    const { code, output } = await demo(['--help']);
    assert.equal(code, 0);
    for (const option of ['--keep', '--recorded']) assert.ok(output.includes(option), output);
  });

  it('the demo names an unknown option', async () => {
    const { code, output } = await demo(['--recordd']);
    assert.equal(code, 2);
    assert.match(output, /^Unknown option '--recordd'.*\n\nnpm run demo -- \[options\]\n/);
  });

  it('the demo names a full disk, and no line of its program', async () => {
    await using disk = await mountSmallDisk('4k');
    const { code, output } = await demo(['--recorded'], { TMPDIR: disk.folder });
    assert.equal(code, 1);
    assert.match(output, /^\nThe demo failed: .*(no space left on device|the disk is full)/s);
    assert.doesNotMatch(output, /^ {4}at /m);
    assert.deepEqual(await readdir(disk.folder), []);
  });

  it('the demo stops everything when its terminal is closed', async () => {
    const run = await start(['--keep']);
    await until('the end of the story', () => /log in with your own XMPP client/.test(run.output()) || !run.running);
    process.kill(run.pid, 'SIGHUP');
    assert.equal(await run.exited, 129, run.output());
  });

  for (const way of ['with a real Prosody', 'by npm, which is killed'])
    it(`the demo stops everything when it is killed, ${way}`, async () => {
      const run = way.includes('npm')
        ? await launch('npm', ['run', 'demo', '--ignore-scripts', '--recorded', '--', '--keep'], {
            cwd: path.dirname(path.dirname(DEMO)),
            env: { ...process.env, TMPDIR: folder },
          })
        : await start(['--keep']);
      await until('its first step', () => / came online/.test(run.output()) || !run.running);
      assert.equal(/recorded events/.test(run.output()), way.includes('npm'), 'npm passes the flag before -- on');
      await run.end('SIGKILL');
      await until('all to be gone', async () => {
        const [files, processes] = [await readdir(folder), await processesIn(folder)];
        return files.length + processes.length === 0;
      });
    });

  for (const when of ['at once', 'while it keeps running'])
    it(`the demo stops everything at a Ctrl-C ${when}`, async () => {
      const run = await start(['--recorded', '--keep']);
      const isTime = async () =>
        when === 'at once' ? (await readdir(folder)).length > 0 : run.output().includes('with your own XMPP client');
      await until('it to begin', async () => (await isTime()) || !run.running);
      await run.end('SIGINT');
      assert.equal(await run.exited, when === 'at once' ? 130 : 0, run.output());
    });

  it('the demo stops everything when its output is not read', async () => {
    const run = await launch('sh', ['-c', `"$0" "$1" --recorded --keep | head -n 2`, process.execPath, DEMO], {
      env: { ...process.env, TMPDIR: folder },
    });
    assert.equal(await run.exited, 0, run.output());
    await until('the demo to be gone', async () => (await processesIn(folder)).length === 0);
  });
});
