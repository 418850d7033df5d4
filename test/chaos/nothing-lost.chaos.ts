/**
 * Everything goes wrong at once, and nothing is lost: SNS misbehaves at random, the daemon is killed again and again, the
 * disk fills up. `CHAOS_SEED` replays a run's faults, `CHAOS_EVENTS` sets its size.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountDisk } from './disk.ts';
import { type Random, randomOf, whole } from './random.ts';
import { POOL_SIZE, plantedLetters, type Scene, setScene } from './scene.ts';

const SEED = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 1_000_000));
const EVENTS = Number(process.env.CHAOS_EVENTS ?? 60_000);
const KILLS = 24;
const FLAWS_OF_EACH_KIND = 10;
const ENTRIES = 10;
/** How much of the way is behind when the disk fills up. */
const DISK_FULL_AT = 0.3;

test('whatever SNS, the disk and SIGKILL do, SNS gets every event, in order', async (t) => {
  t.diagnostic(`CHAOS_SEED=${SEED} CHAOS_EVENTS=${EVENTS}`);
  await using disk = await mountDisk(100_000_000 + EVENTS * 1_000);
  await using scene = await setScene({
    seed: SEED,
    events: EVENTS,
    flaws: FLAWS_OF_EACH_KIND,
    outbox: `path = "${disk.path}/outbox.db"`,
  });
  const { adapters, ledger, daemon, sources } = scene;
  const random = randomOf(SEED, 'kills');
  await scene.start();
  const stopped = new AbortController();
  const loads = Promise.all(adapters.map((adapter) => adapter.run(stopped.signal)));
  try {
    await Promise.race([loads.then(() => new Promise<never>(() => undefined)), trouble(scene, disk, random)]);
    await loads;
  } finally {
    stopped.abort();
    await loads.catch(() => undefined);
  }
  await scene.wait('SNS to have everything', async () => (await scene.depth()) === 0);
  await daemon.stop();

  const seed = `CHAOS_SEED=${SEED}`;
  const letters = (await scene.deadLetters()).map(({ eventId, reason }) => `${eventId} ${reason}`);
  assert.deepEqual(ledger.problems(sources), [], seed);
  assert.deepEqual(letters.sort(), plantedLetters(sources), seed);
  assert.deepEqual(scene.endpoint?.violations, [], seed);
  assert.doesNotMatch(daemon.output(), /hole in the numbers/, seed);
  assert.ok(scene.kills >= 20, `${scene.kills} kills`);
  for (const [run, duplicates] of ledger.afterKill)
    assert.ok(duplicates <= POOL_SIZE * ENTRIES, `${duplicates} duplicates of ${run}, ${seed}`);
  assert.ok(ledger.afterFault <= ledger.untold, seed);
  t.diagnostic(report(scene));
});

/** Kills along the way, a denied topic in between, and a full disk. */
async function trouble(scene: Scene, disk: { fill(): Promise<void>; free(): Promise<void> }, random: Random) {
  let filled = false;
  for (let kill = 0; kill < KILLS; kill++) {
    const at = (kill + random()) / KILLS;
    if (!filled && at > DISK_FULL_AT) {
      filled = true;
      await scene.wait('the moment for a full disk', () => scene.progress() >= DISK_FULL_AT);
      await fillUp(scene, disk);
    }
    await scene.wait(`the moment for kill ${kill + 1}`, () => scene.progress() >= at);
    await sleep(whole(random, 100));
    if (kill % 8 === 4) await denyFor(scene);
    await scene.kill();
    // Some are killed again before they are up.
    if (kill % 5 === 2) await killWhileStarting(scene, random);
    await scene.start();
  }
}

async function denyFor({ faults, daemon, wait }: Scene): Promise<void> {
  faults.deny('user_message_sent');
  await wait('the denied topic to be paused', async () => {
    const { reasons = [] } = (await (await fetch(`${daemon.adminUrl}/readyz`)).json()) as { reasons?: unknown[] };
    return JSON.stringify(reasons).includes('AuthorizationError');
  });
  faults.allow();
}

async function killWhileStarting(scene: Scene, random: Random): Promise<void> {
  // Its start rejects when it is killed first, which is what is wanted here.
  const starting = scene.start().catch(() => undefined);
  await scene.wait('a process to kill', () => scene.daemon.pid > 0);
  await sleep(whole(random, 500));
  await scene.kill();
  await starting;
}

/**
 * The disk is full while SNS takes nothing, so that the outbox has to refuse. Then SNS takes again before there is space:
 * what it takes then can't be settled, and must not be sent again.
 */
async function fillUp(
  { adapters, faults, ledger, wait }: Scene,
  disk: { fill(): Promise<void>; free(): Promise<void> },
) {
  const refused = () => adapters.reduce((sum, { refusals }) => sum + (refusals.get('outbox_unusable') ?? 0), 0);
  const before = refused();
  faults.deny('');
  await disk.fill();
  await wait('the outbox to refuse for want of space', () => refused() > before);
  const had = ledger.size;
  faults.allow();
  await wait('SNS to take something while the disk is full', () => ledger.size > had);
  await disk.free();
}

function report({ ledger, endpoint, kills, adapters }: Scene): string {
  const afterKill = [...ledger.afterKill.values()];
  const refusals = new Map<string, number>();
  for (const adapter of adapters)
    for (const [code, count] of adapter.refusals) refusals.set(code, (refusals.get(code) ?? 0) + count);
  return JSON.stringify({
    events: ledger.size,
    kills,
    duplicatesAfterKills: afterKill.reduce((sum, count) => sum + count, 0),
    mostAfterOneKill: Math.max(0, ...afterKill),
    duplicatesAfterLostAnswers: ledger.afterFault,
    lostAnswers: ledger.untold,
    requests: endpoint?.requests,
    faults: Object.fromEntries(endpoint?.faults ?? []),
    putOff: Object.fromEntries(refusals),
  });
}
