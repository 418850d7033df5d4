/** This project's publisher alone: its outbox repeats the same notifications and writes nothing. */
import { Registry } from 'prom-client';
import { SILENT } from '../src/log.ts';
import { createMetrics } from '../src/ops/metrics.ts';
import type { Backlog, Outbox, Stored } from '../src/outbox/outbox.ts';
import { createPublisher } from '../src/pipeline/publisher.ts';
import { createRateLimit } from '../src/pipeline/rate.ts';
import { reportTo } from '../src/pipeline/report.ts';
import { createSnsClient } from '../src/sns/client.ts';
import { snsSink } from '../src/sns/sink.ts';

export interface OursOptions {
  readonly endpoint: string;
  readonly topicArn: string;
  readonly inFlight: number;
  /** Number of order keys. */
  readonly users: number;
  /** Many more than the publisher holds at once. */
  readonly messages: readonly string[];
}

const KEYS = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' };

/**
 * Starts the publisher. The returned function publishes until `over`, and waits until SNS has everything sent so far.
 */
export function startOurs(options: OursOptions): (over: () => boolean) => Promise<void> {
  const { endpoint, topicArn, inFlight, users, messages } = options;
  const client = createSnsClient({
    endpoint: new URL(endpoint),
    region: 'eu-west-1',
    credentials: { get: () => KEYS, expired: () => undefined },
  });
  const circumstances = {
    endpoint: new URL(endpoint),
    region: 'eu-west-1',
    accountId: '123456789012',
    credentials: 'static',
  } as const;
  const orderKeys = Array.from({ length: users }, (_, user) => `user${user}@example.org`);
  const notifications = messages.map((message, seq): Stored => {
    const orderKey = orderKeys[seq % users] as string;
    const eventId = `bench/${seq}`;
    return { seq, eventId, topic: topicArn, orderKey, at: Date.now(), message, attributes: [], bytes: message.length };
  });
  const stored = (n: number) => notifications[n % notifications.length] as Stored;
  let isOver = () => true;
  let last = 0;
  let settled = 0;
  let owed = 0;
  let take: (notifications: readonly Stored[]) => void = () => {};
  let finish = () => {};
  const backlog: Backlog = {
    request(credit) {
      owed += credit;
      setImmediate(hand);
    },
    load: async (seqs) => seqs.map(stored),
    async settle(settlements) {
      settled += settlements.length;
      if (settled === last && isOver()) finish();
    },
    close: async () => undefined,
  };
  const hand = () => {
    const taken: Stored[] = [];
    if (!isOver()) while (taken.length < owed) taken.push(stored(++last));
    owed -= taken.length;
    if (taken.length > 0) take(taken);
  };
  const outbox: Pick<Outbox, 'backlog'> = {
    backlog(_, consumer) {
      take = consumer;
      return backlog;
    },
  };
  createPublisher({
    sink: snsSink({ client, maxBytes: () => 262_144, circumstances: () => circumstances }),
    outbox: outbox as Outbox,
    topics: [topicArn],
    poolSize: inFlight,
    retryCount: 2,
    retryBaseMs: 50,
    exhausted: 'wait',
    rate: createRateLimit(),
    log: SILENT,
    report: reportTo(createMetrics(new Registry()).report),
  });
  return (over) =>
    new Promise((resolve) => {
      isOver = over;
      finish = resolve;
      hand();
    });
}
