/** The constants of `capacity`, each with its source; docs/scaling.md has them as a table. */

export interface Constant {
  readonly value: number;
  readonly unit: string;
  readonly source: string;
}

const QUOTAS = 'docs.aws.amazon.com/general/latest/gr/sns.html';
const END_TO_END = 'bench/results/end-to-end.json';

export const CONSTANTS = {
  daemonRate: {
    value: 34_500,
    unit: 'events/s of one daemon with a SQLite outbox, at full speed on two cores',
    source: END_TO_END,
  },
  daemonCpu: { value: 26, unit: 'µs of processor time per event', source: END_TO_END },
  drainRate: {
    value: 47_000,
    unit: 'notifications/s of one daemon from a backlog',
    source: 'bench/results/drain.json',
  },
  clusterDaemonRate: {
    value: 17_000,
    unit: 'events/s of one daemon with RabbitMQ as the outbox; load, daemon and broker on the same two cores',
    source: '`npm run bench -- cluster`: 20,200 to 35,900 with one node, 6,000 to 13,000 beside other work',
  },
  clusterRate: {
    value: 17_000,
    unit: 'events/s of a cluster of three RabbitMQ nodes; three daemons and the load on the same two cores',
    source: '`npm run bench -- cluster`: 16,800 to 21,000 on a quiet machine',
  },
  headroom: {
    value: 0.6,
    unit: 'share of a measured rate for planning',
    source: 'a choice: the rest is for bursts',
  },
  quotaShare: {
    value: 0.8,
    unit: 'share of the quota for planning',
    source: 'a choice: SNS throttles before the end of the second',
  },
  waitingBytes: {
    value: 190,
    unit: 'bytes on disk per waiting notification, besides its body',
    source: '50,000 private messages in an outbox, with bodies of 100, 200 and 1,000 bytes',
  },
  copies: {
    value: 3,
    unit: "copies of a quorum queue's content on three nodes",
    source: 'rabbitmq.com/docs/quorum-queues',
  },
  gatherSeconds: {
    value: 0.002,
    unit: 's of waiting for a full batch at high load',
    source: 'src/pipeline/topic.ts',
  },
  directRate: {
    value: 200,
    unit: 'notifications/s of one topic that are sent one by one: four open requests, 20 ms each',
    source: 'src/pipeline/topic.ts, and 20 ms for SNS to answer',
  },
  batch: {
    value: 10,
    unit: 'notifications in a request, at most',
    source: 'docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html',
  },
  requestPrice: {
    value: 0.5,
    unit: 'US$ a million requests of up to 64 KiB to a standard topic in us-east-1',
    source: 'aws.amazon.com/sns/pricing, 2026-11',
  },
  machinePrice: {
    value: 53,
    unit: 'US$ a month for a machine with two cores and 4 GiB (c7g.large in us-east-1, on demand)',
    source: 'aws.amazon.com/ec2/pricing/on-demand, 2026-11',
  },
  brokerPrice: {
    value: 60,
    unit: 'US$ a month for a broker with two cores and 8 GiB (m7g.large in us-east-1, on demand)',
    source: 'aws.amazon.com/ec2/pricing/on-demand, 2026-11',
  },
  diskPrice: {
    value: 0.08,
    unit: 'US$ a GB and month (gp3 in us-east-1)',
    source: 'aws.amazon.com/ebs/pricing, 2026-11',
  },
  sessionBytes: {
    value: 160,
    unit: 'bytes of memory per online session with `[tap.rabbitmq]`',
    source: 'a million sessions counted, heap before and after',
  },
} as const satisfies Record<string, Constant>;

/** Messages/s that an account may publish to standard topics in a region, unless AWS raised it. */
export const REGION_QUOTAS: Readonly<Record<string, number>> = {
  'us-east-1': 30_000,
  'us-west-2': 9_000,
  'eu-west-1': 9_000,
  'us-east-2': 1_500,
  'us-west-1': 1_500,
  'ap-south-1': 1_500,
  'ap-northeast-2': 1_500,
  'ap-southeast-1': 1_500,
  'ap-southeast-2': 1_500,
  'ap-northeast-1': 1_500,
  'eu-central-1': 1_500,
};
export const OTHER_REGIONS_QUOTA = 300;
export const QUOTA_SOURCE = QUOTAS;
