/** The composition root: builds the pipeline from a configuration, starts it and stops it, each in one ordered list. */
import path from 'node:path';
import type { PusherConfig } from './config/load.ts';
import type { SnsOptions } from './config/options.ts';
import { messageOf } from './errors.ts';
import { createIntake, type Intake } from './intake.ts';
import type { Logger } from './log.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import type { Route } from './notification/notification.ts';
import { loadPlugin } from './notification/plugin.ts';
import { createAdminServer, type NotReady } from './ops/server.ts';
import type { Outbox } from './outbox/outbox.ts';
import { openSqliteOutbox } from './outbox/sqlite.ts';
import { clientOf, maxBytesOf, routeOf, topicsOf } from './sns/account.ts';
import type { SnsClient } from './sns/client.ts';
import { createPublisher, type Publisher } from './sns/publisher.ts';
import { createHttpTap } from './taps/http.ts';
import { version } from './version.ts';

/** A running pipeline. */
export interface Pusher {
  /** Where adapters post events. */
  readonly tapUrl: string;
  /** Where health and metrics are. */
  readonly adminUrl: string;
  /** Why it is not ready; empty when it is. */
  notReady(): readonly NotReady[];
  /** Takes nothing more, lets requests under way end (10 s at most), and leaves the rest in the outbox. */
  stop(): Promise<void>;
}

/** How long requests under way may take at a stop, in milliseconds. */
const STOP_GRACE_MS = 10_000;
/** How often dead letters that someone asked to replay are looked for, in milliseconds. */
const REPLAY_POLL_MS = 500;
const REPLAY_BATCH = 100;

/**
 * Builds and starts everything that a configuration asks for; resolves when the taps listen.
 * @throws PusherError PLUGIN_UNUSABLE, OUTBOX_UNUSABLE, OUTBOX_LOCKED, LISTEN_FAILED; then nothing is left running
 */
