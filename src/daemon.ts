/** The daemon: builds a pusher from a configuration, with an admin address. */
import { realpathSync } from 'node:fs';
import path from 'node:path';
import { Registry } from 'prom-client';
import { isFromEnvFile } from './config/env-file.ts';
import { type PusherConfig, sectionsOf } from './config/load.ts';
import type { SnsOptions } from './config/sns-options.ts';
import { messageOf } from './errors.ts';
import { MOST_RAW_ATTRIBUTES, mostAttributes } from './notification/additions.ts';
import type { Notification } from './notification/notification.ts';
import { openOutbox, outboxFileOf } from './open-outbox.ts';
import { addConditionMetric, type Conditions, createConditions } from './ops/conditions.ts';
import { type Contacts, createContacts } from './ops/contacts.ts';
import { createFlow, type Flow, SAMPLE_MS } from './ops/flow.ts';
import { createHistory, type HistoryKeeper, noting } from './ops/history.ts';
import { atAnyLevel, type Logger, logHealth } from './ops/log.ts';
import { addDiskMetrics, addProcessMetrics } from './ops/metrics.ts';
import { createReplayCounter } from './ops/replays.ts';
import { createAdminServer } from './ops/server.ts';
import { stateOf } from './ops/state.ts';
import { addTraceMetrics } from './ops/trace.ts';
import { memoryOutbox } from './outbox/memory.ts';
import type { Outbox } from './outbox/outbox.ts';
import { reportTo } from './pipeline/report.ts';
import { startRetention } from './pipeline/retention.ts';
import { createPusher, type Pusher, type Routing } from './pusher.ts';
import type { NotReady } from './readiness.ts';
import { owns, topicsOf } from './sns/account.ts';
import { snsSettingsOf } from './sns/settings.ts';
import { readCertificate } from './taps/http/certificate.ts';
import { httpTap } from './taps/http/http.ts';
import { rabbitTap } from './taps/rabbitmq/rabbitmq.ts';
import { rabbitTapSettings } from './taps/rabbitmq/settings.ts';
import type { Tap } from './taps/tap.ts';
import { traceBeside } from './trace/messages.ts';
import { startTrace, type Trace } from './trace/trace.ts';
import { version } from './version.ts';

/** A running daemon. */
export interface Daemon {
  /** The URL where adapters post events. */
  readonly tapUrl: string;
  /** The URL of health and metrics. */
  readonly adminUrl: string;
  /** Why it is not ready; empty if it is. */
  notReady(): readonly NotReady[];
  /**
   * Applies the topics, plugins, credentials, rates, tap certificate and log level of the configuration returned by
   * `read`; logs changes that need a restart. Call reloads one after another.
   * @throws errors of `read`, PusherError PLUGIN_UNUSABLE, CONFIG_INVALID, LISTEN_FAILED; then nothing changes
   */
  reload(read: () => PusherConfig): Promise<void>;
  /** Open requests to SNS. */
  underWay(): number;
  /** Stops accepting events, waits up to 10 s for open requests, and leaves the rest in the outbox. */
  stop(): Promise<void>;
}

/** For a dry run, which sends and keeps nothing: called with each notification instead of SNS. */
export type DryRun = (notification: Notification) => void;

/**
 * Builds and starts the configured parts; resolves when the taps listen.
 * @throws PusherError PLUGIN_UNUSABLE, OUTBOX_UNUSABLE, OUTBOX_LOCKED, LISTEN_FAILED; then everything is stopped
 */
