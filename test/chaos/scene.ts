/** A daemon between adapters and a failing SNS, shared by the chaos tests. */
import { closeSync, openSync } from 'node:fs';
import { createDaemon, type Daemon, type DaemonOptions } from '../support/daemon.ts';
import { until } from '../support/process.ts';
import { type StubSns, startStubSns } from '../support/stub-sns.ts';
import { type Adapter, createAdapter, eventId, type Flaw, POISONED, plantFlaws, REFUSED } from './adapters.ts';
import { createFaults, type Faults, planFaults } from './faults.ts';
import { Ledger, type Source } from './ledger.ts';

/** Small, so that few notifications are in transit at a kill: ten for each connection. */
export const POOL_SIZE = 20;

export interface SceneOptions {
  readonly seed: number;
  readonly events: number;
  /** Planted events of each flaw. */
  readonly flaws?: number;
  /** Whether SNS fails at random; otherwise only on request. */
  readonly faults?: boolean;
  /** Lines for the outbox section. */
  readonly outbox?: string;
}

export interface Scene extends AsyncDisposable {
  readonly daemon: Daemon;
  readonly faults: Faults;
  readonly ledger: Ledger;
  readonly adapters: readonly Adapter[];
  /** Adds an adapter with enough large events to fill a disk. */
  addBulk(): Adapter;
  /** How many runs of the daemon were killed. */
  readonly kills: number;
  /** The endpoint, while it is open. */
  readonly endpoint: StubSns | undefined;
  /** The progress, by acknowledged and published events, from 0 to 1. */
  progress(): number;
  /** Opens the endpoint, always on the same port. */
  openEndpoint(): Promise<void>;
  closeEndpoint(): Promise<void>;
  /** Starts another run of the daemon; every third one can't write its log. */
  start(): Promise<void>;
  kill(): Promise<void>;
  /** Waits; a failure tells how to replay it, and the daemon's last output. */
  wait(what: string, condition: () => boolean | Promise<boolean>): Promise<void>;
  /** The daemon's dead letters, listed by its command: event id and reason. */
  deadLetters(): Promise<{ eventId: string; reason: string }[]>;
  /** How many notifications wait in the outbox, by the topic's name. */
  depthByTopic(): Promise<[topic: string, depth: number][]>;
  depth(): Promise<number>;
}

const SOURCES = ['chaos@node1', 'chaos@node2', 'chaos@node3', 'chaos@node4'];
/** Long enough for any machine; a normal run takes a fraction of it. */
const DEADLINE_MS = 180_000;

/** Private messages go to a standard topic, the rest to FIFO topics. */
export const TOPICS = {
  presence: 'user_presence_updated.fifo',
  pm: 'user_message_sent',
  muc: 'user_messagegroup_sent.fifo',
};

export async function setScene({ seed, events, flaws = 0, outbox = '', ...options }: SceneOptions): Promise<Scene> {
  const total = Math.ceil(events / SOURCES.length);
  const planted = plantFlaws(seed, SOURCES, total, flaws);
  const sources = SOURCES.map((source) => ({ source, total, flaws: planted.get(source) as ReadonlyMap<number, Flaw> }));
  const faults = createFaults(options.faults ? planFaults(seed, sources) : new Map());
  const ledger = new Ledger();
  const stubOptions = {
    fault: faults.draw,
    accepted: ledger.accepted,
    refuses: ({ message }: { message: string }) =>
      message.includes(REFUSED) ? ('entry' as const) : message.includes(POISONED) ? ('request' as const) : undefined,
  };
  let endpoint: StubSns | undefined = await startStubSns(stubOptions);
  const { url, port } = endpoint;
  let run = 0;
  let kills = 0;
  // Read at every `configure`: each run of the daemon uses its own path.
  const sns = {
    get url() {
      return `${url}/run-${run}`;
    },
    region: 'eu-west-1',
    accountId: '123456789012',
  };
  const daemonOptions: DaemonOptions = {
    topics: TOPICS,
    sns: `pool_size = ${POOL_SIZE}\nattributes = ["event_id"]\npublish_retry_count = 5\npublish_retry_time_ms = 10`,
    outbox,
  };
  const daemon = await createDaemon(sns, daemonOptions);
  const { tapUrl } = daemon;
  const adapters = sources.map((source) => createAdapter({ tapUrl, seed, ...source }));

  const depthByTopic = async (): Promise<[string, number][]> => {
    const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
    const depths = metrics.matchAll(/^xmpp_event_pusher_outbox_notifications\{topic="[^"]*:([^":]+)"\} (\d+)$/gm);
    return [...depths].map(([, topic, depth]) => [String(topic), Number(depth)]);
  };

  return {
    daemon,
    faults,
    ledger,
    adapters,
    addBulk() {
      const bulk = createAdapter({ tapUrl, seed, source: 'chaos@bulk' });
      adapters.push(bulk);
      return bulk;
    },
    get kills() {
      return kills;
    },
    get endpoint() {
      return endpoint;
    },
    progress() {
      const sum = (count: (adapter: Adapter) => number) => adapters.reduce((so, adapter) => so + count(adapter), 0);
      const all = sum(({ total, flaws }) => 2 * total - flaws.size);
      return (sum(({ acknowledged }) => acknowledged) + ledger.size) / all;
    },
    async openEndpoint() {
      endpoint = await startStubSns({ ...stubOptions, port });
    },
    async closeEndpoint() {
      await endpoint?.[Symbol.asyncDispose]();
      endpoint = undefined;
    },
    async start() {
      run += 1;
      await daemon.configure(daemonOptions);
      if (run % 3 !== 0) return daemon.start({ ready: false });
      const full = openSync('/dev/full', 'w');
      try {
        await daemon.start({ ready: false, stdout: full });
      } finally {
        closeSync(full);
      }
    },
    async kill() {
      await daemon.kill();
      kills += 1;
    },
    wait: (what, condition) =>
      until(what, condition, DEADLINE_MS).catch((error: Error) => {
        const last = daemon.output().split('\n').slice(-20).join('\n');
        throw new Error(`${error.message}\nCHAOS_SEED=${seed} replays it; the daemon's last words:\n${last}`);
      }),
    async deadLetters() {
      const { output } = await daemon.command('dead-letters', 'list', '--json', '--limit', '1000000');
      return output
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line));
    },
    depthByTopic,
    depth: async () => (await depthByTopic()).reduce((sum, [, depth]) => sum + depth, 0),
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]();
      await endpoint?.[Symbol.asyncDispose]();
    },
  };
}

const REASONS: Readonly<Record<Flaw, string>> = {
  'too-large': 'too-large',
  malformed: 'malformed',
  refused: 'InvalidParameter',
  poisoned: 'InvalidParameter',
};

/** The planted dead letters: event id and reason, sorted. */
export const plantedLetters = (sources: readonly Source[]): string[] =>
  sources
    .flatMap(({ source, flaws }) => [...flaws].map(([seq, flaw]) => `${eventId(source, seq)} ${REASONS[flaw]}`))
    .sort();
