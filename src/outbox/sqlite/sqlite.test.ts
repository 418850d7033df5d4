import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { consume, turns } from '../../../test/support/consumer.ts';
import { beforeEachWithFile } from '../../../test/support/new-file.ts';
import {
  admission,
  commitAs,
  depthOf,
  ids,
  lastOf,
  letter,
  notification,
  numbered,
  OTHER,
  TOPIC,
} from '../../../test/support/outbox.ts';
import { launch, until } from '../../../test/support/process.ts';
import type { PusherError } from '../../errors.ts';
import { outboxContract } from '../contract.ts';
import { deadLettersContract } from '../dead-letters-contract.ts';
import { costOf, type Outbox } from '../outbox.ts';
import { sqliteOutbox } from './sqlite.ts';

const DAY_MS = 24 * 3_600_000;

async function makeFile(): Promise<{ file: string; dispose(): Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'outbox-'));
  return { file: path.join(folder, 'outbox.db'), dispose: () => rm(folder, { recursive: true, force: true }) };
}

outboxContract(
  'The SQLite outbox',
  async () => {
    const { file, dispose } = await makeFile();
    return { open: async (options) => sqliteOutbox({ file, ...options }), dispose };
  },
  { durable: true, runs: 20 },
);

deadLettersContract('The SQLite outbox', async () => {
  const { file, dispose } = await makeFile();
  const outbox = sqliteOutbox({ file });
  return {
    store: outbox.deadLetters,
    async dispose() {
      await outbox.close();
      await dispose();
    },
  };
});

