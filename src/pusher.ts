/**
 * The pipeline as a library: builds it from its parts, then starts and stops them in order. It has no listener, no
 * signal handler and no global state of its own. The daemon is one of its users.
 */
import { EventEmitter } from 'node:events';
import path from 'node:path';
import type { Registry } from 'prom-client';
import { messageOf, PusherError } from './errors.ts';
import { type Log, SILENT } from './log.ts';
import type { EventKind } from './notification/kind.ts';
import type { Notification, Route } from './notification/notification.ts';
import type { SnsPlugin } from './notification/plugin.ts';
import { createPlugins, type Plugins } from './notification/plugins.ts';
import { createMetrics } from './ops/metrics.ts';
import type { DeadLetterFilter, DeadLetterStore, NewDeadLetter, OnProgress } from './outbox/dead-letters.ts';
import type { Health, Outbox } from './outbox/outbox.ts';
import { createDelivery, type Delivery, type Destination, type Pace } from './pipeline/delivery.ts';
import { dryRunSink } from './pipeline/dry-run.ts';
import { createIntake } from './pipeline/intake.ts';
import type { TopicState } from './pipeline/publisher.ts';
import { createReplays, type Replays } from './pipeline/replay.ts';
import { type Pause, type Report, reportTo } from './pipeline/report.ts';
import type { Sink } from './pipeline/sink.ts';
import { checkOptions, checkRouting } from './pusher-options.ts';
import { type NotReady, reasonsNotReady } from './readiness.ts';
import { openAccount } from './sns/account.ts';
import {
  type AdditionSettings,
  additionsOf,
  credentialSourceOf,
  type SnsSettings,
  snsOptionsOf,
} from './sns/settings.ts';
import { type GivenBatch, inProcessTap } from './taps/in-process.ts';
import type { Receipt, Tap, TapState } from './taps/tap.ts';

/** Publishes to the host program's own sink instead of Amazon SNS. */
export interface SinkSettings extends Partial<Pace>, AdditionSettings {
  readonly sink: Sink;
  /** The sink's names of the topics; a kind without one is not published. */
  readonly topics: Readonly<Partial<Record<EventKind, string>>>;
  readonly presence?: Route['presence'];
  readonly plugin?: SnsPlugin | string | undefined;
  readonly pluginOptions?: Readonly<Record<string, unknown>> | undefined;
}

/** Where and how to publish: {@link Pusher.reload} can replace these. */
export interface Routing {
  /** For every virtual host not named in `hosts`; default: they publish nothing. */
  readonly sns?: SnsSettings | undefined;
  /** A sink instead of SNS. */
  readonly sink?: SinkSettings | undefined;
  /** Virtual hosts with their own settings; `null`: they publish nothing. */
  readonly hosts?: Readonly<Record<string, SnsSettings | SinkSettings | null>> | undefined;
  /** The plugin of every section without its own: an object, or the path or package of one. */
  readonly plugin?: SnsPlugin | string | undefined;
  /** The file from which relative paths and packages are resolved. Default: one in the working directory. */
  readonly resolveFrom?: string | undefined;
}

export interface PusherOptions extends Routing {
  /** Stores notifications. The pusher owns it, and closes it when it stops. */
  readonly outbox: Outbox;
  /** Taps in addition to {@link Pusher.receive}. Default: none. */
  readonly taps?: readonly Tap[] | undefined;
  /** Default: no log. */
  readonly log?: Log | undefined;
  /** The registry to which the metrics are added, until the stop. Default: no metrics. */
  readonly metrics?: Registry | undefined;
  /** Called for every event and request. It must be fast and must not throw. */
  readonly report?: Partial<Report> | undefined;
  /** The host program's own reasons for not being ready. */
  readonly notReady?: (() => readonly NotReady[]) | undefined;
  /** Called with each notification instead of sending it. */
  readonly dryRun?: ((notification: Notification) => void) | undefined;
}

/** Events of {@link Pusher.on}. */
export interface PusherEvents {
  /** The sink accepted a notification; `at` is the time in milliseconds since the Unix epoch. */
  delivered: [{ readonly notification: Notification; readonly at: number }];
  deadLetter: [NewDeadLetter];
  paused: [{ readonly topic: string; readonly pause: Pause }];
  resumed: [{ readonly topic: string; readonly pausedMs: number }];
}

/** A snapshot of the pusher's state. */
export interface PusherState {
  readonly topics: readonly TopicState[];
  readonly outbox: Health;
  readonly taps: readonly (TapState & { readonly name: string })[];
  /** Topics with a backlog that no section owns. */
  readonly orphaned: readonly string[];
  /** Why it is not ready; empty if it is. */
  readonly notReady: readonly NotReady[];
}

