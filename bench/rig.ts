/** The processes of a benchmark: the SNS endpoint, the daemon as users run it, the load; each stopped by its pid. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { State } from '../src/ops/state.ts';
import { freePorts, launch, type Process, until } from '../test/support/process.ts';
import type { LoadOptions, LoadReport } from './load.ts';
import { clock, cpuOf, residentOf } from './measure.ts';
import type { Latencies, StubStats } from './stub.ts';

/** The command in this checkout. */
const BIN = fileURLToPath(new URL('../bin/xmpp-event-pusher.js', import.meta.url));
const STUB = fileURLToPath(new URL('./stub.ts', import.meta.url));
const LOAD = fileURLToPath(new URL('./load.ts', import.meta.url));
const SECRET = 'bench-secret';

/** Node.js includes the timer's period in the loop's delay: the value of an idle process. */
const LAG_TIMER_MS = 10;

export interface Endpoint extends AsyncDisposable {
  readonly url: string;
  stats(): Promise<StubStats>;
  /** Starts, or restarts, recording latencies; `latencies` returns them. */
  timeLatencies(): Promise<void>;
  latencies(): Promise<Latencies>;
}

export async function startEndpoint(port = 0): Promise<Endpoint> {
  const child = await launch(process.execPath, [STUB, String(port)]);
  await until('the SNS endpoint to listen', () => /\n/.test(child.output()));
  const url = `http://127.0.0.1:${Number(child.output())}`;
  return {
    url,
    stats: async () => (await fetch(`${url}/stats`)).json() as Promise<StubStats>,
    timeLatencies: async () => void (await fetch(`${url}/latencies`, { method: 'POST' })),
    latencies: async () => (await fetch(`${url}/latencies`)).json() as Promise<Latencies>,
    [Symbol.asyncDispose]: () => child.end('SIGKILL'),
  };
}

export interface BenchDaemon extends AsyncDisposable {
  readonly pid: number;
  /** The folder of the configuration and the outbox. */
  readonly folder: string;
  readonly tapUrl: string;
  readonly adminUrl: string;
  readonly secret: string;
  /** From the start of the process until ready, in milliseconds. */
  readonly startedMs: number;
  /** Starts it, also after a stop. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Reads its metrics. */
  gauges(): Promise<Gauges>;
  /** How several daemons share an outbox, as this one knows it. */
  shared(): Promise<NonNullable<State['shared']> | undefined>;
  /** Starts a load against it. */
  load(options: Partial<LoadOptions>): Promise<Load>;
}

interface Gauges {
  /** Notifications that SNS has not accepted yet. */
  readonly backlog: number;
  /** The event loop's delay since the last call: the 99th percentile, in milliseconds. */
  readonly loopDelayMs: number;
}

interface Load {
  readonly pid: number;
  readonly done: Promise<LoadReport>;
}

export interface DaemonSetup {
  readonly snsUrl: string;
  /** Options for Node.js, before the script's name. */
  readonly nodeOptions?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Lines to append to the configuration. */
  readonly rest?: string;
  /** The command of another checkout. */
  readonly bin?: string;
}