export async function startPusher(config: PusherConfig, log: Logger): Promise<Pusher> {
  const stops: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    // What was started last is stopped first.
    for (const step of stops.splice(0).reverse()) await step();
  };
  try {
    announce(config, log);
    const folder = path.dirname(config.file);
    const metrics = createMetrics();
    const sections = sectionsOf(config);
    const routes = await routesOf(sections, config.file);

    const outbox = openSqliteOutbox({
      file: path.resolve(folder, config.outbox.path),
      maxBytes: config.outbox.max_bytes,
    });
    stops.push(() => outbox.close());
    reportBacklog(outbox, sections, log);

    const publishers = publishersOf(sections, outbox, log, metrics);
    const topics = () => publishers.flatMap(({ publisher }) => publisher.topics());
    metrics.observe({ outbox: () => outbox.state(), topics });
    stops.push(async () => {
      await Promise.all(publishers.map(({ publisher }) => publisher.stop(STOP_GRACE_MS)));
      // Not graceful: what is still under way has had its time.
      for (const { client } of publishers) client.destroy();
    });

    const route = (host: string) =>
      routes.get(host.toLowerCase()) ?? (routes.has(host.toLowerCase()) ? undefined : routes.get(''));
    const intake = createIntake({ outbox, routeOf: route, log, metrics });
    let listening = false;
    const notReady = () => reasons(listening, outbox, topics());
    const admin = createAdminServer({ address: config.admin.listen, notReady, registry: metrics.registry });
    stops.push(() => admin.close());
    const adminUrl = await admin.listen();

    for (const { publisher } of publishers) publisher.start();
    stops.push(startReplays(outbox, intake, log));

    const tap = createHttpTap({ options: config.tap.http, folder, receive: intake.receive, log });
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
    return { tapUrl, adminUrl, notReady, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The `sns` sections by virtual host; the general one under ''. `null`: the host publishes nothing. */
function sectionsOf({ sns, hosts }: PusherConfig): Map<string, SnsOptions | null> {
  return new Map([['', sns ?? null], ...hosts]);
}

async function routesOf(sections: ReadonlyMap<string, SnsOptions | null>, configFile: string) {
  const routes = new Map<string, Route | undefined>();
  for (const [host, options] of sections)
    routes.set(host, options ? routeOf(options, await loadPlugin(options.plugin_module, configFile)) : undefined);
  return routes;
}

/** One publisher for each section; a topic that several name belongs to the first. */
function publishersOf(
  sections: ReadonlyMap<string, SnsOptions | null>,
  outbox: Outbox,
  log: Logger,
  metrics: Metrics,
): { publisher: Publisher; client: SnsClient }[] {
  const taken = new Set<string>();
  const inOutbox = outbox.state().topics.filter(({ depth }) => depth > 0);
  const publishers = [];
  for (const options of sections.values()) {
    if (!options) continue;
    // What waits for a topic that was configured before still goes out, if this section's account and region own it.
    const left = inOutbox.map(({ arn }) => arn).filter((arn) => owns(options, arn));
    const topics = [...Object.values(topicsOf(options)), ...left].filter((arn) => !taken.has(arn));
    const unique = [...new Set(topics)];
    for (const arn of unique) taken.add(arn);
    const client = clientOf(options);
    const publisher = createPublisher({
      client,
      outbox,
      topics: unique,
      poolSize: options.pool_size,
      retryCount: options.publish_retry_count,
      retryBaseMs: options.publish_retry_time_ms,
      exhausted: options.publish_exhausted,
      maxBytes: maxBytesOf,
      log,
      metrics,
    });
    publishers.push({ publisher, client });
  }
  return publishers;
}

const owns = ({ region, account_id }: SnsOptions, arn: string): boolean =>
  arn.includes(`:sns:${region}:${account_id}:`);

function announce(config: PusherConfig, log: Logger): void {
  if (config.ignored.length > 0)
    log.info({ sections: config.ignored }, 'sections of the configuration that are not ours, left alone');
  if (config.tap.http.secret === undefined)
    log.warn({ option: 'tap.http.secret' }, 'the tap has no secret: every process on this machine may post events');
  for (const [host, options] of sectionsOf(config)) {
    if (options && Object.keys(topicsOf(options)).length === 0)
      log.warn({ host: host || 'all' }, 'no topic is configured, so nothing is published');
    if (!options && host !== '')
      log.warn({ host }, 'host_config.modules of this host has no mod_event_pusher.sns, so nothing of it is published');
  }
}

function reportBacklog(outbox: Outbox, sections: ReadonlyMap<string, SnsOptions | null>, log: Logger): void {
  for (const { arn, depth } of outbox.state().topics) {
    if (depth === 0) continue;
    if ([...sections.values()].some((options) => options && owns(options, arn)))
      log.info({ topic: arn, notifications: depth }, 'left from the last run');
    else
      log.error(
        { topic: arn, notifications: depth },
        'left from the last run for an account or region that is not configured any more: they wait in the outbox',
      );
  }
}

function reasons(listening: boolean, outbox: Outbox, topics: ReturnType<Publisher['topics']>): NotReady[] {
  const found: NotReady[] = [];
  if (!listening) found.push({ what: 'tap http', reason: 'does not listen' });
  const { fault, bytes, maxBytes } = outbox.state();
  if (fault) found.push({ what: 'outbox', reason: fault });
  if (bytes >= maxBytes)
    found.push({
      what: 'outbox',
      reason: `is full: ${bytes} of ${maxBytes} bytes`,
      advice: 'mend what keeps notifications from going out, purge dead letters, or raise outbox.max_bytes',
    });
  for (const { arn, pause } of topics)
    if (pause)
      found.push({ what: `topic ${arn}`, reason: `paused: ${pause.reason}: ${pause.detail}`, advice: pause.advice });
  return found;
}

/** Looks for dead letters that someone asked to replay, one look after the other; answers what ends that. */
function startReplays(outbox: Outbox, intake: Intake, log: Logger): () => void {
  let timer: NodeJS.Timeout | undefined;
  const again = () => {
    timer = setTimeout(look, REPLAY_POLL_MS).unref();
  };
  const look = async () => {
    try {
      await intake.replay(await outbox.replayRequests(REPLAY_BATCH));
    } catch (error) {
      log.warn({ problem: messageOf(error) }, 'replay put off');
    }
    if (timer) again();
  };
  again();
  return () => {
    clearTimeout(timer);
    timer = undefined;
  };
}
