import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { consume } from '../../../test/support/consumer.ts';
import { admission, commitAs, letter, notification, numbered, OTHER, TOPIC } from '../../../test/support/outbox.ts';
import { wantedOf } from '../../notification/wanted.ts';
import type { Outbox, Stored } from '../outbox.ts';
import { findLetters, findWaiting, openForReading } from './find.ts';
import { sqliteOutbox } from './sqlite.ts';

const NOW = 1_763_820_000_000;

describe('what is looked for in the outbox', () => {
  let folder: string;
  let outbox: Outbox;
  let file: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'outbox-find-'));
    file = path.join(folder, 'outbox.db');
    outbox = sqliteOutbox({ file, now: () => NOW });
  });
  afterEach(async () => {
    await outbox.close();
    await rm(folder, { recursive: true, force: true });
  });

  const searching = async <T>(use: (database: ReturnType<typeof openForReading>) => Promise<T>) => {
    const database = openForReading(file);
    try {
      return await use(database);
    } finally {
      database.close();
    }
  };
  const search = (text: string, more: { limit?: number; from?: number; until?: number } = {}) => ({
    wanted: wantedOf(text),
    limit: 100,
    from: 0,
    until: NOW,
    pause: async () => undefined,
    ...more,
  });
  const waiting = (...asked: Parameters<typeof search>) =>
    searching((database) => findWaiting(database, search(...asked)));
  const letters = (...asked: Parameters<typeof search>) =>
    searching((database) => findLetters(database, search(...asked)));

  it('finds waiting notifications, with the number ahead of them in their topic', async () => {
    const names = ['Alice@localhost/phone', 'bob@localhost', 'm"17'];
    await outbox.commit(admission(...numbered(1, 300), ...numbered(301, 5, { topic: OTHER })));
    await outbox.commit(admission(notification('mine', { names, orderKey: 'alice@localhost' })));
    await using topic = consume(outbox, TOPIC);
    const [one, two] = (await topic.next(300)) as [Stored, Stored];
    await topic.settle(one, two);
    for (const asked of ['alice@localhost', 'bob@localhost', 'm"17', 'mine', 'alice@localhost/phone']) {
      const { found, looked } = await waiting(asked);
      const mine = found.find(({ eventId }) => eventId === 'mine');
      assert.deepEqual([mine?.before, mine?.topic, mine?.at, mine?.names], [298, TOPIC, NOW, names], asked);
      assert.equal(looked, 304);
    }
    assert.deepEqual((await waiting('carol@localhost')).found, []);
  });

  it('finds notifications of an earlier release by their order key', async () => {
    await outbox.commit(admission(notification('old', { orderKey: 'carol@localhost' })));
    assert.deepEqual(
      (await waiting('Carol@localhost')).found.map(({ eventId }) => eventId),
      ['old'],
    );
  });

  it('finds nothing settled or outside the time range', async () => {
    await outbox.commit(admission(...numbered(1, 3)));
    await using topic = consume(outbox, TOPIC);
    const [one] = (await topic.next(3)) as [Stored];
    await topic.settle(one);
    const found = async (more: { from?: number; until?: number }) =>
      (await waiting('alice@localhost', more)).found.map(({ eventId }) => eventId);
    assert.deepEqual(await found({}), ['e2', 'e3']);
    assert.deepEqual(await found({ from: NOW + 1, until: NOW + 2 }), []);
    assert.deepEqual(await found({ until: NOW - 1 }), []);
  });

  it('returns the newest matches up to the limit, from many parcels', async () => {
    for (let n = 0; n < 200; n++) await outbox.commit(admission(notification(`e${n}`)));
    const { found, looked } = await waiting('alice@localhost', { limit: 2 });
    assert.deepEqual(
      found.map(({ eventId, before }) => [eventId, before]),
      [
        ['e198', 198],
        ['e199', 199],
      ],
    );
    assert.equal(looked, 200);
  });

  it('finds dead letters of every kind, newest first', async () => {
    const names = ['dave@localhost/desk', 'room@conference.localhost', 'm-4711'];
    const refused = notification('e1', { names });
    const event = { kind: 'presence', at: 5, host: 'localhost', jid: 'Dave@localhost/desk', present: true, id: 'e2' };
    await outbox.deadLetters.put([
      letter('e1', {
        reason: 'InvalidParameter',
        topic: TOPIC,
        content: { kind: 'notification', notification: refused },
      }),
      letter('e2', { reason: 'plugin', content: { kind: 'event', event } }),
      letter('e3', { content: { kind: 'raw', event: { from: 'dave@localhost/x', to: 17 } } }),
      letter('e4', { content: { kind: 'raw', event: null } }),
      letter('e5', { content: { kind: 'raw', event: 'dave@localhost' } }),
    ]);
    await commitAs(outbox, 's', 'x', 1, admission());
    const found = await letters('dave@localhost');
    assert.deepEqual(
      found.map(({ eventId, id, reason, eventAt }) => [eventId, id, reason, eventAt]),
      [
        ['e3', 3, 'malformed', undefined],
        ['e2', 2, 'plugin', 5],
        ['e1', 1, 'InvalidParameter', refused.at],
      ],
    );
    assert.deepEqual((await letters('m-4711'))[0]?.names, names);
    assert.equal((await letters('e4')).length, 1);
    assert.equal((await letters('dave@localhost', { limit: 1 })).length, 1);
  });

  it('searches while the outbox is written', async () => {
    const committing = (async () => {
      for (let n = 0; n < 50; n++) await outbox.commit(admission(...numbered(n * 10, 10)));
    })();
    await searching(async (database) => {
      for (let n = 0; n < 20; n++) await findWaiting(database, search('alice@localhost'));
    });
    await committing;
    assert.equal((await waiting('alice@localhost')).looked, 500);
  });
});