/** Prepares a daemon with all features on, in a folder of its own. */
export async function createDaemon({
  snsUrl,
  nodeOptions = [],
  env = {},
  bin = BIN,
  rest = '',
}: DaemonSetup): Promise<BenchDaemon> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pusher-bench-'));
  const [tapPort, adminPort] = (await freePorts(2)) as [number, number];
  const configFile = path.join(folder, 'pusher.toml');
  await writeFile(configFile, `${configuration(snsUrl, tapPort, adminPort)}${rest}\n`);
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  const tapUrl = `http://127.0.0.1:${tapPort}/v1/events`;
  const { flags, variables } = launcherOf(bin);
  const args = [...flags, ...nodeOptions, bin, 'run', '--config', configFile];
  let child: Process | undefined;
  let startedMs = Number.NaN;
  let loads = 0;
  return {
    folder,
    tapUrl,
    adminUrl,
    secret: SECRET,
    get pid() {
      return child?.pid ?? 0;
    },
    get startedMs() {
      return startedMs;
    },
    async start() {
      const begin = clock();
      const started = await launch(process.execPath, args, { env: { ...process.env, ...variables, ...env } });
      child = started;
      await until('the daemon to be ready', async () => !started.running || (await fetch(`${adminUrl}/readyz`)).ok);
      if (!started.running) throw new Error(`the daemon ended:\n${started.output()}`);
      startedMs = clock() - begin;
    },
    async stop() {
      await child?.end('SIGTERM');
      child = undefined;
    },
    async gauges() {
      const metrics = await (await fetch(`${adminUrl}/metrics`)).text();
      const depths = metrics.matchAll(/^xmpp_event_pusher_outbox_notifications\{[^}]*\} (\d+)$/gm);
      return {
        backlog: [...depths].reduce((sum, [, depth]) => sum + Number(depth), 0),
        loopDelayMs: Number(/^nodejs_eventloop_lag_p99_seconds (.+)$/m.exec(metrics)?.[1]) * 1_000 - LAG_TIMER_MS,
      };
    },
    async shared() {
      return ((await (await fetch(`${adminUrl}/api/state`)).json()) as State).shared;
    },
    async load(options) {
      const whole: LoadOptions = {
        tapUrl,
        secret: SECRET,
        batch: 100,
        rate: 0,
        events: Number.MAX_SAFE_INTEGER,
        seconds: 3_600,
        sources: 8,
        epoch: `load-${loads++}`,
        ...options,
      };
      const loading = await launch(process.execPath, [LOAD, JSON.stringify(whole)]);
      const done = loading.exited.then((code) => {
        if (code !== 0) throw new Error(`the load failed:\n${loading.output()}`);
        return JSON.parse(loading.output()) as LoadReport;
      });
      return { pid: loading.pid, done };
    },
    async [Symbol.asyncDispose]() {
      await child?.end('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What the command gives to Node.js: in its launcher or, in older checkouts, in its first line. */
function launcherOf(bin: string): { flags: readonly string[]; variables: Readonly<Record<string, string>> } {
  const launcher = bin.replace(/\.js$/, '');
  const text = readFileSync(existsSync(launcher) ? launcher : bin, 'utf8');
  const variables = text.matchAll(/^export (\w+)="\$\{\1:-(\d+)\}"$/gm);
  return {
    flags: text.match(/(?<= )--[a-z-]+=\d+/g) ?? [],
    variables: Object.fromEntries([...variables].map(([, name, value]) => [name, value])),
  };
}

const configuration = (snsUrl: string, tapPort: number, adminPort: number): string => `
[modules.mod_event_pusher.sns]
  presence_updates_topic = "user_presence_updated"
  pm_messages_topic = "user_message_sent"
  muc_messages_topic = "user_messagegroup_sent"
  sns_host = "${snsUrl}"
  region = "eu-west-1"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
  account_id = "123456789012"
[tap.http]
  listen = "127.0.0.1:${tapPort}"
  secret = "${SECRET}"
[admin]
  listen = "127.0.0.1:${adminPort}"
`;

export interface Usage {
  /** Seconds since the first sample. */
  readonly second: number;
  readonly accepted: number;
  readonly residentMb: number;
  readonly backlog: number;
  readonly loopDelayMs: number;
}

export interface Watch {
  readonly samples: readonly Usage[];
  /** Between the first and the last sample. */
  readonly seconds: number;
  readonly accepted: number;
  /** The daemon's CPU time, in microseconds. */
  readonly cpuUs: number;
  /** The load's CPU time in the same window, a measure of the machine's speed. */
  readonly loadCpuUs: number;
}

/** Samples a daemon under load every `everyMs` until `over`. */
export async function watch(
  daemon: BenchDaemon,
  endpoint: Endpoint,
  over: (sample: Usage) => boolean,
  { everyMs = 1_000, load }: { everyMs?: number; load?: Load } = {},
): Promise<Watch> {
  const samples: Usage[] = [];
  const begin = clock();
  const cpu = cpuOf(daemon.pid);
  const loadCpu = load ? cpuOf(load.pid) : 0;
  for (;;) {
    const { accepted } = await endpoint.stats();
    const second = (clock() - begin) / 1_000;
    const sample = { second, accepted, residentMb: residentOf(daemon.pid), ...(await daemon.gauges()) };
    samples.push(sample);
    if (over(sample)) break;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  const [first, last] = [samples[0], samples.at(-1)] as [Usage, Usage];
  return {
    samples,
    seconds: last.second - first.second,
    accepted: last.accepted - first.accepted,
    cpuUs: cpuOf(daemon.pid) - cpu,
    loadCpuUs: load ? cpuOf(load.pid) - loadCpu : 0,
  };
}
