/** `run`: the daemon. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { loadConfig, type PusherConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import type { Notification } from '../notification/notification.ts';
import { createLogger, type Logger } from '../ops/log.ts';
import { createNotifier, type ServiceNotifier } from '../ops/systemd.ts';
import { type DryRun, type Pusher, startPusher } from '../pusher.ts';
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
  catchFaults(log);
  const asked = nextSignal();
  // Ignored until there is something to reload; by default it would end the process.
  let pusher: Pusher | undefined;
  let stopping = false;
  let reloads = Promise.resolve();
  process.on('SIGHUP', () => {
    reloads = reloads.then(() => (pusher && !stopping ? reload(pusher, file, log, service) : undefined));
  });
  const service = createNotifier({ environment: process.env, status: () => statusOf(pusher), log });
  pusher = await startPusher(config, log, dryRun);
  tellReady(service, log);
  log.info({ signal: await asked }, 'stopping: requests under way may end, the rest stays in the outbox');
  stopping = true;
  // A reload under way would start what was just stopped, and would tell systemd that it is ready.
  await reloads;
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

/**
 * What a plugin leaves to nobody must neither end the daemon nor be printed: a message or a stack may quote what people
 * wrote. A rejection concerns what was waited for only; after an exception nothing is certain, so there a new start helps.
 */
function catchFaults(log: Logger): void {
  process.on('unhandledRejection', () => {
    log.error('a promise was rejected and nobody handles it, probably a plugin; the daemon goes on');
  });
  process.on('uncaughtException', (error: unknown) => {
    const { name, code } = (error ?? {}) as { name?: unknown; code?: unknown };
    log.fatal(
      { name: word(name), code: word(code) },
      'an exception that nobody handles, probably of a plugin: the end',
    );
    process.exit(1);
  });
}

/** A name or code as they are usual; anything else could be a text. */
const word = (value: unknown): string | undefined =>
  typeof value === 'string' && /^[A-Za-z_]\w{0,63}$/.test(value) ? value : undefined;

/** The status asks the outbox, which may not answer; then systemd is told nothing, and its watchdog decides. */
function tellReady(service: ServiceNotifier, log: Logger): void {
  try {
    void service.ready();
  } catch (error) {
    log.error({ problem: messageOf(error) }, 'systemd is not told of being ready: the outbox does not answer');
  }
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
function show({ topic, message, attributes }: Notification): void {
  const named = attributes.map(({ name, value }) => `${name}=${value}`);
  // What people wrote must not steer the terminal.
  const fields = [topic.split(':').at(-1), message, ...named].map((field) => String(field).replace(/\p{Cc}/gu, '·'));
  process.stdout.write(`${fields.join('\t')}\n`);
}

async function reload(pusher: Pusher, file: string, log: Logger, service: ServiceNotifier): Promise<void> {
  void service.reloading();
  try {
    await pusher.reload(loadConfig(file));
  } catch (error) {
    log.error({ problem: messageOf(error) }, 'not reloaded: all stays as it was');
  }
  tellReady(service, log);
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
    const signals = ['SIGTERM', 'SIGINT'] as const;
    const first = (signal: NodeJS.Signals) => {
      for (const each of signals) process.off(each, first);
      resolve(signal);
    };
    for (const signal of signals) process.on(signal, first);
  });
}
