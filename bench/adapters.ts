/**
 * `npm run bench:adapters`: what an adapter costs its server, and how long a message takes through it. Compares the
 * same messages on a server with and without it, in turn; docs/adapters.md explains the results.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { makeCertificate } from '../test/support/certificate.ts';
import { startEjabberd } from '../test/support/ejabberd.ts';
import { launch, until } from '../test/support/process.ts';
import { startProsody } from '../test/support/prosody.ts';
import type { StartServer, XmppServer } from '../test/support/server.ts';
import { latencyOf } from './adapters-latency.ts';
import type { Kind, LoadTimes, Order } from './adapters-load.ts';
import { next } from './child.ts';
import { cpuOf, type Figure, median, type Result, writeSeries } from './measure.ts';
import { table } from './table.ts';

const SERVERS: Readonly<Record<string, StartServer>> = { prosody: startProsody, ejabberd: startEjabberd };

interface Load {
  readonly how: string;
  readonly kind: Kind;
  /** Whether the server asks for TLS. */
  readonly tls: boolean;
  readonly processes: number;
  /** Of each process. */
  readonly pairs: number;
  /** Multiplies `--messages`. */
  readonly times: number;
}

/**
 * `clients` keep more than one core busy; `sockets` leave one core to the server. Both servers ask for TLS by default.
 */
const LOADS: Readonly<Record<string, Load>> = {
  clients: { how: 'real clients', kind: 'clients', tls: true, processes: 2, pairs: 4, times: 1 },
  plain: { how: 'real clients without TLS', kind: 'clients', tls: false, processes: 2, pairs: 4, times: 1 },
  sockets: { how: 'server saturated', kind: 'sockets', tls: false, processes: 1, pairs: 8, times: 5 },
};

/** Almost no load: how long one message takes. */
const LATENCY = 'latency';
const KINDS = [LATENCY, ...Object.keys(LOADS)];

const TARGET = 0.9;

/** Runs of a round on each of its two servers, in turn. */
const RUNS = 5;

const WITH = ['without', 'with'] as const;
type With = (typeof WITH)[number];

const HELP = `npm run bench:adapters -- [options]

  --messages <n>   messages between real clients in a run; five times as many from bare sockets (20000)
  --rounds <n>     rounds, each of ${RUNS} runs on a server with the adapter and on one without, both just started (3)
  --server <name>  only this one: ${Object.keys(SERVERS).join(', ')}
  --load <kind>    only this one: ${KINDS.join(', ')}
  --help           this
`;

const { values } = parseArgs({
  options: {
    messages: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '3' },
    server: { type: 'string', multiple: true, default: Object.keys(SERVERS) },
    load: { type: 'string', multiple: true, default: KINDS },
    help: { type: 'boolean', default: false },
  },
});
const [messages, rounds] = [Number(values.messages), Number(values.rounds)];
const unknown = [
  ...values.server.filter((name) => !(name in SERVERS)),
  ...values.load.filter((name) => !KINDS.includes(name)),
  ...[messages, rounds].filter((number) => !(number >= 1)),
];
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) process.stderr.write(`not to be used: ${unknown.join(', ')}\n`);
  process.stdout.write(HELP);
  process.exit(unknown.length > 0 ? 2 : 0);
}

/** Measurements of one run. */
interface Run {
  /** Messages delivered per second. */
  readonly rate: number;
  /** The server's CPU time per message, in microseconds. */
  readonly cpuUs: number;
  /** How much of one core the server used. */
  readonly cores: number;
}

interface CountingSink extends AsyncDisposable {
  readonly url: string;
  /** Its events, and the missing numbers before its last one. */
  stats(): Promise<{ events: number; missing: number }>;
}

async function startSink(): Promise<CountingSink> {
  const child = await launch(process.execPath, [path.join(import.meta.dirname, 'adapters-sink.ts')]);
  await until('the sink to listen', () => /\n/.test(child.output()));
  const url = `http://127.0.0.1:${Number(child.output())}/v1/events`;
  return {
    url,
    stats: async () => (await (await fetch(url)).json()) as { events: number; missing: number },
    [Symbol.asyncDispose]: () => child.end('SIGKILL'),
  };
}

/** A server, and a sink if it has the adapter. */
interface Side extends AsyncDisposable {
  readonly which: With;
  readonly server: XmppServer;
  /** Settles when the sink has all events of so many more messages. */
  delivered(messages: number): Promise<void>;
}

