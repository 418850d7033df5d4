/** The composition root: builds the pipeline from a configuration, starts it and stops it, each in one ordered list. */
import path from 'node:path';
import type { PusherConfig } from './config/load.ts';
import { type Delivery, openDelivery, owns, sectionsOf } from './delivery.ts';
import { messageOf } from './errors.ts';
import type { Notification } from './notification/notification.ts';
import { createFlow, type Flow, SAMPLE_MS } from './ops/flow.ts';
import { atAnyLevel, type Logger, logHealth } from './ops/log.ts';
import { createMetrics } from './ops/metrics.ts';
import { createAdminServer } from './ops/server.ts';
import { type NotReady, stateOf } from './ops/state.ts';
import type { Outbox, OutboxState } from './outbox/outbox.ts';
import { openSqliteOutbox } from './outbox/sqlite/sqlite.ts';
import { createIntake } from './pipeline/intake.ts';
import { createReplays } from './pipeline/replay.ts';
import { topicsOf } from './sns/account.ts';
import { readCertificate } from './taps/http/certificate.ts';
import { createHttpTap } from './taps/http/http.ts';
import type { Receive } from './taps/tap.ts';
import { version } from './version.ts';

/** A running pipeline. */
export interface Pusher {
  /** Where adapters post events. */
  readonly tapUrl: string;
  /** Where health and metrics are. */
  readonly adminUrl: string;
  /** Why it is not ready; empty when it is. */
  notReady(): readonly NotReady[];
  /**
   * Takes over what a new configuration says of topics, plugins, credentials, rates, the tap's certificate and the log
   * level; what needs a restart is named in the log. Reloads have to be asked for one after the other.
   * @throws PusherError PLUGIN_UNUSABLE, CONFIG_INVALID, LISTEN_FAILED; then all stays as it was
   */
  reload(config: PusherConfig): Promise<void>;
  /** Requests to SNS that are under way. */
  underWay(): number;
  /** Takes nothing more, lets requests under way end (10 s at most), and leaves the rest in the outbox. */
  stop(): Promise<void>;
}

/** A run that sends nothing. */
export interface DryRun {
  /** An empty folder for its outbox: what waits in the configured one is none of its business. */
  readonly folder: string;
  /** Told of each notification when SNS would have got it. */
  readonly show: (notification: Notification) => void;
}

/**
 * Builds and starts everything that a configuration asks for; resolves when the taps listen.
 * @throws PusherError PLUGIN_UNUSABLE, OUTBOX_UNUSABLE, OUTBOX_LOCKED, LISTEN_FAILED; then nothing is left running
 */
