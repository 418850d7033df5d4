/**
 * A publisher for each destination: the part of the pipeline that a reload replaces as a whole.
 */
import type { Log } from '../log.ts';
import type { Route } from '../notification/notification.ts';
import type { Outbox } from '../outbox/outbox.ts';
import { createPublisher, type Publisher, type TopicState } from './publisher.ts';
import { createRateLimit, type RateLimit } from './rate.ts';
import type { Report } from './report.ts';
import type { Sink } from './sink.ts';

/** How notifications of one destination are sent. */
export interface Pace {
  /** Maximum number of open requests. */
  readonly poolSize: number;
  /** How often a notification is retried before `exhausted` applies. */
  readonly retryCount: number;
  /** Base of the delays between retries, in milliseconds. */
  readonly retryBaseMs: number;
  readonly exhausted: 'wait' | 'dead-letter';
  /** Upper limit of the rate, in messages per second; undefined: none. */
  readonly maxMessagesPerSecond: number | undefined;
}

/** A place to publish to, with its topics. */
export interface Destination {
  /** All its topics, by its own names. */
  readonly topics: Readonly<Record<string, string>>;
  readonly sink: Sink;
  readonly pace: Pace;
  /** Destinations with the same name share a rate. */
  readonly quota: string;
  /** Whether it owns a topic, configured or not: the outbox's notifications for the topic are published here. */
  owns(topic: string): boolean;
  /** Closes its connections, aborting open requests. */
  close(): void;
}

export interface Delivery {
  /** How a virtual host publishes; undefined: not at all. */
  route(host: string): Route | undefined;
  topics(): TopicState[];
  /** Whether one of its destinations owns a topic; notifications for others wait. */
  owns(topic: string): boolean;
  /** Ends a topic's pause early; false for an unknown topic or one that is not paused. */
  tryTopic(topic: string): boolean;
  start(): void;
  /** Stops accepting notifications, waits for open requests, and leaves the rest in the outbox. */
  stop(): Promise<void>;
}

export interface DeliveryOptions {
  readonly destinations: readonly Destination[];
  /** How each virtual host publishes, by name in lower case; `''` for all others. */
  readonly routes: ReadonlyMap<string, Route | undefined>;
  readonly outbox: Outbox;
  readonly log: Log;
  readonly report: Report;
}

/** How long open requests may take at a stop, in milliseconds. */
const STOP_GRACE_MS = 10_000;

export function createDelivery({ destinations, routes, outbox, log, report }: DeliveryOptions): Delivery {
  let publishers: readonly Publisher[] = [];
  let unlisten = () => {};
  const served = new Set<string>();

  /**
   * Also publishes the outbox's notifications for other topics, through the destination that owns them: those committed
   * before the topic left the configuration, and replayed ones.
   */
  const adopt = (topic: string) => {
    if (served.has(topic)) return;
    served.add(topic);
    const owner = destinations.findIndex((destination) => destination.owns(topic));
    if (owner >= 0) publishers[owner]?.serve(topic);
    else
      log.error({ topic }, 'no section has the account and region of this topic: its notifications wait in the outbox');
  };

  return {
    route(host) {
      const name = host.toLowerCase();
      return routes.get(routes.has(name) ? name : '');
    },
    topics: () => publishers.flatMap((publisher) => publisher.topics()),
    owns: (topic) => destinations.some((destination) => destination.owns(topic)),
    tryTopic: (topic) => publishers.some((publisher) => publisher.tryNow(topic)),
    start() {
      const rates = ratesOf(destinations);
      publishers = destinations.map(({ topics, sink, pace, quota }) => {
        // A topic named by several destinations belongs to the first.
        const own = [...new Set(Object.values(topics))].filter((topic) => !served.has(topic));
        for (const topic of own) served.add(topic);
        return createPublisher({
          sink,
          outbox,
          topics: own,
          ...pace,
          rate: rates.get(quota) ?? createRateLimit(),
          log,
          report,
        });
      });
      unlisten = outbox.onTopic(adopt);
      for (const topic of outbox.topics()) adopt(topic);
    },
    async stop() {
      unlisten();
      await Promise.all(publishers.map((publisher) => publisher.stop(STOP_GRACE_MS)));
      // Grace period over; abort the rest.
      for (const destination of destinations) destination.close();
    },
  };
}

/** One rate per quota; the lowest of several caps applies. */
function ratesOf(destinations: readonly Destination[]): Map<string, RateLimit> {
  const caps = new Map<string, number>();
  for (const { quota, pace } of destinations) {
    const { maxMessagesPerSecond = Number.POSITIVE_INFINITY } = pace;
    caps.set(quota, Math.min(caps.get(quota) ?? Number.POSITIVE_INFINITY, maxMessagesPerSecond));
  }
  return new Map([...caps].map(([quota, cap]) => [quota, createRateLimit({ cap })]));
}