/** A running pipeline. */
export interface Pusher extends AsyncDisposable {
  /**
   * Accepts events in process, and returns the receipt that a tap would give: resolves when their outcome is safe.
   * @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE, OUTBOX_CLOSED: nothing was kept, try again later
   */
  receive(batch: GivenBatch): Promise<Receipt>;
  on<Name extends keyof PusherEvents>(name: Name, listener: (...values: PusherEvents[Name]) => void): void;
  off<Name extends keyof PusherEvents>(name: Name, listener: (...values: PusherEvents[Name]) => void): void;
  readonly deadLetters: DeadLetterStore;
  /** Publishes dead letters again; returns how many were not marked for it yet. */
  replay(filter: DeadLetterFilter, onProgress?: OnProgress): Promise<number>;
  state(): PusherState;
  /** Ends a topic's pause early; false for an unknown topic or one that is not paused. */
  tryTopic(topic: string): boolean;
  /** Open requests to sinks. */
  underWay(): number;
  /**
   * Replaces the settings for publishing. Of several concurrent reloads the one whose plugins load last wins.
   * @throws PusherError PLUGIN_UNUSABLE, CONFIG_INVALID; then nothing changes
   */
  reload(routing: Routing): Promise<void>;
  /** Stops accepting events, waits up to 10 s for open requests, and leaves the rest in the outbox. */
  stop(): Promise<void>;
}

/**
 * Builds and starts a pipeline; resolves when its taps accept events.
 * @throws PusherError PLUGIN_UNUSABLE, CONFIG_INVALID, LISTEN_FAILED; then everything is stopped, and the outbox closed
 */
export async function createPusher(options: PusherOptions): Promise<Pusher> {
  try {
    checkOptions(options);
  } catch (error) {
    await options?.outbox?.close?.();
    throw error;
  }
  const { outbox, log = SILENT, taps = [] } = options;
  const own = inProcessTap();
  const emitter = new EventEmitter<PusherEvents>();
  const stops: (() => Promise<void> | void)[] = [() => outbox.close()];
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= stopAll(stops);
    return stopping;
  };
  try {
    const metrics = options.metrics && createMetrics(options.metrics);
    stops.push(() => metrics?.remove());
    const report = reportTo(...[metrics?.report, options.report, emitting(emitter, log)].filter((each) => !!each));
    const open = async (routing: Routing): Promise<Delivery> => {
      const { plugins, ...opened } = await openRouting(routing, options.dryRun, log);
      const made = createDelivery({ ...opened, outbox, log, report });
      const stopWithPlugins = async () => {
        await made.stop();
        await plugins.stop();
      };
      return { ...made, stop: stopWithPlugins };
    };
    /** The translation and its publishers: two while a reload lets the old one end. */
    let routed = await open(options);
    let delivery = routed;
    let reloading = Promise.resolve();
    const intake = createIntake({ outbox, routeOf: (host) => routed.route(host), log, report });
    const replays: Replays = createReplays({ deadLetters: outbox.deadLetters, replay: intake.replay, log });
    const state = () => pusherState(outbox, delivery, taps, options.notReady);
    metrics?.observe(state);

    delivery.start();
    stops.push(() => delivery.stop());
    stops.push(() => reloading);
    stops.push(() => replays.stop());
    replays.wake();
    for (const tap of [own, ...taps]) {
      stops.push(() => tap.stop());
      await tap.start(intake.receive);
    }

    const replace = async (fresh: Delivery) => {
      if (stopping) return fresh.stop();
      routed = fresh;
      // Only one consumer of a topic's backlog may be active.
      await delivery.stop();
      delivery = fresh;
      fresh.start();
    };

    return {
      receive: own.receive,
      on: (name, listener) => void emitter.on(name, listener as never),
      off: (name, listener) => void emitter.off(name, listener as never),
      deadLetters: outbox.deadLetters,
      replay: (filter, onProgress) => outbox.deadLetters.requestReplay(filter, onProgress).finally(replays.wake),
      state,
      tryTopic: (topic) => delivery.tryTopic(topic),
      underWay: () => delivery.topics().reduce((sum, { inFlight }) => sum + inFlight, 0),
      async reload(routing) {
        checkRouting(routing);
        const fresh = await open(routing);
        const replaced = reloading.then(() => replace(fresh));
        // The next reload and the stop only need to know that this one ended.
        reloading = Promise.allSettled([replaced]).then(() => {});
        await replaced;
      },
      stop,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    // Report why it couldn't start, not what failed while stopping its parts.
    await stop().catch((failure: unknown) => log.error({ problem: messageOf(failure) }, 'a component did not stop'));
    throw error;
  }
}

/** Stops parts in reverse order; a failure does not keep the others running. */
async function stopAll(stops: readonly (() => Promise<void> | void)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const stop of stops.toReversed())
    try {
      await stop();
    } catch (error) {
      failures.push(error);
    }
  if (failures.length > 0) throw failures[0];
}