export async function startPusher(config: PusherConfig, log: Logger, dryRun?: DryRun): Promise<Pusher> {
  const stops: (() => Promise<void> | void)[] = [];
  let stopped = false;
  const stop = async () => {
    stopped = true;
    // What was started last is stopped first.
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    announce(config, log);
    const folder = path.dirname(config.file);
    const metrics = createMetrics();

    const file = dryRun ? path.join(dryRun.folder, 'outbox.db') : path.resolve(folder, config.outbox.path);
    const outbox = openSqliteOutbox({ file, maxBytes: config.outbox.max_bytes });
    stops.push(() => outbox.close());
    reportBacklog(outbox, config, log);

    const flow = createFlow();
    const setup = { outbox, log, metrics, onDelivered: flow.delivered, insteadOfSns: dryRun?.show };
    let delivery = await openDelivery(config, setup);
    /** The end of a delivery that a reload replaced. */
    let replaced = Promise.resolve();
    stops.push(async () => {
      await Promise.all([delivery.stop(), replaced]);
    });
    const topics = () => delivery.topics();

    const intake = createIntake({ outbox, routeOf: (host) => delivery.route(host), log, metrics });
    const replays = createReplays({ outbox, replay: intake.replay, log });
    let listening = false;
    const notReady = () => reasons(listening, outbox.state(), delivery, logHealth(log).fault);
    metrics.observe({ outbox: () => outbox.state(), topics, notReady, logLost: () => logHealth(log).lost });
    const admin = createAdminServer({
      options: config.admin,
      notReady,
      registry: metrics.registry,
      flow,
      state: () => stateOf({ outbox: outbox.state(), topics: topics(), notReady: notReady(), flow, now: Date.now() }),
      outboxFile: file,
      deadLetters: outbox.deadLetters,
      replay: replays.wake,
      tryTopic: (arn) => delivery.tryTopic(arn),
      log,
    });
    stops.push(() => admin.close());
    const adminUrl = await admin.listen();

    delivery.start();
    stops.push(() => replays.stop());
    replays.wake();

    const receive = counted(intake.receive, flow);
    stops.push(startSampling(flow, outbox, log));
    const tap = createHttpTap({ options: config.tap.http, folder, receive, log });
    stops.push(() => {
      listening = false;
      return tap.close();
    });
    const tapUrl = await tap.listen();
    listening = true;
    log.info(
      { version, config: config.file, tap: tapUrl, admin: adminUrl, topics: topics().map(({ arn }) => arn) },
      'running',
    );
    const reload = async (next: PusherConfig) => {
      const certificate = readCertificate(next.tap.http, folder);
      const fresh = await openDelivery(next, setup);
      // A stop does not wait for a reload.
      if (stopped) return fresh.stop();
      tap.renew(certificate);
      log.level = next.log.level;
      const before = delivery;
      delivery = fresh;
      replaced = before.stop();
      await replaced;
      if (stopped) return;
      outbox.rewind();
      delivery.start();
      announce(next, log);
      reportReload(config, next, log);
    };
    const underWay = () => topics().reduce((sum, { inFlight }) => sum + inFlight, 0);
    return { tapUrl, adminUrl, notReady, reload, underWay, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function announce(config: PusherConfig, log: Logger): void {
  if (config.ignored.length > 0)
    log.info({ sections: config.ignored }, 'sections of the configuration that are not ours, left alone');
  if (config.tap.http.secret === undefined)
    log.warn({ option: 'tap.http.secret' }, 'the tap has no secret: every process on this machine may post events');
  if (config.admin.token === undefined)
    log.warn({ option: 'admin.token' }, 'the console has no token: every process on this machine may use it');
  for (const [host, options] of sectionsOf(config)) {
    if (options && Object.keys(topicsOf(options)).length === 0)
      log.warn({ host: host || 'all' }, 'no topic is configured, so nothing is published');
    if (!options && host !== '')
      log.warn({ host }, 'host_config.modules of this host has no mod_event_pusher.sns, so nothing of it is published');
  }
}

function reportBacklog(outbox: Outbox, config: PusherConfig, log: Logger): void {
  const sections = [...sectionsOf(config).values()];
  for (const { arn, depth } of outbox.state().topics) {
    if (depth === 0) continue;
    if (sections.some((options) => options && owns(options, arn)))
      log.info({ topic: arn, notifications: depth }, 'left from the last run');
    else
      log.error(
        { topic: arn, notifications: depth },
        'left from the last run for an account or region that is not configured any more: they wait in the outbox',
      );
  }
}

/** Names what a reload can't change, where it was changed or, of the environment, may have been. */
function reportReload(running: PusherConfig, next: PusherConfig, log: Logger): void {
  if (next.variables.length > 0)
    log.info(
      { variables: next.variables },
      'the environment of a process does not change: these have the values of its start',
    );
  const options = ({ tap, outbox, admin }: PusherConfig) => {
    // Certificates are renewed; whether there is HTTPS at all is not.
    const { tls_cert, tls_key: _, ...http } = tap.http;
    return { 'tap.http': { ...http, tls: tls_cert !== undefined }, outbox, admin };
  };
  const [before, after] = [options(running), options(next)];
  const changed = Object.keys(before) as (keyof typeof before)[];
  const needRestart = changed.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  if (needRestart.length > 0)
    atAnyLevel(log).warn({ sections: needRestart }, 'reloaded; changes in these sections need a restart');
  else log.info('reloaded');
}

function reasons(
  listening: boolean,
  outbox: OutboxState,
  delivery: Delivery,
  logFault: string | undefined,
): NotReady[] {
  const found: NotReady[] = [];
  if (logFault !== undefined)
    found.push({
      what: 'log',
      reason: `can't be written: ${logFault}`,
      advice: 'mend where standard output goes: free space on its disk, or start again with a reader that reads',
    });
  if (!listening) found.push({ what: 'tap http', reason: 'does not listen' });
  const { fault, bytes, maxBytes } = outbox;
  if (fault) found.push({ what: 'outbox', reason: fault });
  if (bytes >= maxBytes)
    found.push({
      what: 'outbox',
      reason: `is full: ${bytes} of ${maxBytes} bytes`,
      advice: 'mend what keeps notifications from going out, purge dead letters, or raise outbox.max_bytes',
    });
  for (const { arn, pause } of delivery.topics())
    if (pause)
      found.push({ what: `topic ${arn}`, reason: `paused: ${pause.reason}: ${pause.detail}`, advice: pause.advice });
  for (const { arn, depth } of outbox.topics)
    if (depth > 0 && !delivery.owns(arn))
      found.push({
        what: `topic ${arn}`,
        reason: 'has notifications that nobody sends: no section is of its account and region',
        advice: 'configure a section with its region and account_id again, and reload',
      });
  return found;
}

/** Tells the flow what came in and was new. */
function counted(receive: Receive, flow: Flow): Receive {
  return async (batch) => {
    const receipt = await receive(batch);
    flow.received(receipt.accepted + receipt.rejected.length);
    return receipt;
  };
}

/** Takes samples of the flow; answers what ends that. */
export function startSampling(flow: Pick<Flow, 'sample'>, outbox: Pick<Outbox, 'state'>, log: Logger): () => void {
  let failed = false;
  const sample = () => {
    try {
      const backlog = outbox.state().topics.reduce((sum, { depth }) => sum + depth, 0);
      flow.sample(backlog, Date.now());
      failed = false;
    } catch (error) {
      if (!failed) log.error({ problem: messageOf(error) }, 'no samples of the flow: the outbox does not answer');
      failed = true;
    }
  };
  const timer = setInterval(sample, SAMPLE_MS).unref();
  return () => clearInterval(timer);
}