export async function startDaemon(config: PusherConfig, log: Logger, dryRun?: DryRun): Promise<Daemon> {
  const stops: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    // Stop in reverse order: the admin address shows the progress until the end.
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    announce(config, log);
    const folder = path.dirname(config.file);
    const { max_bytes: maxBytes } = config.outbox;
    const file = dryRun ? undefined : outboxFileOf(config);
    const { listen, secret } = config.tap.http;
    const tap = httpTap({ listen, secret, certificate: readCertificate(config.tap.http, folder), log });
    const { rabbitmq } = config.tap;
    const taps: Tap[] = [tap];
    // A dry run keeps nothing, so it must not consume the queue.
    if (rabbitmq) taps.push(rabbitTap({ ...rabbitTapSettings(rabbitmq, folder), temporary: !!dryRun, log }));
    const registry = new Registry();
    addProcessMetrics(registry, () => logHealth(log).lost);
    const flow = createFlow();
    const replays = createReplayCounter();
    const outbox = file === undefined ? memoryOutbox({ maxBytes }) : openOutbox(config, log);
    stops.push(() => outbox.close());
    reportBacklog(outbox, config, log);
    const trace = file === undefined ? undefined : traceOf(config, file, log);
    stops.push(() => trace?.close());
    const history = createHistory(trace ?? { span() {}, moment() {} });
    stops.push(() => history.close());
    const contacts = createContacts();
    const conditions = createConditions(flow, log, history.changed);

    let hosts = hostsByTopic(config);
    let pusher: Pusher | undefined;
    const state = () =>
      pusher?.state() ?? {
        outbox: outbox.health(),
        topics: [],
        taps: [],
        notReady: [{ what: 'daemon', reason: 'is starting' }],
      };
    if (file !== undefined) addDiskMetrics(registry, path.dirname(file));
    if (trace) addTraceMetrics(registry, trace.state);
    addConditionMetric(registry, () => conditions.of(state(), Date.now()));
    const admin = createAdminServer({
      options: config.admin,
      registry,
      flow,
      state: () =>
        stateOf({
          ...{ pusher: state(), flow, conditions, replays, hosts, contacts, trace: trace?.state() },
          silentMs: config.admin.source_silent_after,
          now: Date.now(),
        }),
      notReady: () => state().notReady,
      outboxFile: file,
      ...noting(
        {
          sources: {
            ...outbox.sources,
            async retire(source) {
              // A source without numbers is not in the outbox.
              const came = contacts.forget(source);
              return (await outbox.sources.retire(source)) || came;
            },
          },
          deadLetters: {
            ...outbox.deadLetters,
            async requestReplay(filter, onProgress) {
              const count = await (pusher?.replay ?? outbox.deadLetters.requestReplay)(filter, onProgress);
              replays.asked(count);
              return count;
            },
          },
          tryTopic: (topic) => pusher?.tryTopic(topic) ?? false,
        },
        history.note,
      ),
      trace,
      log,
    });
    stops.push(() => admin.close());
    const adminUrl = await admin.listen();
    const running = await createPusher({
      ...routingOf(config),
      outbox,
      taps,
      log,
      metrics: registry,
      report: reportTo(flow, replays.report, history.report, contacts.report, trace?.report ?? {}),
      notReady: () => logProblems(log),
      dryRun,
    });
    pusher = running;
    stops.push(() => running.stop());
    stops.push(startSampling({ flow, conditions, contacts, history }, running, log));
    const { retention } = config.outbox;
    if (retention > 0) stops.push(startRetention({ deadLetters: outbox.deadLetters, keepMs: retention, log }));
    const topics = running.state().topics.map(({ topic }) => topic);
    const tapUrl = tap.url ?? '';
    log.info({ version, config: config.file, tap: tapUrl, admin: adminUrl, topics }, 'running');
    return {
      tapUrl,
      adminUrl,
      notReady: () => running.state().notReady,
      async reload(read) {
        const reloading = async () => {
          const next = read();
          const certificate = readCertificate(next.tap.http, folder);
          await running.reload(routingOf(next));
          hosts = hostsByTopic(next);
          tap.renew(certificate);
          log.level = next.log.level;
          announce(next, log);
          reportReload(config, next, log);
        };
        await reloading().catch((error: unknown) => {
          history.note('reload-failed', 'the configuration', firstLine(messageOf(error)));
          throw error;
        });
        history.note('reload', 'the configuration', '');
      },
      underWay: running.underWay,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The file of the record, beside the outbox. */
function traceOf({ trace, outbox }: PusherConfig, file: string, log: Logger): Trace {
  const outboxFile = realpathSync(file);
  const { keep: keepMs, max_bytes: maxBytes } = trace;
  const elsewhere = outbox.engine !== 'sqlite';
  return startTrace({ file: traceBeside(outboxFile), outboxFile, keepMs, maxBytes, elsewhere, log });
}

function logProblems(log: Logger): NotReady[] {
  const { fault } = logHealth(log);
  if (fault === undefined) return [];
  const advice = 'fix standard output: free space on its disk, or restart the daemon with a reader that keeps reading';
  return [{ what: 'log', reason: `can't be written: ${fault}`, advice }];
}

const firstLine = (text: string): string => text.split('\n', 1)[0] as string;

/** The configuration's destinations and routes. */
function routingOf({ file, sns, hosts }: PusherConfig): Routing {
  const settings = (options: SnsOptions | null | undefined) => (options ? snsSettingsOf(options) : null);
  return {
    sns: settings(sns) ?? undefined,
    hosts: Object.fromEntries([...hosts].map(([host, options]) => [host, settings(options)])),
    resolveFrom: file,
  };
}

/** The virtual hosts that each topic is configured for. */
function hostsByTopic(config: PusherConfig): ReadonlyMap<string, readonly string[]> {
  const sections = sectionsOf(config);
  const rest = sections.size === 1 ? 'all hosts' : 'all other hosts';
  const found = new Map<string, string[]>();
  for (const [host, options] of sections)
    for (const arn of new Set(options ? Object.values(topicsOf(options)) : []))
      found.set(arn, [...(found.get(arn) ?? []), host || rest]);
  return found;
}

function announce(config: PusherConfig, log: Logger): void {
  if (config.ignored.length > 0)
    log.info({ sections: config.ignored }, 'ignoring sections of the configuration that belong to other programs');
  if (config.tap.http.secret === undefined)
    log.warn({ option: 'tap.http.secret' }, 'the tap has no secret: every process on this machine may post events');
  if (config.admin.token === undefined)
    log.warn({ option: 'admin.token' }, 'the console has no token: every process on this machine may use it');
  for (const [host, options] of sectionsOf(config)) {
    if (options && Object.keys(topicsOf(options)).length === 0)
      log.warn({ host: host || 'all' }, 'no topic is configured, so nothing is published');
    const attributes = options ? mostAttributes(options) : 0;
    if (attributes > MOST_RAW_ATTRIBUTES)
      log.warn(
        { host: host || 'all', attributes },
        'more than ten message attributes: with raw delivery to SQS, SNS discards such messages',
      );
    if (!options && host !== '')
      log.warn({ host }, 'host_config.modules of this host has no mod_event_pusher.sns, so nothing of it is published');
  }
}

function reportBacklog(outbox: Outbox, config: PusherConfig, log: Logger): void {
  const sections = [...sectionsOf(config).values()];
  for (const { topic, depth: notifications } of outbox.health().topics) {
    if (notifications === 0) continue;
    if (sections.some((options) => options && owns(options, topic)))
      log.info({ topic, notifications }, 'notifications left from the last run');
    else
      log.error(
        { topic, notifications },
        'notifications left from the last run for an account or region that is no longer configured: they wait in the outbox',
      );
  }
}

/** Names options that changed, or whose variables may have changed, and that a reload can't apply. */
function reportReload(running: PusherConfig, next: PusherConfig, log: Logger): void {
  const variables = next.variables.filter((name) => !isFromEnvFile(name));
  if (variables.length > 0)
    log.info({ variables }, 'these variables keep the values from the start: restart the daemon to change them');
  const options = ({ tap, outbox, trace, admin, log: { format } }: PusherConfig) => {
    // Renewed certificates apply, but switching between HTTP and HTTPS needs a restart.
    const { tls_cert, tls_key: _, ...http } = tap.http;
    return {
      'tap.http': { ...http, tls: tls_cert !== undefined },
      'tap.rabbitmq': tap.rabbitmq,
      outbox,
      trace,
      admin,
      'log.format': format ?? '',
    };
  };
  const [before, after] = [options(running), options(next)];
  const changed = Object.keys(before) as (keyof typeof before)[];
  const needRestart = changed.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  if (needRestart.length > 0)
    atAnyLevel(log).warn({ sections: needRestart }, 'reloaded; changes in these sections need a restart');
  else log.info('reloaded');
}

/** The parts that are sampled. */
interface Sampled {
  readonly flow: Pick<Flow, 'sample'>;
  readonly conditions: Pick<Conditions, 'sample'>;
  readonly contacts: Pick<Contacts, 'sample'>;
  readonly history: Pick<HistoryKeeper, 'sample'>;
}

/** Samples the flow and the topics at intervals; returns a function that stops it. */
export function startSampling(
  { flow, conditions, contacts, history }: Sampled,
  pusher: Pick<Pusher, 'state'>,
  log: Logger,
): () => void {
  let failed = false;
  const sample = () => {
    try {
      const state = pusher.state();
      const now = Date.now();
      // Conditions first, because watchers of the flow read them.
      conditions.sample(state, now);
      contacts.sample(now);
      const backlog = state.outbox.topics.reduce((sum, { depth }) => sum + depth, 0);
      history.sample(flow.sample(backlog, now), state.notReady);
      failed = false;
    } catch (error) {
      if (!failed) log.error({ problem: messageOf(error) }, "can't sample the rates: the outbox does not answer");
      failed = true;
    }
  };
  const timer = setInterval(sample, SAMPLE_MS).unref();
  return () => clearInterval(timer);
}
