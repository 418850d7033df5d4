/**
 * Three RabbitMQ nodes and three daemons with one failure after another: random faults of SNS, nodes and daemons
 * killed, restarted, disconnected, out of memory; in a run of a minute or more also the loss of most nodes, and the
 * nodes' restart one after the other while a topic waits. `CLUSTER_SECONDS` sets the duration of the load.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { State } from '../../src/ops/state.ts';
import { createDaemon, type Daemon, TOPICS } from '../support/daemon.ts';
import { until } from '../support/process.ts';
import { type RabbitServer, startRabbit, untilTogether } from '../support/rabbitmq.ts';
import { type Fault, type StubRequest, startStubSns } from '../support/stub-sns.ts';
import { Book, createServer } from './load.ts';

const SECONDS = Number(process.env.CLUSTER_SECONDS ?? 120);
const PARTITIONS = 6;
/** Limits for uneven partitions, and for partitions without a daemon. */
const SPREAD_MS = 10_000;
const UNSERVED_MS = 15_000;
/** The time after which other nodes and the daemons' heartbeats give up a hanging node. */
const HANG_MS = 12_000;
/** How long only one node of three is left: longer than the daemons wait for a confirm. */
const MINORITY_MS = 15_000;
/** Shorter runs leave out the troubles that take long, in seconds. */
const LONG_SECONDS = 60;

const FAULTS: readonly (() => Fault)[] = [
  () => ({ kind: 'error', status: 500, code: 'InternalError' }),
  () => ({ kind: 'reset', accepts: false }),
  () => ({ kind: 'some-fail', positions: new Set([0]) }),
  () => ({ kind: 'slow', ms: 200 }),
];

