/**
 * RabbitMQ as the outbox, with broker, daemons, load and endpoint on this machine: maximum throughput with one node and
 * one daemon, and with three of each; then the latency of three at a moderate rate.
 */
import { until } from '../test/support/process.ts';
import { startRabbit, untilTogether } from '../test/support/rabbitmq.ts';
import { cpuOf, type Figure, type Result, residentOf, type Size } from './measure.ts';
import { type BenchDaemon, createDaemon, startEndpoint } from './rig.ts';

const WARM_UP_SECONDS = 5;
/** A load before anything is measured: it makes the topics' partitions, which then spread among the daemons. */
const FIRST_SECONDS = 2;
/** Rate for the latency measurement, in events per second. */
const PACED = 3_000;

interface Case {
  readonly nodes: number;
  readonly daemons: number;
  readonly atLeast: number;
  /** Limit for the 99th percentile at {@link PACED}, in milliseconds. */
  readonly p99?: number;
}

const CASES: readonly Case[] = [
  { nodes: 1, daemons: 1, atLeast: 20_000 },
  { nodes: 3, daemons: 3, atLeast: 12_000, p99: 400 },
];

export async function cluster({ seconds }: Size): Promise<Result> {
  const figures: Figure[] = [];
  for (const one of CASES) figures.push(...(await figuresOf(one, seconds)));
  return { benchmark: 'cluster', figures };
}

async function figuresOf({ nodes, daemons: count, atLeast, p99 }: Case, seconds: number): Promise<Figure[]> {
  await using rabbit = await startRabbit({ nodes });
  await untilTogether(rabbit);
  await using endpoint = await startEndpoint();
  const vhost = await rabbit.vhost();
  await using stack = new AsyncDisposableStack();
  const daemons: BenchDaemon[] = [];
  for (let index = 0; index < count; index++) {
    const url = rabbit.url(vhost, { node: index % nodes });
    const rest = `[outbox]\nengine = "rabbitmq"\nurl = "${url}"`;
    daemons.push(stack.use(await createDaemon({ snsUrl: endpoint.url, rest })));
  }
  await Promise.all(daemons.map((daemon) => daemon.start()));
  /** Each daemon has its own sources. */
  const load = (rate: number, length: number, more = {}) =>
    Promise.all(
      daemons.map((daemon, index) =>
        daemon.load({ rate: rate / count, seconds: length, epoch: `${rate}-${index}`, ...more }),
      ),
    );
  const first = await load(PACED, FIRST_SECONDS, { batch: 20 });
  await Promise.all(first.map(({ done }) => done));
  await until('the partitions to be spread', () => isSpread(daemons), 60_000);
  const pause = (length: number) => new Promise((resolve) => setTimeout(resolve, length * 1_000));

  const how = `with ${nodes} ${nodes === 1 ? 'node and 1 daemon' : `nodes and ${count} daemons`}`;
  const figures: Figure[] = [];
  if (p99 !== undefined) {
    const paced = await load(PACED, WARM_UP_SECONDS + seconds, { batch: 20, sources: 8 });
    await pause(WARM_UP_SECONDS);
    await endpoint.timeLatencies();
    await Promise.all(paced.map(({ done }) => done));
    const found = await endpoint.latencies();
    const at = `at ${PACED.toLocaleString('en')} events/s ${how}`;
    figures.push(
      { what: `p50 ${at}`, value: found.p50, unit: 'ms' },
      { what: `p99 ${at}`, value: found.p99, unit: 'ms', target: { atMost: p99 } },
    );
  }
  const fast = await load(0, WARM_UP_SECONDS + seconds);
  await pause(WARM_UP_SECONDS);
  const cpu = daemons.map(({ pid }) => cpuOf(pid));
  const before = (await endpoint.stats()).accepted;
  const begin = performance.now();
  let resident = 0;
  while (performance.now() - begin < seconds * 1_000 - 1_000) {
    await pause(1);
    resident = Math.max(resident, ...daemons.map(({ pid }) => residentOf(pid)));
  }
  const accepted = (await endpoint.stats()).accepted - before;
  const elapsed = (performance.now() - begin) / 1_000;
  const used = daemons.reduce((sum, { pid }, index) => sum + cpuOf(pid) - (cpu[index] ?? 0), 0);
  await Promise.all(fast.map(({ done }) => done));
  await Promise.all(daemons.map((daemon) => daemon.stop()));
  return [
    { what: `rate ${how}, as fast as it goes`, value: accepted / elapsed, unit: 'events/s', target: { atLeast } },
    { what: `daemons' CPU ${how}`, value: used / accepted, unit: 'µs/event', target: { atMost: 25 } },
    { what: `largest RSS ${how}`, value: resident, unit: 'MB', target: { atMost: 300 } },
    ...figures,
  ];
}

/** Whether all daemons agree that each has its share of the partitions of each topic. */
async function isSpread(daemons: readonly BenchDaemon[]): Promise<boolean> {
  const views = await Promise.all(daemons.map((daemon) => daemon.shared()));
  const owners = views.map((view) =>
    (view?.partitions ?? []).map(({ queue, daemon }) => `${queue} ${daemon}`).toSorted(),
  );
  if (new Set(owners.map(String)).size > 1) return false;
  const { partitions = [], daemons: present = [] } = views[0] ?? {};
  if (partitions.length === 0 || present.length < daemons.length) return false;
  return Object.values(Object.groupBy(partitions, ({ topic }) => topic)).every((all = []) => {
    const shares = present.map(({ id }) => all.filter(({ daemon }) => daemon === id).length);
    return Math.max(...shares) - Math.min(...shares) <= 1 && shares.reduce((sum, each) => sum + each) === all.length;
  });
}
