/**
 * All failures at once, and nothing is lost: SNS fails at random, the daemon is killed repeatedly, the disk fills up.
 * `CHAOS_SEED` replays a run's events, faults and kills, `CHAOS_EVENTS` sets its size.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Adapter } from './adapters.ts';
import { type Disk, mountDisk } from './disk.ts';
import { type Random, randomOf, whole } from './random.ts';
import { POOL_SIZE, plantedLetters, type Scene, setScene, TOPICS } from './scene.ts';

const SEED = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 1_000_000));
const EVENTS = Number(process.env.CHAOS_EVENTS ?? 30_000);
const KILLS = 24;
/** Planted events of each kind, if there are enough events. */
const FLAWS = Math.min(10, Math.floor(EVENTS / 40));
/** The progress at which the disk fills up. */
const DISK_FULL_AT = 0.3;
/** How many additional events wait by then: enough to continue while the disk is full. */
const BACKLOG = 1_000;
/** From this size on every kind of fault occurs. */
const LARGE = 1_000;

test('SNS gets every event in order, whatever SNS, the disk and SIGKILL do', async (t) => {
  t.diagnostic(`CHAOS_SEED=${SEED} CHAOS_EVENTS=${EVENTS}`);
  await using disk = await mountDisk(40_000_000 + EVENTS * 1_500);
  await using scene = await setScene({
    seed: SEED,
    events: EVENTS,
    flaws: FLAWS,
    faults: true,
    outbox: `path = "${disk.path}/outbox.db"`,
  });
  const { adapters, faults, ledger, daemon } = scene;
  await scene.start();
  const stopped = new AbortController();
  const loads = adapters.map((adapter) => adapter.run(stopped.signal));
  const addBulk = () => {
    const bulk = scene.addBulk();
    loads.push(bulk.run(stopped.signal));
    return bulk;
  };
  try {
    const failure = Promise.all(loads).then(() => new Promise<never>(() => undefined));
    await Promise.race([failure, trouble(scene, disk, addBulk)]);
    await Promise.all(loads);
  } finally {
    stopped.abort();
    await Promise.allSettled(loads);
  }
  await scene.wait('SNS to have everything', async () => (await scene.depth()) === 0);
  await daemon.stop();

  const seed = `CHAOS_SEED=${SEED}`;
  const letters = (await scene.deadLetters()).map(({ eventId, reason }) => `${eventId} ${reason}`);
  assert.deepEqual(ledger.problems(adapters), [], seed);
  assert.deepEqual(letters.sort(), plantedLetters(adapters), seed);
  assert.deepEqual(scene.endpoint?.violations, [], seed);
  assert.doesNotMatch(daemon.output(), /hole in the numbers/, seed);
  assert.ok(scene.kills >= 20, `${scene.kills} kills`);
  for (const [run, requests] of ledger.unsettled)
    assert.ok(requests.size <= POOL_SIZE, `entries of ${requests.size} requests of ${run} came again, ${seed}`);
  assert.equal(faults.left, 0, `all that was planned has gone wrong, ${seed}`);
  for (const kind of ['error', 'reset', 'hang', 'truncated', 'some-fail', 'ids', 'slow'])
    assert.ok(EVENTS < LARGE || scene.endpoint?.faults.has(kind), `${kind}, ${seed}`);
  t.diagnostic(report(scene));
});

/** Kills along the way, a denied topic in between, and a full disk. */
async function trouble(scene: Scene, disk: Disk, addBulk: () => Adapter) {
  const random = randomOf(SEED, 'kills');
  let filled = false;
  for (let kill = 0; kill < KILLS; kill++) {
    const at = (kill + random()) / KILLS;
    if (!filled && at > DISK_FULL_AT) {
      filled = true;
      await scene.wait('the moment for a full disk', () => scene.progress() >= DISK_FULL_AT);
      await fillUp(scene, disk, addBulk);
    }
    await scene.wait(`the moment for kill ${kill + 1}`, () => scene.progress() >= at);
    await sleep(whole(random, 100));
    if (kill % 8 === 4) await denyFor(scene);
    await scene.kill();
    // Some are killed again while starting.
    if (kill % 5 === 2) await killWhileStarting(scene, random);
    await scene.start();
  }
}

async function denyFor({ faults, daemon, progress, wait }: Scene): Promise<void> {
  faults.deny(TOPICS.pm);
  await wait('the denied topic to be paused', async () => {
    // With few events nothing may be left to deny.
    if (progress() >= 1) return true;
    const { reasons = [] } = (await (await fetch(`${daemon.adminUrl}/readyz`)).json()) as { reasons?: unknown[] };
    return JSON.stringify(reasons).includes('AuthorizationError');
  });
  faults.allow();
}

async function killWhileStarting(scene: Scene, random: Random): Promise<void> {
  // Starting rejects if the process is killed first, as intended here.
  const starting = scene.start().catch(() => undefined);
  await scene.wait('a process to kill', () => scene.daemon.pid > 0);
  await sleep(whole(random, 500));
  await scene.kill();
  await starting;
}

/**
 * The disk is full while SNS accepts nothing, so the outbox must refuse events. Then SNS accepts again before there is
 * space: the daemon must settle in its reserved space what SNS accepted, or not send it again. The daemon is killed
 * meanwhile, and must start and continue on the full disk. Finally the reserved space is used up too.
 */
async function fillUp(scene: Scene, disk: Disk, addBulk: () => Adapter) {
  const { adapters, faults, ledger, wait } = scene;
  const refused = () => adapters.reduce((sum, { refusals }) => sum + (refusals.get('outbox_unusable') ?? 0), 0);
  const takesSomething = async () => {
    const had = ledger.size;
    await wait('SNS to take something while the disk is full', () => ledger.size > had);
  };
  faults.deny('');
  const bulk = addBulk();
  await wait('a backlog', () => bulk.acknowledged >= BACKLOG);
  const before = refused();
  await disk.fill();
  await wait('the outbox to refuse for want of space', () => refused() > before);
  bulk.finish();
  faults.allow();
  await takesSomething();
  await scene.kill();
  await scene.start();
  await takesSomething();
  await disk.fill();
  await scene.kill();
  const refusal = await scene.start().catch((error: Error) => error);
  await disk.free();
  if (!refusal) return;
  assert.match(refusal.message, /the disk is full/);
  await scene.start();
}

function report({ ledger, endpoint, faults, kills, adapters }: Scene): string {
  const sum = (counts: Iterable<number>) => [...counts].reduce((total, count) => total + count, 0);
  const runs = [...ledger.unsettled.values()];
  const refusals = new Map<string, number>();
  for (const adapter of adapters)
    for (const [code, count] of adapter.refusals) refusals.set(code, (refusals.get(code) ?? 0) + count);
  return JSON.stringify({
    events: ledger.size,
    kills,
    twiceAfterKills: sum(runs.map((requests) => sum(requests.values()))),
    mostRequestsUnsettledAtAKill: Math.max(0, ...runs.map(({ size }) => size)),
    twiceAfterLostAnswers: ledger.afterFault,
    requests: endpoint?.requests,
    faults: Object.fromEntries(faults.met),
    putOff: Object.fromEntries(refusals),
  });
}
