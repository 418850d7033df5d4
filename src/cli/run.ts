/** `run`: the daemon. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { loadConfig, type PusherConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import { createLogger, type Logger } from '../log.ts';
import type { Notification } from '../notification/notification.ts';
import { type DryRun, type Pusher, startPusher } from '../pusher.ts';
import { createNotifier, type ServiceNotifier } from '../systemd.ts';
import { configOption } from './options.ts';

export function runCommand(): Command {
  return new Command('run')
    .description('Take events from XMPP servers and publish them, until SIGTERM or SIGINT. SIGHUP reloads.')
    .addOption(configOption())
    .option('--dry-run', 'print notifications instead of sending them; what comes meanwhile is not kept')
    .action(async ({ config: file, dryRun }: { config: string; dryRun?: boolean }) => {
      const config = loadConfig(file);
      if (dryRun) await runDry(config, file);
      else await run(config, file, createLogger(config.log.level));
    });
}

/** Until a signal asks to stop. */
async function run(config: PusherConfig, file: string, log: Logger, dryRun?: DryRun): Promise<void> {
  const asked = nextSignal();
  // Ignored until there is something to reload; by default it would end the process.
  let pusher: Pusher | undefined;
  let reloads = Promise.resolve();
  process.on('SIGHUP', () => {
    reloads = reloads.then(() => pusher && reload(pusher, file, log, service));
  });
  const service = createNotifier({ environment: process.env, status: () => statusOf(pusher), log });
  pusher = await startPusher(config, log, dryRun);
  void service.ready();
  log.info({ signal: await asked }, 'stopping: requests under way may end, the rest stays in the outbox');
  const told = service.stopping();
  const started = pusher;
  const waiting = setInterval(
    () => log.info({ requests: started.underWay() }, 'waiting for requests under way'),
    1_000,
  );
  await pusher.stop();
  clearInterval(waiting);
  await told;
  log.info('stopped');
}

async function runDry(config: PusherConfig, file: string): Promise<void> {
  // Standard output is for the notifications, so the log goes to standard error.
  const log = createLogger(config.log.level, process.stderr);
  log.warn('dry run: nothing is sent; events that come meanwhile are acknowledged, printed and not kept');
  const folder = mkdtempSync(path.join(tmpdir(), 'xmpp-event-pusher-'));
  try {
    await run(config, file, log, { folder, show });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One line: the topic, the message, and the attributes if there are any. */
function show({ topicArn, message, attributes }: Notification): void {
  const named = attributes.map(({ name, value }) => `${name}=${value}`);
  process.stdout.write(`${[topicArn.split(':').at(-1), message, ...named].join('\t')}\n`);
}

async function reload(pusher: Pusher, file: string, log: Logger, service: ServiceNotifier): Promise<void> {
  void service.reloading();
  try {
    await pusher.reload(loadConfig(file));
  } catch (error) {
    log.error({ problem: messageOf(error) }, 'not reloaded: all stays as it was');
  }
  void service.ready();
}

/** One line for `systemctl status`. */
function statusOf(pusher: Pusher | undefined): string {
  const reasons = pusher?.notReady() ?? [];
  if (reasons.length === 0) return 'ready';
  return `not ready: ${reasons.map(({ what, reason }) => `${what} ${reason}`).join('; ')}`;
}

/** The first signal to stop; at a second one the process ends at once, as it would by default. */
function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
}
