/** The systemd unit, checked by systemd's own tools; and the daemon's messages to systemd. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { EXIT } from '../../src/cli/exit-codes.ts';
import { parseConfig } from '../../src/config/load.ts';
import { BIN, createDaemon, TOPICS } from '../support/daemon.ts';
import { ROOT, readDeployed } from '../support/deploy.ts';
import { launch, until } from '../support/process.ts';
import { startSns } from '../support/sns.ts';

async function temporary(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pusher-deploy-'));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

/** Runs a command; returns its output, and throws if it fails. */
function run(command: string, args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  assert.ifError(error);
  assert.equal(status, 0, `${command} ${args.join(' ')}:\n${stdout}${stderr}`);
  return stdout + stderr;
}

describe('systemd unit', () => {
  it('the unit is valid (systemd-analyze verify)', async (t) => {
    const unit = path.join(await temporary(t), 'xmpp-event-pusher.service');
    // Replaces the command, which is not installed here, by the checkout's.
    const here = `ExecStart=${process.execPath} ${BIN} `;
    await writeFile(unit, (await readDeployed('systemd/xmpp-event-pusher.service')).replace(/^ExecStart=\S+ /m, here));
    assert.equal(run('systemd-analyze', ['verify', '--man=no', unit]), '');
  });

  it("the unit's exposure is at most 2.0 (systemd-analyze security)", () => {
    const unit = path.join(ROOT, 'deploy/systemd/xmpp-event-pusher.service');
    // In tenths; a higher exposure fails.
    const report = run('systemd-analyze', ['security', '--offline=yes', '--threshold=20', unit]);
    assert.match(report, /Overall exposure level/);
  });

  it('the unit waits for the daemon, and restarts it after a watchdog timeout', async () => {
    const unit = await readDeployed('systemd/xmpp-event-pusher.service');
    for (const line of ['Type=notify', 'NotifyAccess=all', 'DynamicUser=yes', 'StateDirectory=xmpp-event-pusher'])
      assert.ok(unit.includes(`\n${line}\n`), line);
    assert.match(unit, /\nWatchdogSec=\d+\n/);
    assert.match(unit, /\nRestart=always\n/);
    const never = /\nRestartPreventExitStatus=(.*)\n/.exec(unit)?.[1]?.split(' ').map(Number);
    assert.deepEqual(never, [EXIT.usage, EXIT.configuration], 'what another start would meet again');
  });

  it("the configuration needs only the variables in the unit's environment file", async () => {
    const lines = (await readDeployed('systemd/environment.example')).split('\n').filter((line) => /^\w+=/.test(line));
    const environment = Object.fromEntries(lines.map((line) => line.split('=', 2)));
    const text = await readDeployed('systemd/pusher.toml');
    const read = (environment: NodeJS.ProcessEnv) =>
      parseConfig(text, '/etc/xmpp-event-pusher/pusher.toml', environment);
    const filled = Object.fromEntries(Object.keys(environment).map((name) => [name, 'a-value-of-its-own']));
    const config = read(filled);
    assert.equal(config.outbox.path, '/var/lib/xmpp-event-pusher/outbox.db');
    assert.deepEqual(config.variables.toSorted(), Object.keys(environment).toSorted());
    // The published example must not contain working secrets.
    for (const [name, value] of Object.entries(environment)) {
      assert.equal(value, '', name);
      assert.throws(() => read({ ...filled, [name]: '' }), {
        message:
          /: 1 mistake\n.* is \$\{\w+\}, which is empty in the environment, should be .*(not empty|16 characters or more)$/,
      });
    }
  });
});

describe('the daemon under systemd', () => {
  /** A datagram socket like systemd's, which Node.js can't create: prints each message after a line "--". */
  const LISTENER = `use Socket; socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die; bind($s, sockaddr_un($ARGV[0])) or die;
    $| = 1; print "listening\\n"; while (1) { recv($s, my $m, 8192, 0); print "--\\n$m\\n"; }`;

  it('notifies systemd of readiness, reloads, life and stop', async (t) => {
    const folder = await temporary(t);
    const socket = path.join(folder, 'notify');
    const systemd = await launch('perl', ['-e', LISTENER, socket]);
    t.after(() => systemd.end('SIGKILL'));
    await until('the socket', () => systemd.output().includes('listening'));
    const said = () =>
      systemd
        .output()
        .split('--\n')
        .slice(1)
        .map((message) => message.trim())
        .filter((message) => message !== 'BARRIER=1');
    const count = (start: string) => said().filter((message) => message.startsWith(start)).length;

    await using sns = await startSns(Object.values(TOPICS));
    await using daemon = await createDaemon(sns);
    const env = { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '600000' };
    const child = await launch(process.execPath, [BIN, 'run', '--config', daemon.configFile], { env });
    t.after(() => child.end('SIGKILL'));
    await until('readiness', () => count('READY=1') === 1);
    assert.equal((await daemon.post({ source: 's', events: [] })).status, 200, 'ready before the tap listens');
    assert.match(said()[0] ?? '', /^READY=1\nSTATUS=ready$/);
    await until('signs of life', () => count('WATCHDOG=1') >= 2);

    /** Systemd's clock, in microseconds. */
    const monotonic = () => Number(process.hrtime.bigint() / 1_000n);
    const before = monotonic();
    process.kill(child.pid, 'SIGHUP');
    await until('the end of the reload', () => count('READY=1') === 2);
    const reloading = said().findIndex((message) => message.startsWith('RELOADING=1'));
    assert.ok(reloading > 0 && said().findLastIndex((message) => message.startsWith('READY=1')) > reloading);
    const [, at] = /^RELOADING=1\nMONOTONIC_USEC=(\d+)$/.exec(said()[reloading] ?? '') ?? [];
    assert.ok(Number(at) >= before && Number(at) <= monotonic(), `${at} is no time between ${before} and now`);

    // A failed reload must end too, or `systemctl reload` would wait for ever.
    await writeFile(daemon.configFile, 'not toml');
    process.kill(child.pid, 'SIGHUP');
    await until('the end of the reload that failed', () => count('READY=1') === 3);
    assert.match(child.output(), /reload failed; the previous configuration stays in use/);

    await child.end('SIGTERM');
    await until('the stop', () => count('STOPPING=1') === 1);
    assert.equal(said().at(-1), 'STOPPING=1');
    assert.equal(await child.exited, 0);
  });
});