async function startSide(start: StartServer, load: Load, which: With): Promise<Side> {
  const adapter = which === 'with';
  await using stack = new AsyncDisposableStack();
  const sink = stack.use(await startSink());
  const server = stack.use(await start({ url: sink.url, adapter, ...(load.tls ? { tls: certificate } : {}) }));
  // Each user comes online.
  let events = load.processes * load.pairs * 2;
  const all = stack.move();
  return {
    which,
    server,
    async delivered(more) {
      events += more;
      if (!adapter) return;
      try {
        await until(`${events} events to be delivered`, async () => (await sink.stats()).events === events, 60_000);
      } catch (cause) {
        throw new Error(`the sink has ${JSON.stringify(await sink.stats())}\n${server.log()}`, { cause });
      }
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** Waits until a server is idle: after its start, ejabberd scans its modules for seconds. */
async function idle(pid: number): Promise<void> {
  let before = cpuOf(pid);
  await until('the server to rest', async () => {
    await sleep(500);
    const used = cpuOf(pid) - before;
    before += used;
    return used <= 20_000;
  });
}

/** Starts the load processes; settles when all have warmed up. */
async function startLoad(sides: readonly Side[], load: Load, ofPair: number): Promise<ChildProcess[]> {
  const { kind } = load;
  const children: ChildProcess[] = [];
  for (let number = 0; number < load.processes; number++) {
    const pairs = Array.from(
      { length: load.pairs },
      (_, index) => [`from${number}-${index}`, `to${number}-${index}`] as const,
    );
    for (const { server } of sides) for (const user of pairs.flat()) await server.register(user);
    const servers = sides.map(({ server: { host, c2sPort } }) => ({ host, c2sPort }));
    const order: Order = { kind, servers, pairs, messages: ofPair };
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: certificate.cert };
    children.push(fork(path.join(import.meta.dirname, 'adapters-load.ts'), [JSON.stringify(order)], { env }));
  }
  await Promise.all(children.map(next));
  return children;
}

/** The runs of one round, on new servers: speed differs slightly from start to start. */
async function compareOnce(name: string, start: StartServer, load: Load, runs: Record<With, Run[]>): Promise<void> {
  const pairs = load.processes * load.pairs;
  const ofPair = Math.ceil((messages * load.times) / pairs);
  const total = pairs * ofPair;
  await using stack = new AsyncDisposableStack();
  const sides: Side[] = [];
  for (const which of WITH) sides.push(stack.use(await startSide(start, load, which)));
  const children = await startLoad(sides, load, ofPair);
  stack.defer(() => {
    for (const child of children) child.kill('SIGKILL');
  });
  for (const side of sides) await side.delivered(total);
  const one = async (index: number, { which, server, delivered }: Side) => {
    await idle(server.pid);
    const cpu = cpuOf(server.pid);
    for (const child of children) child.send(index);
    const reports = await Promise.all(children.map(async (child) => (await next(child)) as LoadTimes));
    await delivered(total);
    // The cost includes events delivered after the last message arrived.
    const used = cpuOf(server.pid) - cpu;
    const seconds =
      (Math.max(...reports.map(({ end }) => end)) - Math.min(...reports.map(({ begin }) => begin))) / 1_000;
    const found: Run = { rate: total / seconds, cpuUs: used / total, cores: used / 1_000_000 / seconds };
    runs[which].push(found);
    process.stderr.write(
      `${name}, ${load.how}, ${which} the adapter: ${Math.round(found.rate)} messages/s, ${found.cpuUs.toFixed(1)} µs CPU each, ${found.cores.toFixed(2)} cores\n`,
    );
  };
  for (let run = 0; run < RUNS; run++) {
    // The sides take turns to run first.
    const order = [...sides.entries()];
    for (const [index, side] of run % 2 === 0 ? order : order.toReversed()) await one(index, side);
  }
}

async function compare(name: string, start: StartServer, load: Load): Promise<Result> {
  const runs: Record<With, Run[]> = { without: [], with: [] };
  for (let round = 0; round < rounds; round++) await compareOnce(name, start, load, runs);
  const { how } = load;
  const medianOf = (which: With, field: keyof Run) => median(runs[which].map((one) => one[field]));
  const ratio = medianOf('with', 'rate') / medianOf('without', 'rate');
  const figures: Figure[] = [{ what: `throughput, ${how}`, value: ratio, unit: '×', target: { atLeast: TARGET } }];
  for (const which of WITH) {
    figures.push({ what: `rate ${which} it, ${how}`, value: medianOf(which, 'rate'), unit: 'messages/s' });
    figures.push({ what: `server's CPU ${which} it, ${how}`, value: medianOf(which, 'cpuUs'), unit: 'µs/message' });
    figures.push({ what: `server's share ${which} it, ${how}`, value: medianOf(which, 'cores'), unit: 'cores' });
  }
  return { benchmark: `${name}'s adapter`, figures, more: runs };
}

const dir = mkdtempSync(path.join(tmpdir(), 'bench-adapters-'));
process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
const certificate = { cert: path.join(dir, 'cert.pem'), key: path.join(dir, 'key.pem') };
await makeCertificate(dir, 'DNS:localhost');
// Prosody runs as its own user.
for (const file of [dir, certificate.key]) await chmod(file, 0o755);

const results: Result[] = [];
for (const name of values.server) {
  const start = SERVERS[name] as StartServer;
  for (const kind of values.load) {
    results.push(
      kind === LATENCY ? await latencyOf(name, start, 200) : await compare(name, start, LOADS[kind] as Load),
    );
  }
}
const folder = path.join(import.meta.dirname, 'results');
mkdirSync(folder, { recursive: true });
const kept = {
  at: new Date().toISOString(),
  messages,
  rounds,
  machine: {
    processor: cpus()[0]?.model,
    cores: availableParallelism(),
    node: process.version,
    loadAverage: loadavg(),
  },
  results: results.map(({ more: _, ...figures }) => figures),
};
writeFileSync(path.join(folder, 'adapters.json'), `${JSON.stringify(kept, null, 2)}\n`);
writeSeries(folder, 'adapters', results);
writeFileSync(path.join(folder, 'adapters.md'), table(results));
process.stdout.write(table(results));
