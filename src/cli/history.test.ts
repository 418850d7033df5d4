import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it, type TestContext } from 'node:test';
import { commandLine } from '../../test/support/command-line.ts';
import { writeConfigFile } from '../../test/support/config-file.ts';
import { until } from '../../test/support/process.ts';
import { loadConfig } from '../config/load.ts';
import { type Daemon, startDaemon } from '../daemon.ts';
import { createLogger } from '../ops/log.ts';

describe('history', () => {
  let folder: string;
  let config: string;
  let daemon: Daemon | undefined;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'history-'));
    config = await writeConfigFile(folder, '[log]\nlevel = "silent"');
    daemon = await startDaemon(loadConfig(config), createLogger('silent'));
  });
  afterEach(async () => {
    await daemon?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const post = (first_seq: number, event: object) =>
    fetch(daemon?.tapUrl ?? '', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ source: 'prosody@a', epoch: 'e1', first_seq, events: [event] }),
    });
  const lines = async (t: TestContext, ...args: string[]) => {
    const { code, output } = await commandLine(t, 'history', ...args, '--config', config);
    assert.equal(code, 0, output);
    return output.trim().split('\n');
  };

  it("history lists starts, stops, reloads, holes and operators' actions, also without a daemon", async (t) => {
    await daemon?.reload(() => loadConfig(config));
    await assert.rejects(async () => daemon?.reload(() => loadConfig('/nowhere/pusher.toml')));
    await post(1, { kind: 'presence' });
    await post(5, { kind: 'presence' });
    await commandLine(t, 'dead-letters', 'replay', '1', '--config', config);
    await commandLine(t, 'sources', 'acknowledge', '--all', '--config', config);
    await commandLine(t, 'sources', 'retire', 'prosody@a', '--config', config);
    let listed: string[] = [];
    await until('what people did', async () => {
      listed = (await lines(t)).map((line) => line.split('\t').slice(1).join(' '));
      return listed.some((line) => line.startsWith('retire'));
    });
    const withoutCause = listed.map((line) => line.replace(/^(reload-failed [^:]*): can't read .*$/, '$1'));
    assert.deepEqual(withoutCause, [
      'start the daemon started',
      'reload the configuration',
      'reload-failed the configuration',
      'hole prosody@a: 3 events never came',
      'replay 1 dead letter',
      'acknowledge 1 hole',
      'retire prosody@a',
    ]);
    await daemon?.stop();
    daemon = undefined;
    assert.match((await lines(t, '--limit', '1')).join('\n'), /^\S+\tstop\tthe daemon stopped$/);
    const { moments, minutes } = JSON.parse((await lines(t, '--json')).join(''));
    assert.equal(moments.length, 8);
    assert.ok(Array.isArray(minutes));
  });
});
