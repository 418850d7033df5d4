import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import pino from 'pino';
import { createNotifier, watchdogInterval } from './systemd.ts';

/** A systemd that keeps what it is told. */
function setup(environment: Record<string, string> = {}, status: () => string = () => 'fine') {
  const told: string[][] = [];
  const lines: string[] = [];
  const log = pino({ base: undefined }, { write: (line: string) => void lines.push(line) });
  const send = async (variables: readonly string[]) => void told.push([...variables]);
  const notifier = createNotifier({ environment: { NOTIFY_SOCKET: '/x', ...environment }, status, log, send });
  return { notifier, told, lines };
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

function timers(t: TestContext): void {
  t.mock.timers.enable({ apis: ['setInterval'] });
}

describe('what systemd is told', () => {
  it('sends nothing without systemd', async () => {
    const { notifier, told } = setup({ NOTIFY_SOCKET: '' });
    await notifier.ready();
    await notifier.reloading();
    await notifier.stopping();
    assert.deepEqual(told, []);
  });

  it('sends readiness with a one-line status, reloads with their time, and the stop', async () => {
    const { notifier, told } = setup({}, () => 'two\nlines');
    await Promise.all([notifier.ready(), notifier.reloading(), notifier.ready(), notifier.stopping()]);
    assert.deepEqual(
      told.map(([first]) => first),
      ['READY=1', 'RELOADING=1', 'READY=1', 'STOPPING=1'],
    );
    assert.equal(told[0]?.[1], 'STATUS=two lines');
    assert.match(String(told[1]?.[1]), /^MONOTONIC_USEC=\d+$/);
  });

  it('sends a watchdog message three times in WatchdogSec, from readiness to the stop', async (t) => {
    timers(t);
    const { notifier, told } = setup({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: String(process.pid) });
    t.mock.timers.tick(60_000);
    assert.deepEqual(told, []);
    await notifier.ready();
    t.mock.timers.tick(9_999);
    await settle();
    assert.equal(told.length, 1);
    t.mock.timers.tick(1);
    await settle();
    assert.deepEqual(told.at(-1), ['WATCHDOG=1', 'STATUS=fine']);
    // A reload's readiness starts no second clock.
    await notifier.ready();
    told.length = 0;
    t.mock.timers.tick(10_000);
    await settle();
    assert.equal(told.length, 1);
    await notifier.stopping();
    told.length = 0;
    t.mock.timers.tick(60_000);
    await settle();
    assert.deepEqual(told, []);
  });

  it('sends no watchdog messages while the outbox does not answer', async (t) => {
    timers(t);
    let works = true;
    const status = () => {
      if (!works) throw new Error('database is not open');
      return 'fine';
    };
    const { notifier, told, lines } = setup({ WATCHDOG_USEC: '3000000' }, status);
    await notifier.ready();
    told.length = 0;
    works = false;
    t.mock.timers.tick(1_000);
    await settle();
    assert.deepEqual(told, []);
    assert.match(lines.join(''), /watchdog signal .* skipped.*|database is not open/);
    works = true;
    t.mock.timers.tick(1_000);
    await settle();
    assert.equal(told.length, 1);
  });

  it('does not queue messages while systemd does not read', async (t) => {
    timers(t);
    const { promise, resolve } = Promise.withResolvers<void>();
    let sent = 0;
    const send = () => {
      sent += 1;
      return promise;
    };
    const environment = { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '3000000' };
    const notifier = createNotifier({ environment, status: () => '', log: pino({ level: 'silent' }), send });
    const ready = notifier.ready();
    t.mock.timers.tick(10_000);
    await settle();
    assert.equal(sent, 1);
    resolve();
    await ready;
  });

  it("logs a message that it can't send, and continues", async () => {
    const lines: string[] = [];
    const log = pino({ base: undefined }, { write: (line: string) => void lines.push(line) });
    const send = () => Promise.reject(new Error('spawn systemd-notify ENOENT'));
    const notifier = createNotifier({ environment: { NOTIFY_SOCKET: '/x' }, status: () => '', log, send });
    await notifier.ready();
    await notifier.stopping();
    assert.equal(lines.length, 2);
    assert.match(lines.join(''), /systemd-notify ENOENT/);
  });
});

describe('the watchdog interval', () => {
  it('the interval is a third of WatchdogSec, if that is meant for this process', () => {
    const pid = String(process.pid);
    assert.equal(watchdogInterval({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: pid }), 20_000);
    assert.equal(watchdogInterval({ WATCHDOG_USEC: '60000000' }), 20_000);
    assert.equal(watchdogInterval({ WATCHDOG_USEC: '60000000', WATCHDOG_PID: '1' }), undefined);
    for (const WATCHDOG_USEC of ['0', '', 'soon', '-5']) assert.equal(watchdogInterval({ WATCHDOG_USEC }), undefined);
    assert.equal(watchdogInterval({}), undefined);
  });
});
