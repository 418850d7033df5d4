/** SNS is away, completely or for one topic: nothing is lost, nothing else waits, and everything follows in order. */
import assert from 'node:assert/strict';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { plantedLetters, type Scene, setScene, TOPICS } from './scene.ts';

const SEED = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 1_000_000));
const EVENTS = 20_000;

test('after an outage of SNS the backlog follows in order, even through a restart', async () => {
  await using scene = await setScene({ seed: SEED, events: EVENTS, flaws: 3 });
  await scene.start();
  await scene.closeEndpoint();
  await handOver(scene);
  assert.equal(scene.ledger.size, 0);
  assert.ok((await scene.depth()) > EVENTS * 0.9, 'the outbox keeps what is handed over');
  await scene.daemon.stop();
  await scene.start();
  await scene.openEndpoint();
  await checkAll(scene);
});

test('a denied topic waits while the others continue', async () => {
  await using scene = await setScene({ seed: SEED, events: EVENTS, flaws: 3 });
  const { faults, wait, depth } = scene;
  await scene.start();
  faults.deny(TOPICS.pm);
  await handOver(scene);
  // Finally only the denied topic has a backlog; the others do not wait for it.
  const topicOf = async () => (await scene.depthByTopic()).filter(([, depth]) => depth > 0).map(([topic]) => topic);
  await wait('the other topics to be empty', async () => (await topicOf()).join() === TOPICS.pm);
  assert.ok((await depth()) > EVENTS / 4, 'private messages are half of all');
  faults.allow();
  await checkAll(scene);
});

test('refuses events while the outbox is moved away, and loses none', async () => {
  await using scene = await setScene({ seed: SEED, events: EVENTS, flaws: 3 });
  const { adapters, daemon, faults, wait } = scene;
  await scene.start();
  // SNS accepts nothing, so that everything depends on the outbox.
  faults.deny('');
  const files = ['outbox.db', 'outbox.db-wal'].map((name) => path.join(daemon.folder, name));
  const refused = () => adapters.reduce((sum, { refusals }) => sum + (refusals.get('outbox_unusable') ?? 0), 0);
  for (const file of files) await rename(file, `${file}.away`);
  await wait('the daemon to notice', async () =>
    /was removed or moved/.test(await (await fetch(`${daemon.adminUrl}/readyz`)).text()),
  );
  const handing = handOver(scene);
  await wait('what is handed over to be refused', () => refused() > 0);
  for (const file of files) await rename(`${file}.away`, file);
  await handing;
  faults.allow();
  await checkAll(scene);
});

const handOver = ({ adapters }: Scene) =>
  Promise.all(adapters.map((adapter) => adapter.run(AbortSignal.timeout(60_000))));

/** SNS has everything once and in order; the dead letters are the planted ones. */
async function checkAll(scene: Scene): Promise<void> {
  const { ledger, daemon, adapters, wait, depth } = scene;
  await wait('SNS to have everything', async () => (await depth()) === 0);
  await daemon.stop();
  const letters = (await scene.deadLetters()).map(({ eventId, reason }) => `${eventId} ${reason}`);
  assert.deepEqual(ledger.problems(adapters), []);
  assert.deepEqual(letters.sort(), plantedLetters(adapters));
  assert.deepEqual([ledger.unsettled.size, ledger.afterFault], [0, 0], 'nothing twice');
  assert.deepEqual(scene.endpoint?.violations, []);
}
