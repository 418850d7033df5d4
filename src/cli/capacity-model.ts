/** Formulas for the size of an installation, with the constants of `capacity-constants.ts`. Pure. */
import { CONSTANTS, OTHER_REGIONS_QUOTA, REGION_QUOTAS } from './capacity-constants.ts';

/** The load that an installation must serve. */
export interface Demand {
  readonly users: number;
  /** Share of the users that is online at the busiest time. */
  readonly online: number;
  /** Private messages, group messages and logins a user and day, of all users. */
  readonly messages: number;
  readonly groupMessages: number;
  readonly logins: number;
  /** The busiest second's rate, as a multiple of the day's mean. */
  readonly peak: number;
  /** Bytes of a message's text. */
  readonly body: number;
  /** Longest outage of SNS to survive, in hours. */
  readonly outage: number;
  /** Minutes until all online users have reconnected after a restart of the XMPP servers. */
  readonly reconnect: number;
  readonly region: string;
  /** Messages/s that the account may publish; undefined: the region's default. */
  readonly quota?: number | undefined;
  /** US$ a million requests to SNS. */
  readonly price: number;
  /** Undefined: SQLite while one daemon is enough. */
  readonly engine?: 'sqlite' | 'rabbitmq' | undefined;
}

export interface Capacity {
  /** Notifications/s. */
  readonly mean: number;
  readonly peak: number;
  readonly byKind: Readonly<Record<'presence' | 'pm' | 'muc', number>>;
  readonly quota: number;
  /** Accounts, or regions with this quota, that the peak needs. */
  readonly accounts: number;
  readonly engine: 'sqlite' | 'rabbitmq';
  readonly daemons: number;
  /** Cores that the daemons take at the peak. */
  readonly cores: number;
  readonly clusters: number;
  readonly brokers: number;
  /** `outbox.partitions`; 0 without RabbitMQ. */
  readonly partitions: number;
  /** Notifications that wait after the outage, and their size on disk, copies included. */
  readonly waiting: number;
  readonly diskBytes: number;
  /** Hours until that backlog is published; undefined: never, the quota is too small. */
  readonly drainHours: number | undefined;
  /** When all reconnect: presence notifications/s, and minutes until they are published. */
  readonly reconnectRate: number;
  readonly reconnectMinutes: number | undefined;
  /** Bytes of memory for counted sessions, with MongooseIM by RabbitMQ. */
  readonly sessionBytes: number;
  /** Notifications in a request at the mean rate. */
  readonly perRequest: number;
  /** US$ a month. */
  readonly cost: Readonly<Record<'sns' | 'daemons' | 'brokers' | 'disks' | 'total', number>>;
}

const DAY_S = 86_400;
const MONTH_S = 30 * DAY_S;

const of = (name: keyof typeof CONSTANTS): number => CONSTANTS[name].value;

/** An account's default quota in a region, in messages/s. */
export const quotaOf = (region: string): number => REGION_QUOTAS[region] ?? OTHER_REGIONS_QUOTA;

export function capacityOf(demand: Demand): Capacity {
  const { users, peak: factor } = demand;
  const perSecond = (daily: number) => (users * daily) / DAY_S;
  // Online at the first session's start, offline at the last one's end.
  const byKind = {
    presence: perSecond(2 * demand.logins),
    pm: perSecond(demand.messages),
    muc: perSecond(demand.groupMessages),
  };
  const mean = byKind.presence + byKind.pm + byKind.muc;
  const peak = mean * factor;
  const quota = demand.quota ?? quotaOf(demand.region);
  const accounts = Math.max(Math.ceil(peak / (quota * of('quotaShare'))), 1);

  const alone = of('daemonRate') * of('headroom');
  const engine = demand.engine ?? (peak <= alone ? 'sqlite' : 'rabbitmq');
  const clusters = engine === 'sqlite' ? 0 : Math.ceil(peak / (of('clusterRate') * of('headroom'))) || 1;
  const daemons =
    engine === 'sqlite'
      ? Math.max(Math.ceil(peak / alone), 1)
      : Math.max(Math.ceil(peak / (of('clusterDaemonRate') * of('headroom'))), 3, clusters);
  // Even shares, also after one daemon is lost: at least two partitions of each topic for each daemon of a cluster.
  const partitions = engine === 'sqlite' ? 0 : Math.max(6, 2 * Math.ceil(daemons / clusters));

  const text = (byKind.pm + byKind.muc) / Math.max(mean, Number.MIN_VALUE);
  const bytes = of('waitingBytes') + text * demand.body;
  const seconds = demand.outage * 3_600;
  // A whole day includes quiet hours; a shorter outage may hit the busiest ones.
  const waiting = Math.min(seconds * peak, Math.max(seconds, DAY_S) * mean);
  const diskBytes = waiting * bytes * (engine === 'sqlite' ? 1 : of('copies'));

  const out = Math.min(quota * of('quotaShare') * accounts, of('drainRate') * of('headroom') * daemons);
  const spare = out - mean;
  const reconnecting = users * demand.online;
  const reconnectRate = reconnecting / (demand.reconnect * 60);
  // Notifications beyond the publishing rate queue up meanwhile.
  const behind = Math.max(reconnectRate + mean - out, 0) * demand.reconnect * 60;

  const requests = Object.values(byKind).reduce((sum, each) => sum + each / fill(each / daemons), 0);
  const cost = {
    sns: ((requests * MONTH_S) / 1e6) * demand.price,
    daemons: daemons * of('machinePrice'),
    brokers: clusters * of('copies') * of('brokerPrice'),
    disks: (diskBytes / 1e9) * of('diskPrice'),
  };
  return {
    mean,
    peak,
    byKind,
    quota,
    accounts,
    engine,
    daemons,
    cores: (peak * of('daemonCpu')) / 1e6,
    clusters,
    brokers: clusters * of('copies'),
    partitions,
    waiting,
    diskBytes,
    drainHours: spare > 0 ? waiting / spare / 3_600 : undefined,
    reconnectRate,
    reconnectMinutes: spare > 0 ? demand.reconnect + behind / spare / 60 : undefined,
    sessionBytes: reconnecting * of('sessionBytes'),
    perRequest: requests > 0 ? mean / requests : 1,
    cost: { ...cost, total: cost.sns + cost.daemons + cost.brokers + cost.disks },
  };
}

/** Notifications of one topic that a daemon puts into a request, at a given rate per second. */
function fill(rate: number): number {
  if (rate <= of('directRate')) return 1;
  return Math.min(Math.max(rate * of('gatherSeconds'), 1), of('batch'));
}