describe('SQLite outbox', () => {
  let file: string;
  beforeEachWithFile((at) => {
    file = at.file;
  });

  const open = (options: { maxBytes?: number; now?: () => number } = {}): Outbox & AsyncDisposable => {
    const outbox = sqliteOutbox({ file, ...options });
    return Object.assign(outbox, { [Symbol.asyncDispose]: () => outbox.close() });
  };

  for (const name of ['', ':memory:', 'file:x.db', 'a\0b', 5 as unknown as string])
    it(`refuses the file name ${JSON.stringify(name)}, and creates nothing`, async () => {
      const before = await readdir('.');
      assert.throws(() => sqliteOutbox({ file: name }), { code: 'CONFIG_INVALID' });
      assert.deepEqual(await readdir('.'), before);
    });

  it('refuses to read dead letters after its close', async () => {
    const outbox = sqliteOutbox({ file });
    await outbox.close();
    await assert.rejects(outbox.deadLetters.counts(), { code: 'OUTBOX_CLOSED' });
    await assert.rejects(outbox.deadLetters.requestReplay({}), { code: 'OUTBOX_CLOSED' });
  });

  it('survives a kill of the process once a commit has resolved', async () => {
    const script = `
      import { sqliteOutbox } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)};
      const outbox = sqliteOutbox({ file: process.argv[1] });
      const cursor = await outbox.source('s', 'x');
      await cursor.commit(JSON.parse(process.argv[2]), { last: 3, missing: 0 });
      process.stdout.write('committed\\n');
      setInterval(() => {}, 1_000);`;
    const batch = JSON.stringify(admission(...numbered(1, 3)));
    const child = await launch(process.execPath, ['--input-type=module', '-e', script, file, batch]);
    await until('the commit', () => child.output().includes('committed'));
    await child.end('SIGKILL');
    await using outbox = open();
    await using topic = consume(outbox, TOPIC);
    assert.deepEqual(ids(await topic.next(3)), ['e1', 'e2', 'e3']);
    assert.equal(await lastOf(outbox, 's', 'x'), 3);
  });

  it("keeps each source's holes and time of last contact", async () => {
    {
      await using outbox = open({ now: () => 5 });
      await commitAs(outbox, 's', 'x', 7, admission(notification('e1')));
      await commitAs(outbox, 's', 'x', 12, admission(), 3);
      await commitAs(outbox, 's', 'x', 20, admission(), 2);
      await commitAs(outbox, 's', 'y', 4, admission());
    }
    await using outbox = open();
    assert.deepEqual(outbox.health().sources, [
      { source: 's', epoch: 'x', last: 20, holes: 2, missing: 5, heardAt: 5 },
      { source: 's', epoch: 'y', last: 4, holes: 0, missing: 0, heardAt: 5 },
    ]);
  });

  it('forgets ended epochs after 7 days without contact', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    let now = 100 * DAY_MS;
    await using outbox = open({ now: () => now });
    await commitAs(outbox, 'alone', 'old', 1, admission());
    await commitAs(outbox, 'both', 'old', 2, admission());
    now += 1;
    await commitAs(outbox, 'both', 'edge', 3, admission());
    now += 7 * DAY_MS;
    await commitAs(outbox, 'both', 'new', 4, admission());
    const known = () => outbox.health().sources.map(({ source, epoch }) => `${source}/${epoch}`);
    // It checks hourly, not only at a start.
    t.mock.timers.tick(3_600_000);
    assert.deepEqual(known(), ['alone/old', 'both/edge', 'both/new']);
    assert.equal(await lastOf(outbox, 'both', 'old'), undefined);
    await outbox.close();
    await using again = open({ now: () => now });
    assert.deepEqual(again.health().sources.length, 3);
  });

  it('restricts its file to its owner, even if it was more open', async () => {
    await using _ = open();
    for (const name of [file, `${file}-wal`, `${file}-shm`]) assert.equal((await stat(name)).mode & 0o777, 0o600, name);
  });

  describe('with a consumer that falls behind', () => {
    for (const [what, count, bytes] of [
      ['many', 20_001, 100],
      ['large ones', 40, 1_048_576],
    ] as const)
      it(`reads ${what} from the disk, once and in order, up to and past the end of the file`, async () => {
        await using outbox = open();
        await outbox.commit(admission(...numbered(1, count, { bytes })));
        await using topic = consume(outbox, TOPIC, 0);
        const portion = Math.ceil(count / 10);
        const all: string[] = [];
        // Commits continue while it catches up: before, at and after the switch from disk to memory.
        for (let next = count + 1; next <= count + 15; next++) {
          topic.backlog.request(portion * costOf(bytes));
          all.push(...ids(await topic.rest()));
          await outbox.commit(admission(notification(`e${next}`, { bytes })));
        }
        all.push(...ids(await topic.next(count + 15 - all.length)));
        assert.deepEqual(all, ids(numbered(1, count + 15)));
      });

    it("reads past another topic's backlog", async () => {
      {
        await using outbox = open();
        await outbox.commit(admission(notification('b0', { topic: OTHER })));
        await outbox.commit(admission(...numbered(1, 45_000)));
        await outbox.commit(admission(notification('b1', { topic: OTHER })));
      }
      await using outbox = open();
      await using other = consume(outbox, OTHER);
      assert.deepEqual(ids(await other.next(2)), ['b0', 'b1']);
      await outbox.commit(admission(notification('b2', { topic: OTHER })));
      assert.deepEqual(ids(await other.next(1)), ['b2']);
      await using topic = consume(outbox, TOPIC);
      assert.equal((await topic.next(45_000)).length, 45_000);
    });

    it('continues reading across the gap of settled rows', async () => {
      {
        await using outbox = open();
        await outbox.commit(admission(notification('first')));
        await outbox.commit(admission(...numbered(1, 45_000)));
        await outbox.commit(admission(notification('last')));
        await using topic = consume(outbox, TOPIC);
        await topic.settle(...(await topic.next(45_002)).slice(1, -1));
      }
      await using outbox = open();
      await using topic = consume(outbox, TOPIC);
      assert.deepEqual(ids(await topic.next(2)), ['first', 'last']);
    });

    it('returns each notification once when a group commits during a read', async () => {
      {
        await using outbox = open();
        await outbox.commit(admission(notification('e0')));
      }
      await using outbox = open();
      await using topic = consume(outbox, TOPIC);
      await Promise.all(numbered(1, 5).map((one) => outbox.commit(admission(one))));
      assert.deepEqual(ids(await topic.next(6)), ids(numbered(0, 6)));
      assert.deepEqual(await topic.rest(), []);
    });
  });

  describe('group commit', () => {
    it('group commit keeps the order of calls, and gives each caller its own result', async () => {
      await using outbox = open();
      await Promise.all([
        commitAs(outbox, 's', 'x', 2, admission(...numbered(1, 2))),
        commitAs(outbox, 't', 'x', 1, admission(notification('f1', { topic: OTHER }))),
        commitAs(outbox, 'u', 'x', 9, admission(...numbered(3, 2))),
      ]);
      await using topic = consume(outbox, TOPIC);
      assert.deepEqual(ids(await topic.next(4)), ['e1', 'e2', 'e3', 'e4']);
      assert.deepEqual([depthOf(outbox), depthOf(outbox, OTHER)], [4, 1]);
      assert.deepEqual(await Promise.all(['s', 't', 'u'].map((source) => lastOf(outbox, source, 'x'))), [2, 1, 9]);
    });

    it('a full outbox does not fail settlements of the same turn', async () => {
      await using outbox = open({ maxBytes: 150_000 });
      const message = 'x'.repeat(10_000);
      const refused = await fill(outbox, message);
      assert.equal(refused.code, 'OUTBOX_FULL');
      assert.match(refused.message, /is full: it holds 1\d\d kB, outbox\.max_bytes is 150 kB$/);
      await using topic = consume(outbox, TOPIC);
      const settled = topic.settle(...(await topic.next(8)));
      await assert.rejects(outbox.commit(admission(notification('too many'))), { code: 'OUTBOX_FULL' });
      await settled;
      await outbox.commit(admission(notification('again room')));
      await until('it', () => topic.held.at(-1)?.eventId === 'again room');
    });
  });

  it('does nothing after its close, even with an open backlog', async () => {
    const closed = open();
    await closed.commit({ notifications: [notification('e1')], deadLetters: [] });
    await closed.close();
    const again = open();
    const backlog = again.backlog(notification('e1').topic, () => assert.fail('it is closed'));
    backlog.request(1);
    await again.close();
    await turns();
    const due = process.getActiveResourcesInfo().filter((name) => name === 'Immediate');
    assert.deepEqual(due, []);
    await backlog.close();
  });

  it('dead letters can fill the outbox until they are deleted, also by another process', async () => {
    await using outbox = open({ maxBytes: 150_000 });
    const detail = 'x'.repeat(10_000);
    await until('it to be full', () =>
      outbox.deadLetters.put([letter('e', { detail })]).then(
        () => false,
        ({ code }: PusherError) => code === 'OUTBOX_FULL',
      ),
    );
    assert.ok(outbox.health().bytes >= outbox.health().maxBytes);
    const { openDatabase } = await import('./schema.ts');
    const { purgeDeadLetters } = await import('./dead-letters.ts');
    const database = openDatabase(file, { create: false });
    assert.ok((await purgeDeadLetters(database, {})) > 5);
    database.close();
    await outbox.commit(admission(notification('room')));
    assert.ok(outbox.health().bytes < outbox.health().maxBytes);
  });

  it('replays dead letters marked on another connection', async () => {
    await using outbox = open();
    await outbox.deadLetters.put([letter('d1'), letter('d2'), letter('d3')]);
    const { openDatabase } = await import('./schema.ts');
    const { requestReplay } = await import('./dead-letters.ts');
    const database = openDatabase(file, { create: false });
    assert.equal(await requestReplay(database, { ids: [1, 3] }), 2);
    database.close();
    assert.deepEqual(
      (await outbox.deadLetters.toReplay(10)).map(({ id, eventId }) => [id, eventId]),
      [
        [1, 'd1'],
        [3, 'd3'],
      ],
    );
  });
});

/** Commits until the outbox refuses; returns the error. */
async function fill(outbox: Outbox, message: string): Promise<PusherError> {
  for (let n = 0; n < 1_000; n++) {
    try {
      await outbox.commit(admission(notification(`fill${n}`, { message })));
    } catch (error) {
      return error as PusherError;
    }
  }
  throw new Error('never full');
}
