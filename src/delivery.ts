/**
 * From the outbox to SNS: an account for each `sns` section, how each virtual host publishes through them, and a
 * publisher for each. It is the part of the daemon that a reload replaces as a whole.
 */
import path from 'node:path';
import type { PusherConfig } from './config/load.ts';
import type { SnsOptions } from './config/options.ts';
import type { Notification, Route } from './notification/notification.ts';
import { loadPlugin } from './notification/plugin.ts';
import type { Logger } from './ops/log.ts';
import type { Metrics } from './ops/metrics.ts';
import type { Outbox } from './outbox/outbox.ts';
import { createPublisher, type Publisher, type PublisherOptions, type TopicState } from './pipeline/publisher.ts';
import { createRateLimit, type RateLimit } from './pipeline/rate.ts';
import { type Account, openAccount } from './sns/account.ts';

export interface Delivery {
  /** How a virtual host publishes; undefined: not at all. */
  route(host: string): Route | undefined;
  topics(): TopicState[];
  /** Whether a topic is of one of its accounts and regions: what the outbox has for any other waits. */
  owns(arn: string): boolean;
  /** Ends a topic's pause before its time; false when there is no such topic or it is not paused. */
  tryTopic(arn: string): boolean;
  start(): void;
  /** Takes nothing more, lets requests under way end, and leaves the rest in the outbox. */
  stop(): Promise<void>;
}

interface DeliverySetup {
  readonly outbox: Outbox;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Told of each notification that SNS took, and when. */
  readonly onDelivered: NonNullable<PublisherOptions['onDelivered']>;
  /** Told of each notification instead of SNS: a dry run. */
  readonly insteadOfSns?: ((notification: Notification) => void) | undefined;
}

/** How long requests under way may take at a stop, in milliseconds. */
const STOP_GRACE_MS = 10_000;

/** @throws PusherError PLUGIN_UNUSABLE, CONFIG_INVALID (a file that it names can't be read) */
export async function openDelivery(config: PusherConfig, setup: DeliverySetup): Promise<Delivery> {
  const accounts = new Map<string, Account>();
  const routes = new Map<string, Route | undefined>();
  for (const [host, options] of sectionsOf(config)) {
    if (!options) {
      routes.set(host, undefined);
      continue;
    }
    const account = openAccount(options, path.dirname(config.file), config.file);
    accounts.set(host, account);
    routes.set(host, account.route(await loadPlugin(options.plugin_module, config.file)));
  }
  const list = [...accounts.values()];
  await Promise.all(list.map((account) => account.readLimits()));
  const publishers = publishersOf(list, setup);
  const adopt = adopter(list, publishers, setup);
  let unlisten = () => {};
  return {
    route(host) {
      const name = host.toLowerCase();
      return routes.get(routes.has(name) ? name : GENERAL);
    },
    topics: () => publishers.flatMap((publisher) => publisher.topics()),
    owns: (arn) => list.some(({ options }) => owns(options, arn)),
    tryTopic: (arn) => publishers.some((publisher) => publisher.tryNow(arn)),
    start() {
      unlisten = setup.outbox.onCommitted(adopt);
      adopt();
      for (const publisher of publishers) publisher.start();
    },
    async stop() {
      unlisten();
      await Promise.all(publishers.map((publisher) => publisher.stop(STOP_GRACE_MS)));
      // What is still under way has had its time.
      for (const account of list) account.close();
    },
  };
}

/** The name under which the general section stands beside those of virtual hosts. */
const GENERAL = '';

/** The `sns` sections by virtual host; `null`: the host publishes nothing. */
export function sectionsOf({ sns, hosts }: PusherConfig): Map<string, SnsOptions | null> {
  return new Map([[GENERAL, sns ?? null], ...hosts]);
}

/** Whether this section's account and region own a topic. */
export const owns = ({ region, account_id }: SnsOptions, arn: string): boolean =>
  arn.includes(`:sns:${region}:${account_id}:`);

/** One publisher for each account; a topic that several sections name belongs to the first. */
function publishersOf(accounts: readonly Account[], setup: DeliverySetup): Publisher[] {
  const { outbox, log, metrics, onDelivered, insteadOfSns } = setup;
  const taken = new Set<string>();
  const rates = ratesOf(accounts);
  return accounts.map((account) => {
    const { options, client, maxBytes } = account;
    const topics = [...new Set(Object.values(account.topics))].filter((arn) => !taken.has(arn));
    for (const arn of topics) taken.add(arn);
    return createPublisher({
      client: insteadOfSns ? dry(insteadOfSns) : client,
      outbox,
      topics,
      poolSize: options.pool_size,
      retryCount: options.publish_retry_count,
      retryBaseMs: options.publish_retry_time_ms,
      exhausted: options.publish_exhausted,
      rate: rates.get(quotaOf(options)) ?? createRateLimit(),
      maxBytes,
      log,
      metrics,
      onDelivered,
    });
  });
}

/**
 * Lets what the outbox has for other topics go out too, by the section that owns them: what was committed before they
 * left the configuration, and what is replayed. Answers a function that looks for new ones.
 */
function adopter(
  accounts: readonly Account[],
  publishers: readonly Publisher[],
  { outbox, log }: DeliverySetup,
): () => void {
  const seen = new Set(publishers.flatMap((publisher) => publisher.topics().map(({ arn }) => arn)));
  return () => {
    for (const arn of outbox.topics()) {
      if (seen.has(arn)) continue;
      seen.add(arn);
      const owner = accounts.findIndex(({ options }) => owns(options, arn));
      if (owner >= 0) publishers[owner]?.serve(arn);
      else
        log.error(
          { topic: arn },
          'no section is of the account and region of this topic: what the outbox has for it waits',
        );
    }
  };
}

/** Takes everything, and sends nothing. */
const dry = (show: (notification: Notification) => void): PublisherOptions['client'] => ({
  async publishBatch(_, entries) {
    for (const entry of entries) show(entry);
    return { entries: entries.map(() => undefined) };
  },
});

/** SNS's quota is for an account in a region, whichever sections and topics share it. */
const quotaOf = ({ region, account_id }: SnsOptions): string => `${region}/${account_id}`;

/** A rate for each quota; of several caps the lowest counts. */
function ratesOf(accounts: readonly Account[]): Map<string, RateLimit> {
  const caps = new Map<string, number>();
  for (const { options } of accounts) {
    const cap = Math.min(
      caps.get(quotaOf(options)) ?? Number.POSITIVE_INFINITY,
      options.max_messages_per_second ?? Number.POSITIVE_INFINITY,
    );
    caps.set(quotaOf(options), cap);
  }
  return new Map([...caps].map(([quota, cap]) => [quota, createRateLimit({ cap })]));
}
