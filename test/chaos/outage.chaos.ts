/** SNS is away, as a whole or for one topic: nothing is lost, nothing else is held up, and all of it follows in order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plantedLetters, type Scene, setScene, TOPICS } from './scene.ts';

const SEED = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 1_000_000));
const EVENTS = 20_000;

test('an outage of SNS ends, and the backlog follows in order, through a restart', async () => {
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

test('a topic that is denied waits, and the others go on', async () => {
  await using scene = await setScene({ seed: SEED, events: EVENTS, flaws: 3 });
  const { faults, wait, depth } = scene;
  await scene.start();
  faults.deny(TOPICS.pm);
  await handOver(scene);
  // What is left in the end is the denied topic's; of the others nothing waits for it.
  const topicOf = async () => (await scene.depthByTopic()).filter(([, depth]) => depth > 0).map(([topic]) => topic);
  await wait('the other topics to be empty', async () => (await topicOf()).join() === TOPICS.pm);
  assert.ok((await depth()) > EVENTS / 4, 'private messages are half of all');
  faults.allow();
  await checkAll(scene);
});

const handOver = ({ adapters }: Scene) =>
  Promise.all(adapters.map((adapter) => adapter.run(AbortSignal.timeout(60_000))));

/** SNS has everything once and in order; the dead letters are those that were planted. */
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