test('SNS gets every event in order, whatever RabbitMQ, SNS and daemons do', async (t) => {
  const book = new Book();
  let held = false;
  const fault = ({ topicArn }: StubRequest): Fault | undefined =>
    held && topicArn.endsWith(TOPICS.muc) ? { kind: 'error', status: 503, code: 'ServiceUnavailable' } : random();
  const random = () => (Math.random() < 0.05 ? FAULTS[Math.floor(Math.random() * FAULTS.length)]?.() : undefined);
  await using sns = await startStubSns({ accepted: book.accepted, fault });
  await using rabbit = await startRabbit({ nodes: 3, gates: true });
  await untilTogether(rabbit);
  const vhost = await rabbit.vhost();
  await using stack = new AsyncDisposableStack();
  const daemons: Daemon[] = [];
  for (const node of [0, 1, 2]) {
    const urls = [0, 1, 2].map((each) => `"${rabbit.url(vhost, { node: (node + each) % 3 })}"`);
    const daemon = await createDaemon(
      { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
      {
        sns: 'attributes = ["event_id"]\npublish_retry_time_ms = 20',
        outbox: `engine = "rabbitmq"\nurl = [${urls}]\npartitions = ${PARTITIONS}`,
      },
    );
    daemons.push(stack.use(daemon));
  }
  await Promise.all(daemons.map((daemon) => daemon.start()));

  const alive = new Set(daemons);
  const addresses = () => [...alive].map(({ tapUrl }) => tapUrl);
  const servers = ['s1', 's2', 's3', 's4'].map((source) => createServer(source, addresses, 100));
  servers.push(createServer('rooms', addresses, 1_000, 'groupchat'));
  const stopped = new AbortController();
  const running = servers.map((server) => server.run(stopped.signal));
  const hold = (isHeld: boolean) => {
    held = isHeld;
  };
  const scene = { t, rabbit, daemons, alive, book, hold };
  const troubles = SECONDS < LONG_SECONDS ? TROUBLES : [...TROUBLES, ...LONG_TROUBLES];
  try {
    await until('the first notifications', () => book.size > 100);
    const ends = performance.now() + SECONDS * 1_000;
    for (let round = 0; round === 0 || performance.now() < ends; round++)
      for (const trouble of troubles) {
        if (round > 0 && performance.now() > ends) break;
        await trouble(scene, round);
      }
  } finally {
    stopped.abort();
    await Promise.all(running);
  }
  await until('SNS to have everything', () => book.missing(servers).length === 0, 120_000).catch(async (error) => {
    t.diagnostic(`missing: ${book.missing(servers).length}, such as ${book.missing(servers).slice(0, 5)}`);
    for (const daemon of alive) t.diagnostic(JSON.stringify((await stateOf(daemon)).shared?.partitions));
    throw error;
  });
  assert.deepEqual(book.problems.slice(0, 10), []);
  const events = servers.reduce((sum, server) => sum + server.acknowledged(), 0);
  const putOff = servers.reduce((sum, server) => sum + server.putOff(), 0);
  t.diagnostic(JSON.stringify({ events, repeated: book.repeated, putOff, requests: sns.requests }));
  assert.ok(book.repeated < events / 10, `${book.repeated} of ${events} came twice`);
  for (const daemon of daemons) assert.doesNotMatch(daemon.output(), /hole in the numbers/);
});

interface Scene {
  readonly t: TestContext;
  readonly rabbit: RabbitServer;
  readonly daemons: readonly Daemon[];
  /** The daemons that the servers post to. */
  readonly alive: Set<Daemon>;
  readonly book: Book;
  /** Lets SNS refuse group messages, so that their topic waits, or accept them again. */
  hold(isHeld: boolean): void;
}

const TROUBLES: readonly ((scene: Scene, round: number) => Promise<void>)[] = [
  async function killNode({ rabbit, book, t }, round) {
    const node = rabbit.nodes[round % 3];
    await node?.kill();
    await flows(book, t, 'a node was killed');
    await node?.start();
    await untilTogether(rabbit);
  },
  async function killDaemon(scene, round) {
    const { daemons, alive, t } = scene;
    const daemon = daemons[round % 3] as Daemon;
    alive.delete(daemon);
    await daemon.kill();
    const [first] = alive;
    const started = performance.now();
    await untilSpread(scene, first as Daemon, 2, UNSERVED_MS);
    t.diagnostic(`a daemon was killed: spread again after ${Math.round(performance.now() - started)} ms`);
    await daemon.start({ ready: false });
    alive.add(daemon);
    const joined = performance.now();
    await untilSpread(scene, daemon, 3, SPREAD_MS + 5_000);
    t.diagnostic(`it joined again: spread after ${Math.round(performance.now() - joined)} ms`);
  },
  async function raiseAlarm({ rabbit, book, t }, round) {
    await rabbit.alarm(true, round % 3);
    await sleep(2_000);
    await rabbit.alarm(false, round % 3);
    await flows(book, t, 'a memory alarm');
  },
  async function rollDaemons({ daemons, alive, book, t }) {
    const before = book.repeated;
    for (const daemon of daemons) {
      alive.delete(daemon);
      await daemon.stop();
      await daemon.start({ ready: false });
      alive.add(daemon);
    }
    await flows(book, t, `a rolling restart, with ${book.repeated - before} repetitions,`);
  },
  async function hangNode({ rabbit, book, t }, round) {
    const node = rabbit.nodes[(round + 1) % 3];
    node?.hang(true);
    await sleep(HANG_MS);
    await flows(book, t, 'a node hung');
    // The other nodes have removed it: it has to restart.
    await node?.kill();
    await node?.start();
    await untilTogether(rabbit);
  },
  async function cutNodeOff({ rabbit, book, t }, round) {
    const node = rabbit.nodes[(round + 2) % 3];
    node?.cut(true);
    // It pauses itself as a minority, and the others go on without it.
    await sleep(HANG_MS);
    await flows(book, t, 'a node was cut off');
    node?.cut(false);
    await untilTogether(rabbit);
    await flows(book, t, 'it was let in again');
  },
];

const LONG_TROUBLES: typeof TROUBLES = [
  async function rollNodes({ rabbit, book, t, hold }) {
    hold(true);
    const before = book.repeated;
    for (const node of rabbit.nodes) {
      // As RabbitMQ's documentation demands: a node that was away may lack a queue's last messages for a while.
      await node.evaluate('true = rabbit_upgrade_preparation:await_online_quorum_plus_one(50000).');
      await node.stop();
      await flows(book, t, 'a node was stopped');
      await node.start();
      await untilTogether(rabbit);
    }
    hold(false);
    await flows(book, t, `a rolling restart of the nodes, with ${book.repeated - before} repetitions,`);
  },
  async function loseMajority({ rabbit, book, t }, round) {
    const before = book.repeated;
    const lost = rabbit.nodes.filter((_, index) => index !== round % 3);
    await Promise.all(lost.map((node) => node.kill()));
    await sleep(MINORITY_MS);
    await Promise.all(lost.map((node) => node.start()));
    await untilTogether(rabbit);
    await flows(book, t, `most nodes were gone for a while, with ${book.repeated - before} repetitions,`);
  },
];

/** Waits until SNS gets new events. */
async function flows(book: Book, t: TestContext, what: string): Promise<void> {
  const had = book.size;
  const started = performance.now();
  await until('new events at SNS', () => book.size > had + 40);
  t.diagnostic(`${what}: new events after ${Math.round(performance.now() - started)} ms`);
}

/** Waits until as many daemons share the partitions evenly; shows how each sees them if that fails. */
async function untilSpread({ t, alive }: Scene, daemon: Daemon, count: number, ms: number): Promise<void> {
  await until(`${count} daemons to share the partitions`, () => isSpread(daemon, count), ms).catch(async (error) => {
    for (const each of alive) t.diagnostic(JSON.stringify((await stateOf(each)).shared));
    throw error;
  });
}

/** Whether this daemon sees the partitions spread evenly over this many daemons. */
async function isSpread(daemon: Daemon, count: number): Promise<boolean> {
  const { partitions = [], daemons = [] } = (await stateOf(daemon)).shared ?? {};
  const loads = daemons.map(({ id }) => partitions.filter(({ daemon }) => daemon === id).length);
  return loads.length === count && partitions.length > 0 && loads.every((load) => load === partitions.length / count);
}

/** The state that a daemon's console shows. */
async function stateOf(daemon: Daemon): Promise<State> {
  return (await (await fetch(`${daemon.adminUrl}/api/state`)).json()) as State;
}
