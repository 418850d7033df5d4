/** If the log can't be written, the daemon continues and reports it elsewhere. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { BIN, createDaemon, type Daemon } from './support/daemon.ts';
import { until } from './support/process.ts';

describe('a log that can not be written', () => {
  let daemon: Daemon;
  beforeEach(async () => {
    daemon = await createDaemon({ url: 'http://127.0.0.1:9', region: 'eu-west-1', accountId: '123456789012' });
  });
  afterEach(() => daemon[Symbol.asyncDispose]());

  /** Runs the daemon with this standard output; returns the process and its standard error. */
  const run = (stdout: number | 'pipe') => {
    const child = spawn(process.execPath, [BIN, 'run', '--config', daemon.configFile], {
      stdio: ['ignore', stdout, 'pipe'],
    });
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    return { child, said: () => said, ended: once(child, 'close') };
  };
  const notReady = async (): Promise<string> => (await fetch(`${daemon.adminUrl}/readyz`)).text();
  const lost = async (): Promise<number> => {
    const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
    return Number(/^xmpp_event_pusher_log_lines_lost_total (\d+)$/m.exec(metrics)?.[1]);
  };
  /** Each event causes a log line. */
  const post = async (count = 1) => {
    const events = Array.from({ length: count }, () => ({ kind: 'unheard-of' }));
    return (await daemon.post({ source: 's', events })).status;
  };

  it('with its log on a full device takes events, counts lost lines, and reports why on /readyz and standard error', async () => {
    const { child, said, ended } = run(openSync('/dev/full', 'w'));
    try {
      await until('the daemon', async () => (await notReady()).includes('ENOSPC'));
      const before = await lost();
      assert.equal(await post(), 200);
      await until('a line that is lost', async () => (await lost()) > before);
      assert.match(said(), /^xmpp-event-pusher: the log can't be written: ENOSPC[^\n]*\n$/);
      assert.match(await notReady(), /"what":"log","reason":"can't be written: ENOSPC[^"]*","advice":"/);
    } finally {
      child.kill('SIGTERM');
    }
    assert.deepEqual(await ended, [0, null]);
  });

  it('with its log on a full device exits with 1 after an unhandled exception', async () => {
    const code = 'export const filter = () => { setImmediate(() => { throw new Error(); }); return true; }';
    await writeFile(path.join(daemon.folder, 'plugin.mjs'), code);
    await daemon.configure({ sns: 'plugin_module = "./plugin.mjs"' });
    const { ended } = run(openSync('/dev/full', 'w'));
    await until('the daemon', async () => (await fetch(`${daemon.adminUrl}/healthz`)).ok);
    const event = { kind: 'presence', at: 1, host: 'h', jid: 'a@h/x', present: true };
    await daemon.post({ source: 's', events: [event] }).catch(() => {});
    assert.deepEqual(await ended, [1, null]);
  });

  it('a daemon whose log has no reader continues, and is not ready', async () => {
    const { child, said, ended } = run('pipe');
    try {
      await once(child.stdout ?? child, 'data');
      child.stdout?.destroy();
      await until('the daemon', async () => (await fetch(`${daemon.adminUrl}/healthz`)).ok);
      await until('the fault', async () => (await post()) === 200 && (await notReady()).includes('EPIPE'));
      assert.match(said(), /the log can't be written: EPIPE/);
    } finally {
      child.kill('SIGTERM');
    }
    assert.deepEqual(await ended, [0, null]);
  });

  it('a daemon whose log is not read continues', async () => {
    const { child, said, ended } = run('pipe');
    try {
      child.stdout?.pause();
      await until('the daemon', async () => (await fetch(`${daemon.adminUrl}/healthz`)).ok);
      await until(
        'the fault',
        async () => (await post(900)) === 200 && (await notReady()).includes('its reader does not read'),
        120_000,
      );
      assert.match(said(), /the log can't be written: its reader does not read/);
    } finally {
      child.kill('SIGTERM');
    }
    assert.deepEqual(await ended, [0, null]);
  });
});
