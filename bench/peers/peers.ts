/**
 * Compares this daemon's publisher with others from npm and Debian: one process each, the same endpoint and messages.
 * They publish in turn, one second each, so that slow phases of the machine affect all of them.
 *
 * A peer only publishes: no outbox, no order, no retries. `end-to-end` measures the whole daemon.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { next } from '../child.ts';
import { cpuOf, type Figure, type Result, residentOf, type Size } from '../measure.ts';
import { IN_FLIGHT, TOPIC } from '../publisher.ts';
import { type Endpoint, startEndpoint } from '../rig.ts';

const NODE = fileURLToPath(new URL('./node.ts', import.meta.url));
const BOTO = fileURLToPath(new URL('./boto.py', import.meta.url));
/** Debian's Python, not another one that comes first on the PATH. */
const PYTHON = '/usr/bin/python3';
const WARM_UP_MS = 3_000;
const TURN_MS = 1_000;
/** boto3's threads share one interpreter, and so one core: more threads would only wait for each other. */
const THREADS = 8;

const OURS = 'this publisher';
const ON_NODE = [
  OURS,
  "the SDK's PublishBatch",
  "the SDK's Publish",
  'aws4fetch, Publish',
  'aws-lite, Publish',
] as const;
const ON_PYTHON = { 'boto3, publish_batch': 'batch', 'boto3, publish': 'single' } as const;

interface Peer {
  readonly name: string;
  readonly pid: number;
  /** Publishes for so long; returns the seconds it took. */
  publish(ms: number): Promise<number>;
  end(): void;
}

async function startNode(name: string, endpoint: string): Promise<Peer> {
  const child = fork(NODE, [name, endpoint]);
  await next(child);
  const publish = async (ms: number) => {
    child.send(ms);
    return Number(await next(child));
  };
  return { name, pid: pidOf(child), publish, end: () => child.kill('SIGKILL') };
}

async function startBoto(name: string, mode: string, endpoint: string): Promise<Peer> {
  const child = spawn(PYTHON, [BOTO, mode, endpoint, TOPIC, String(THREADS)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout });
  const answer = async () => JSON.parse(String((await once(lines, 'line'))[0]));
  await answer();
  const publish = (ms: number) => {
    child.stdin.write(`${ms}\n`);
    return answer();
  };
  return { name, pid: pidOf(child), publish, end: () => child.kill('SIGKILL') };
}

const pidOf = ({ pid }: ChildProcess): number => pid ?? 0;

interface Tally {
  events: number;
  seconds: number;
  cpuUs: number;
  residentMb: number;
}

export async function peers({ seconds }: Size): Promise<Result> {
  await using endpoint = await startEndpoint();
  const all: Peer[] = [];
  try {
    for (const name of ON_NODE) all.push(await startNode(name, endpoint.url));
    for (const [name, mode] of Object.entries(ON_PYTHON)) all.push(await startBoto(name, mode, endpoint.url));
    for (const peer of all) await peer.publish(WARM_UP_MS);
    const tallies = new Map(all.map((peer) => [peer, { events: 0, seconds: 0, cpuUs: 0, residentMb: 0 }]));
    for (let round = 0; round < Math.max(3, seconds); round++)
      for (const [peer, tally] of tallies) await turn(peer, tally, endpoint);
    const found = [...tallies].map(([{ name }, tally]) => ({ name, ...tally }));
    return { benchmark: 'peers', figures: figuresOf(found), more: { inFlight: IN_FLIGHT, threads: THREADS } };
  } finally {
    for (const peer of all) peer.end();
  }
}

async function turn(peer: Peer, tally: Tally, endpoint: Endpoint): Promise<void> {
  const before = (await endpoint.stats()).accepted;
  const cpu = cpuOf(peer.pid);
  tally.seconds += await peer.publish(TURN_MS);
  tally.cpuUs += cpuOf(peer.pid) - cpu;
  tally.events += (await endpoint.stats()).accepted - before;
  tally.residentMb = Math.max(tally.residentMb, residentOf(peer.pid));
}

function figuresOf(found: readonly ({ name: string } & Tally)[]): Figure[] {
  const costs = new Map(found.map(({ name, cpuUs, events }) => [name, cpuUs / events]));
  const ours = costs.get(OURS) ?? Number.NaN;
  return [
    ...[...costs]
      .filter(([name]) => name !== OURS)
      .map(([name, cost]): Figure => ({ what: `CPU of ${name} : ${OURS}`, value: cost / ours, unit: '×' })),
    ...found.flatMap(({ name, events, seconds, cpuUs, residentMb }): Figure[] => [
      { what: `CPU of ${name}`, value: cpuUs / events, unit: 'µs/event' },
      { what: `rate of ${name}`, value: events / seconds, unit: 'events/s' },
      { what: `memory of ${name}`, value: residentMb, unit: 'MB' },
    ]),
  ];
}