/** Builds the destinations, and how each virtual host publishes through them, from the settings. */
async function openRouting(
  { sns, sink, hosts = {}, plugin, resolveFrom: configFile }: Routing,
  dryRun: PusherOptions['dryRun'],
  log: Log,
): Promise<{ destinations: Destination[]; routes: Map<string, Route | undefined>; plugins: Plugins }> {
  const resolveFrom = configFile ?? path.resolve('pusher');
  const plugins = createPlugins(resolveFrom, log);
  const destinations: Destination[] = [];
  const routes = new Map<string, Route | undefined>();
  const sections = new Map<string, SnsSettings | SinkSettings | null>([['', sink ?? sns ?? null]]);
  for (const [host, section] of Object.entries(hosts)) sections.set(host.toLowerCase(), section);
  const starting: Promise<void>[] = [];
  try {
    for (const [host, section] of sections) {
      if (!section) {
        routes.set(host, undefined);
        continue;
      }
      const functions = await plugins.open(section.plugin ?? plugin ?? {}, section.pluginOptions);
      if ('sink' in section) {
        for (const topic of Object.values(section.topics)) refuseSecondSink(topic, section.sink, destinations);
        destinations.push(destinationOf(section, `sink of ${host || 'all'}`));
        routes.set(host, routeOf(section, functions));
      } else {
        const account = openAccount(snsOptionsOf(section), {
          folder: path.dirname(resolveFrom),
          // In a host program it is one of that program's files.
          configFile: configFile?.endsWith('.toml') ? configFile : undefined,
          credentials: credentialSourceOf(section),
          log,
        });
        destinations.push(dryRun ? { ...account, sink: dryRunSink(dryRun) } : account);
        routes.set(host, account.route(functions));
        starting.push(account.readLimits());
      }
    }
    await Promise.all(starting);
    return { destinations, routes, plugins };
  } catch (error) {
    for (const destination of destinations) destination.close();
    await plugins.stop();
    throw error;
  }
}

function refuseSecondSink(topic: string, sink: Sink, destinations: readonly Destination[]): void {
  if (destinations.some((other) => other.sink !== sink && other.owns(topic)))
    throw new PusherError('CONFIG_INVALID', `the topic "${topic}" belongs to two sinks; give each sink its own topics`);
}

const destinationOf = ({ topics, sink, ...pace }: SinkSettings, quota: string): Destination => ({
  topics,
  sink,
  quota,
  pace: {
    poolSize: pace.poolSize ?? 100,
    retryCount: pace.retryCount ?? 2,
    retryBaseMs: pace.retryBaseMs ?? 50,
    exhausted: pace.exhausted ?? 'wait',
    maxMessagesPerSecond: pace.maxMessagesPerSecond,
  },
  owns: (topic) => Object.values(topics).includes(topic),
  close: () => {},
});

const routeOf = (settings: SinkSettings, plugin: SnsPlugin): Route => ({
  topics: settings.topics,
  plugin,
  presence: settings.presence ?? 'user',
  additions: additionsOf(settings),
  maxBytes: (topic) => settings.sink.limits(topic).maxBytes,
});

/** Calls a host program's listeners; one that throws affects neither the pipeline nor the others. */
function emitting(emitter: EventEmitter<PusherEvents>, log: Log): Partial<Report> {
  const emit = <Name extends keyof PusherEvents>(name: Name, ...values: PusherEvents[Name]) => {
    const failed = (error: unknown) =>
      log.error({ event: name, problem: messageOf(error) }, 'an event listener threw an error');
    for (const listener of emitter.listeners(name) as ((...values: PusherEvents[Name]) => unknown)[])
      try {
        // Catch an async listener's rejection too: otherwise Node.js would end the host program.
        const pending = listener(...values);
        if (pending instanceof Promise) pending.catch(failed);
      } catch (error) {
        failed(error);
      }
  };
  return {
    request({ entries, verdicts, at }) {
      if (verdicts === 'split' || emitter.listenerCount('delivered') === 0) return;
      for (const [index, notification] of entries.entries())
        if (!verdicts[index]) emit('delivered', { notification, at });
    },
    deadLetter: (letter) => emit('deadLetter', letter),
    paused: (topic, pause) => emit('paused', { topic, pause }),
    resumed: (topic, pausedMs) => emit('resumed', { topic, pausedMs }),
  };
}

function pusherState(
  outbox: Outbox,
  delivery: Delivery,
  taps: readonly Tap[],
  more: PusherOptions['notReady'] = () => [],
): PusherState {
  const health = outbox.health();
  const parts = {
    topics: delivery.topics(),
    outbox: health,
    taps: taps.map((tap) => ({ name: tap.name, ...tap.state() })),
    orphaned: health.topics.filter(({ topic, depth }) => depth > 0 && !delivery.owns(topic)).map(({ topic }) => topic),
  };
  return { ...parts, notReady: [...reasonsNotReady(parts), ...more()] };
}
