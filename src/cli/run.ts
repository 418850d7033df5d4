/** `run`: the daemon. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Command } from 'commander';
import type { PusherConfig } from '../config/load.ts';
import { type Daemon, type DryRun, startDaemon } from '../daemon.ts';
import { messageOf } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import { createLogger, type Logger } from '../ops/log.ts';
import { createNotifier, type ServiceNotifier } from '../ops/systemd.ts';
import { type ConfigFlags, readConfig } from './configuration.ts';
import { catchFaults } from './faults.ts';
import { configurable } from './options.ts';
import { printFields } from './print.ts';
import { listenToSignals, type Signals } from './signals.ts';

export function runCommand(): Command {
  return configurable(new Command('run'))
    .description(
      'Receive events from XMPP servers and publish them until SIGTERM or SIGINT. SIGHUP reloads the configuration.',
    )
    .option('--dry-run', 'print notifications instead of sending them; nothing is kept')
    .action(async ({ dryRun, ...flags }: ConfigFlags & { dryRun?: boolean }) => {
      const config = readConfig(flags);
      // A reload reads the same file, even if another one has appeared since.
      const again = () => readConfig({ ...flags, config: config.file });
      if (dryRun) await runDry(config, again);
      else await run({ config, again, log: createLogger(config.log) });
      // A requested stop, whatever exit code a plugin has set.
      process.exitCode = 0;
    });
}

interface RunSetup {
  readonly config: PusherConfig;
  /** Reads the configuration again, for a reload. */
  readonly again: () => PusherConfig;
  readonly log: Logger;
  readonly dryRun?: DryRun;
}

/** Runs as the only daemon of this process. */
async function run(setup: RunSetup): Promise<void> {
  const signals = listenToSignals();
  catchFaults(setup.log, signals);
  await runUntilStopped(setup, signals);
}

/**
 * Runs until a signal requests a stop, and reloads on request.
 * @throws as `startDaemon`
 */
export async function runUntilStopped({ config, again, log, dryRun }: RunSetup, signals: Signals): Promise<void> {
  let daemon: Daemon | undefined;
  const service = createNotifier({ environment: process.env, status: () => statusOf(daemon), log });
  // Loading the program takes one turn of the event loop, during which no signal is handled.
  await nextTurn();
  const starting = signals.stopAsked() ? undefined : startDaemon(config, log, dryRun);
  daemon = await Promise.race([starting, signals.stop.then(() => undefined)]);
  if (!daemon) {
    // A hanging start, such as a plugin that waits for a database, would delay the stop. It ends with the process.
    starting?.catch(() => {});
    log.info({ signal: await signals.stop }, 'stopped during startup');
    await service.stopping();
    return;
  }
  tellReady(service, log);
  const started = daemon;
  let reloads = Promise.resolve();
  signals.onReload(() => {
    reloads = reloads.then(() => (signals.stopAsked() ? undefined : reload(started, again, { log, service, signals })));
  });
  log.info(
    { signal: await signals.stop },
    'stopping: waiting for the requests under way; the rest stays in the outbox',
  );
  const told = service.stopping();
  const waiting = setInterval(
    () => log.info({ requests: started.underWay() }, 'waiting for requests under way'),
    1_000,
  );
  await started.stop();
  clearInterval(waiting);
  await told;
  log.info('stopped');
}

/** The status reads the outbox, which may not answer; then nothing is sent to systemd, and its watchdog decides. */
function tellReady(service: ServiceNotifier, log: Logger): void {
  try {
    void service.ready();
  } catch (error) {
    log.error({ problem: messageOf(error) }, "can't report readiness to systemd: the outbox does not answer");
  }
}

async function runDry(config: PusherConfig, again: () => PusherConfig): Promise<void> {
  // Standard output is for the notifications, so the log goes to standard error.
  const log = createLogger(config.log, process.stderr);
  log.warn('dry run: nothing is sent; events are acknowledged, printed and not kept');
  process.stdout.on('error', (error) => {
    log.error({ problem: messageOf(error) }, "dry run: can't write to standard output; stopping");
    process.exit(1);
  });
  await run({ config, again, log, dryRun: show });
}

/** One line: the topic, the message, and the attributes if there are any. */
function show({ topic, message, attributes }: Notification): void {
  const named = attributes.map(({ name, value }) => `${name}=${value}`);
  printFields(topic.split(':').at(-1) ?? topic, message, ...named);
}

interface ReloadSetup {
  readonly log: Logger;
  readonly service: ServiceNotifier;
  readonly signals: Signals;
}

async function reload(
  daemon: Daemon,
  again: () => PusherConfig,
  { log, service, signals }: ReloadSetup,
): Promise<void> {
  void service.reloading();
  try {
    await daemon.reload(again);
  } catch (error) {
    if (!signals.stopAsked())
      log.error({ problem: messageOf(error) }, 'reload failed; the previous configuration stays in use');
  }
  // A stop doesn't wait for a reload, and a stopping daemon must not report to systemd that it is ready.
  if (!signals.stopAsked()) tellReady(service, log);
}

/** One line for `systemctl status`. */
function statusOf(daemon: Daemon | undefined): string {
  const reasons = daemon?.notReady() ?? [];
  if (reasons.length === 0) return 'ready';
  return `not ready: ${reasons.map(({ what, reason }) => `${what} ${reason}`).join('; ')}`;
}
