/** The demo, as a user runs it: with a real Prosody, with recorded events, and with a Prosody that does not start. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { launch } from './support/process.ts';

const DEMO = fileURLToPath(new URL('../scripts/demo.ts', import.meta.url));

async function demo(args: string[], env: NodeJS.ProcessEnv = {}): Promise<{ code: number | null; output: string }> {
  const run = await launch(process.execPath, [DEMO, ...args], { env: { ...process.env, ...env } });
  const code = await run.exited;
  return { code, output: stripVTControlCharacters(run.output()) };
}

describe('the demo', { timeout: 120_000 }, () => {
  it('shows what a subscriber receives of two people on a real Prosody', async () => {
    const { code, output } = await demo([]);
    assert.equal(code, 0, output);
    assert.match(output, /\nAll came\. 7 notifications expected, 7 received: Prosody → adapter → daemon → SNS → SQS\n/);
    assert.doesNotMatch(output, /recorded/);
  });

  it('plays recorded events when that is wanted', async () => {
    const { code, output } = await demo(['--recorded']);
    assert.equal(code, 0, output);
    assert.match(
      output,
      /\nAll came\. 6 notifications expected, 6 received: recorded events → tap → daemon → SNS → SQS\n/,
    );
  });

  it('plays recorded events when Prosody does not start, and says why', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'demo-'));
    try {
      await writeFile(path.join(folder, 'prosody'), '#!/bin/sh\necho "lua is broken"\nexit 1\n');
      for (const place of [folder, path.join(folder, 'prosody')]) await chmod(place, 0o755);
      const { code, output } = await demo([], { PATH: `${folder}:${process.env.PATH}` });
      assert.equal(code, 0, output);
      assert.match(
        output,
        /Prosody is installed but does not start \([^)]*lua is broken\): recorded events are posted/,
      );
      assert.match(output, /\nAll came\. .*: recorded events → tap → /);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('names its options', async () => {
    const { code, output } = await demo(['--help']);
    assert.equal(code, 0);
    for (const option of ['--keep', '--recorded']) assert.ok(output.includes(option), output);
  });
});
