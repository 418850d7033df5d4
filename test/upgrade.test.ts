/** Upgrades from version 0.1.0: its outbox, and adapters that are still of that release. */
import assert from 'node:assert/strict';
import { copyFile, readFile } from 'node:fs/promises';
import path from 'node:path';
import { it } from 'node:test';
import { createDaemon } from './support/daemon.ts';
import { until } from './support/process.ts';
import { startStubSns } from './support/stub-sns.ts';

const FIXTURES = path.join(import.meta.dirname, 'fixtures/0.1.0');

/** A batch as Prosody's adapter of that release posts it, from its queue. */
async function oldBatch() {
  const text = await readFile(path.join(FIXTURES, 'prosody/event_pusher/000000000001.log'), 'utf8');
  const [, source, epoch, , first] = (text.split('\n')[0] ?? '').split('\t');
  const lines = text.split('\n').filter((line) => line.startsWith('{'));
  const events = JSON.parse(`[${lines.join('').replace(/,$/, '')}]`) as unknown[];
  return { source, epoch, first_seq: Number(first), events };
}

const answer = (accepted: number, duplicates: number) => ({ accepted, duplicates, rejected: [] });
const event = (body: string) => ({
  kind: 'message',
  type: 'chat',
  at: Date.now(),
  host: 'localhost',
  from: 'alice@localhost/phone',
  to: 'bob@localhost',
  body,
});

it("takes over version 0.1.0's outbox and adapters: loses nothing, repeats nothing", async () => {
  const published: string[] = [];
  await using sns = await startStubSns({
    accepted: ({ attributes }) => void published.push(attributes.get('event_id') ?? ''),
  });
  const account = { url: sns.url, region: 'eu-west-1', accountId: '123456789012' };
  await using daemon = await createDaemon(account, { sns: 'attributes = ["event_id"]', here: true });
  await copyFile(path.join(FIXTURES, 'outbox/outbox.db'), path.join(daemon.folder, 'outbox.db'));
  await daemon.start();
  const all = (count: number) =>
    until(`${count} notifications, not ${published.length}`, () => published.length >= count);
  await all(45);

  const batch = await oldBatch();
  assert.equal(batch.events.length, 27);
  assert.deepEqual((await daemon.post(batch)).json, answer(27, 0));
  assert.deepEqual((await daemon.post(batch)).json, answer(0, 27));
  // The old outbox saw this source's numbers up to 61.
  const more = { source: 'fixture', epoch: 'e1', first_seq: 60, events: ['60', '61', '62'].map(event) };
  assert.deepEqual((await daemon.post(more)).json, answer(1, 2));
  await all(45 + 27 + 1);

  await daemon.stop();
  await daemon.start();
  assert.deepEqual((await daemon.post(batch)).json, answer(0, 27));
  assert.deepEqual((await daemon.post({ ...more, first_seq: 63, events: [event('63')] })).json, answer(1, 0));
  await all(45 + 27 + 2);
  assert.equal(new Set(published).size, 45 + 27 + 2);
  assert.equal(published.length, 45 + 27 + 2, 'something came twice');
  assert.ok(published.includes('fixture/e1/62'));
  const { output } = await daemon.command('dead-letters', 'list');
  assert.match(output, /^6 dead letters$/m);
});
