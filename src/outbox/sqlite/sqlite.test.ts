import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { launch, until } from '../../../test/support/process.ts';
import type { PusherError } from '../../errors.ts';
import type { Notification } from '../../notification/notification.ts';
import type { Intake, NewDeadLetter, Outbox, Position, Stored } from '../outbox.ts';
import { openSqliteOutbox } from './sqlite.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:a';
const OTHER = 'arn:aws:sns:eu-west-1:123456789012:b';
const DAY_MS = 24 * 3_600_000;

const notification = (eventId: string, fields: Partial<Notification> = {}): Notification => ({
  eventId,
  topic: TOPIC,
  orderKey: 'alice@localhost',
  at: 1_763_820_191_120,
  message: `{"event":"${eventId}"}`,
  attributes: [],
  bytes: 100,
  ...fields,
});

const numbered = (from: number, count: number, fields: Partial<Notification> = {}): Notification[] =>
  Array.from({ length: count }, (_, index) => notification(`e${from + index}`, fields));

const intake = (notifications: Notification[], position?: Partial<Position>): Intake => ({
  position: position && { source: 's', epoch: 'x', last: 0, missing: 0, ...position },
  notifications,
  deadLetters: [],
});

const letter = (eventId: string, fields: Partial<NewDeadLetter> = {}): NewDeadLetter => ({
  eventId,
  topic: undefined,
  reason: 'malformed',
  detail: 'at: should not be negative',
  attempts: 0,
  content: { kind: 'raw', event: { kind: 'presence' } },
  ...fields,
});

const ids = (rows: readonly Notification[]): string[] => rows.map(({ eventId }) => eventId);
const depthOf = (outbox: Outbox, arn = TOPIC) => outbox.state().topics.find((topic) => topic.arn === arn)?.depth;

/** Takes until nothing is left, in small portions, as a publisher does. */
async function takeAll(outbox: Outbox, arn = TOPIC, limit = 1_000): Promise<Stored[]> {
  const all: Stored[] = [];
  for (;;) {
    const rows = await outbox.take(arn, limit);
    if (rows.length === 0) return all;
    all.push(...rows);
  }
}

describe('SQLite outbox', () => {
  let folder: string;
  let file: string;
  let files = 0;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'outbox-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  beforeEach(() => {
    file = path.join(folder, `${++files}.db`);
  });

  const open = (options: { maxBytes?: number; now?: () => number } = {}): Outbox & AsyncDisposable => {
    const outbox = openSqliteOutbox({ file, maxBytes: 1e9, ...options });
    return Object.assign(outbox, { [Symbol.asyncDispose]: () => outbox.close() });
  };

  it('gives what was committed, whole, once, in order', async () => {
    await using outbox = open();
    const attributes = [
      { name: 'n', type: 'Number', value: '1' },
      { name: 'b', type: 'Binary', value: 'AAE=' },
    ] as const;
    const first = notification('e1', { attributes, message: '{"message":"👩‍👩‍👧‍👦 \\u0000"}' });
    await outbox.commit(intake([first, notification('e2'), notification('f1', { topic: OTHER })]));
    await outbox.commit(intake([notification('e3')]));
    const rows = await outbox.take(TOPIC, 2);
    assert.deepEqual(rows, [
      { ...first, seq: 1 },
      { ...notification('e2'), seq: 2 },
    ]);
    assert.deepEqual(ids(await outbox.take(TOPIC, 10)), ['e3']);
    assert.deepEqual(await outbox.take(TOPIC, 10), []);
    assert.deepEqual(ids(await outbox.take(OTHER, 10)), ['f1']);
    assert.deepEqual(await outbox.take('arn:aws:sns:eu-west-1:123456789012:never-heard-of', 10), []);
  });

  it('after a restart gives again, whole and in order, what was not settled, and nothing else', async () => {
    const attributes = [{ name: 'n', type: 'String.Array', value: '["a"]' }] as const;
    {
      await using outbox = open();
      await outbox.commit(intake(numbered(1, 5, { attributes })));
      const [one, two, three] = (await outbox.take(TOPIC, 3)) as [Stored, Stored, Stored];
      await outbox.settle([{ notification: one }, { notification: three }]);
      assert.equal(depthOf(outbox), 3);
      assert.equal(two.eventId, 'e2');
    }
    await using outbox = open();
    assert.equal(depthOf(outbox), 3);
    const rows = await takeAll(outbox);
    assert.deepEqual(
      rows.map(({ seq: _, ...rest }) => rest),
      ['e2', 'e4', 'e5'].map((id) => notification(id, { attributes })),
    );
    await outbox.commit(intake([notification('e6')]));
    assert.deepEqual(ids(await takeAll(outbox)), ['e6']);
  });

  it('survives a kill of the process as soon as a commit has resolved', async () => {
    const script = `
      import { openSqliteOutbox } from ${JSON.stringify(new URL('./sqlite.ts', import.meta.url).href)};
      const outbox = openSqliteOutbox({ file: process.argv[1], maxBytes: 1e9 });
      await outbox.commit(JSON.parse(process.argv[2]));
      process.stdout.write('committed\\n');
      setInterval(() => {}, 1_000);`;
    const batch = JSON.stringify(intake(numbered(1, 3), { last: 3 }));
    const child = await launch(process.execPath, ['--input-type=module', '-e', script, file, batch]);
    await until('the commit', () => child.output().includes('committed'));
    await child.end('SIGKILL');
    await using outbox = open();
    assert.deepEqual(ids(await takeAll(outbox)), ['e1', 'e2', 'e3']);
    assert.equal(outbox.positionOf('s', 'x'), 3);
  });

  it('lets what was taken and not settled be taken once more after a rewind, before what comes then', async () => {
    await using outbox = open();
    await outbox.commit(intake(numbered(1, 5)));
    const [one, two] = (await outbox.take(TOPIC, 3)) as [Stored, Stored];
    await outbox.settle([{ notification: two }]);
    outbox.rewind();
    await outbox.commit(intake([notification('e6')]));
    const again = await takeAll(outbox);
    assert.deepEqual(ids(again), ['e1', 'e3', 'e4', 'e5', 'e6']);
    assert.deepEqual(again[0], one);
    assert.deepEqual(await outbox.fetch([3, 2, 1, 99]), [again[0], again[1]]);
  });

  it('moves what SNS will never take to the dead letters, in the commit that removes it', async () => {
    const now = () => 1_763_820_200_000;
    {
      await using outbox = open({ now });
      await outbox.commit(intake(numbered(1, 2)));
      const [one] = (await outbox.take(TOPIC, 1)) as [Stored];
      const dead = { reason: 'InvalidParameter', detail: 'HTTP 400: Invalid parameter', attempts: 3 };
      await outbox.settle([{ notification: one, dead }]);
      assert.equal(outbox.state().deadLetters, 1);
      assert.equal(depthOf(outbox), 1);
      await outbox.commit({ ...intake([]), deadLetters: [letter('e9')] });
    }
    await using outbox = open({ now });
    assert.equal(outbox.state().deadLetters, 2);
    assert.deepEqual(ids(await takeAll(outbox)), ['e2']);
  });

  it('keeps the position of each source and epoch with what came of the events', async () => {
    {
      await using outbox = open({ now: () => 5 });
      assert.equal(outbox.positionOf('s', 'x'), 0);
      await outbox.commit(intake([notification('e1')], { last: 7 }));
      assert.equal(outbox.positionOf('s', 'x'), 7);
      // Events that make no notification move it too.
      await outbox.commit(intake([], { last: 12, missing: 3 }));
      await outbox.commit(intake([], { last: 20, missing: 2 }));
      await outbox.commit(intake([], { last: 4, epoch: 'y' }));
    }
    await using outbox = open();
    assert.equal(outbox.positionOf('s', 'x'), 20);
    assert.equal(outbox.positionOf('s', 'y'), 4);
    assert.equal(outbox.positionOf('s2', 'x'), 0);
    assert.deepEqual(outbox.state().sources, [
      { source: 's', epoch: 'x', last: 20, holes: 2, missing: 5, heardAt: 5 },
      { source: 's', epoch: 'y', last: 4, holes: 0, missing: 0, heardAt: 5 },
    ]);
  });

  it('forgets at a start the epochs that were not heard for 30 days, where their source has a newer one', async () => {
    let now = 100 * DAY_MS;
    {
      await using outbox = open({ now: () => now });
      await outbox.commit(intake([], { source: 'alone', epoch: 'old', last: 1 }));
      await outbox.commit(intake([], { source: 'both', epoch: 'old', last: 2 }));
      now += 1;
      await outbox.commit(intake([], { source: 'both', epoch: 'edge', last: 3 }));
      now += 30 * DAY_MS;
      await outbox.commit(intake([], { source: 'both', epoch: 'new', last: 4 }));
    }
    await using outbox = open({ now: () => now });
    assert.equal(outbox.positionOf('alone', 'old'), 1);
    assert.equal(outbox.positionOf('both', 'old'), 0);
    assert.equal(outbox.positionOf('both', 'edge'), 3);
    assert.equal(outbox.positionOf('both', 'new'), 4);
  });

  it('tells of every commit that brought notifications, and of no other', async () => {
    await using outbox = open();
    let told = 0;
    outbox.onCommitted(() => {
      told += 1;
    });
    await outbox.commit({ ...intake([], { last: 1 }), deadLetters: [letter('e1')] });
    assert.equal(told, 0);
    await outbox.commit(intake([notification('e2')]));
    assert.equal(told, 1);
    const [row] = (await outbox.take(TOPIC, 1)) as [Stored];
    await outbox.settle([{ notification: row }]);
    assert.equal(told, 1);
  });

  it('says how old its oldest notification is', async () => {
    let now = 1_000;
    await using outbox = open({ now: () => now });
    assert.equal(outbox.state().oldestAt, undefined);
    await outbox.commit(intake([notification('e1')]));
    now = 2_000;
    await outbox.commit(intake([notification('e2')]));
    assert.equal(outbox.state().oldestAt, 1_000);
    const [row] = (await outbox.take(TOPIC, 1)) as [Stored];
    await outbox.settle([{ notification: row }]);
    assert.equal(outbox.state().oldestAt, 2_000);
  });

  it('writes what is pending at a close, and refuses what comes after it', async () => {
    const outbox = open();
    const pending = outbox.commit(intake(numbered(1, 2)));
    await outbox.close();
    await pending;
    await assert.rejects(outbox.commit(intake([notification('late')])), { code: 'OUTBOX_CLOSED' });
    assert.deepEqual(await outbox.take(TOPIC, 1), []);
    assert.deepEqual(await outbox.replayRequests(1), []);
    assert.equal(outbox.state().deadLetters, 0);
    await outbox.close();
    await using again = open();
    assert.deepEqual(ids(await takeAll(again)), ['e1', 'e2']);
  });

  it('does no harm when a verdict comes after the close: the notification stays', async () => {
    const outbox = open();
    await outbox.commit(intake([notification('e1')]));
    const [row] = (await outbox.take(TOPIC, 1)) as [Stored];
    await outbox.close();
    await outbox.settle([{ notification: row }]);
    await using again = open();
    assert.deepEqual(ids(await takeAll(again)), ['e1']);
  });

  it('makes its file readable for its owner only, also where it was more open', async () => {
    await using _ = open();
    for (const name of [file, `${file}-wal`, `${file}-shm`]) assert.equal((await stat(name)).mode & 0o777, 0o600, name);
  });

  describe('with a publisher that falls behind', () => {
    for (const [what, count, bytes] of [
      ['count', 20_001, 100],
      ['bytes', 40, 1_048_576],
    ] as const)
      it(`turns to the disk past its limit of ${what}, and gives everything once and in order`, async () => {
        await using outbox = open();
        await outbox.commit(intake(numbered(1, count, { bytes })));
        const all: string[] = [];
        const limit = Math.ceil(count / 10);
        // Commits go on while it catches up: before, at and after the hand-over from the disk to memory.
        for (let next = count + 1; next <= count + 15; next++) {
          all.push(...ids(await outbox.take(TOPIC, limit)));
          await outbox.commit(intake([notification(`e${next}`, { bytes })]));
        }
        all.push(...ids(await takeAll(outbox, TOPIC, limit)));
        assert.deepEqual(all, ids(numbered(1, count + 15)));
      });

    it("reads past another topic's backlog", async () => {
      {
        await using outbox = open();
        await outbox.commit(intake([notification('b0', { topic: OTHER })]));
        await outbox.commit(intake(numbered(1, 45_000)));
        await outbox.commit(intake([notification('b1', { topic: OTHER })]));
      }
      await using outbox = open();
      assert.deepEqual(ids(await takeAll(outbox, OTHER)), ['b0', 'b1']);
      await outbox.commit(intake([notification('b2', { topic: OTHER })]));
      assert.deepEqual(ids(await takeAll(outbox, OTHER)), ['b2']);
      assert.equal((await takeAll(outbox)).length, 45_000);
    });

    it('reads on where settled rows have left a gap', async () => {
      {
        await using outbox = open();
        await outbox.commit(intake([notification('first')]));
        await outbox.commit(intake(numbered(1, 45_000)));
        await outbox.commit(intake([notification('last')]));
        const rows = await takeAll(outbox);
        await outbox.settle(rows.slice(1, -1).map((row) => ({ notification: row })));
      }
      await using outbox = open();
      assert.deepEqual(ids(await takeAll(outbox)), ['first', 'last']);
    });

    it('gives each once when commits of one group meet a listener that takes at once', async () => {
      {
        await using outbox = open();
        await outbox.commit(intake([notification('e0')]));
      }
      await using outbox = open();
      const taking: Promise<Stored[]>[] = [];
      outbox.onCommitted(() => taking.push(outbox.take(TOPIC, 100)));
      await Promise.all(numbered(1, 5).map((one) => outbox.commit(intake([one]))));
      const taken = [...(await Promise.all(taking)).flat(), ...(await takeAll(outbox))];
      assert.deepEqual(ids(taken), ids(numbered(0, 6)));
    });
  });

  describe('group commit', () => {
    it('keeps the order of calls, and each caller learns of its own part', async () => {
      await using outbox = open();
      const answers = await Promise.all([
        outbox.commit(intake(numbered(1, 2), { last: 2 })),
        outbox.commit(intake([notification('f1', { topic: OTHER })], { source: 't', last: 1 })),
        outbox.commit(intake(numbered(3, 2), { source: 'u', last: 9 })),
      ]);
      assert.equal(answers.length, 3);
      assert.deepEqual(ids(await takeAll(outbox)), ['e1', 'e2', 'e3', 'e4']);
      assert.deepEqual([depthOf(outbox), depthOf(outbox, OTHER)], [4, 1]);
      assert.deepEqual(
        ['s', 't', 'u'].map((source) => outbox.positionOf(source, 'x')),
        [2, 1, 9],
      );
    });

    it('does not let an outbox that is full fail what is settled in the same turn', async () => {
      await using outbox = open({ maxBytes: 150_000 });
      const message = 'x'.repeat(10_000);
      const refused = await fill(outbox, message);
      assert.equal(refused.code, 'OUTBOX_FULL');
      assert.match(refused.message, /is full: it holds \d+ bytes, outbox\.max_bytes is 150000$/);
      const rows = await outbox.take(TOPIC, 8);
      const settled = outbox.settle(rows.map((row) => ({ notification: row })));
      await assert.rejects(outbox.commit(intake([notification('too many')])), { code: 'OUTBOX_FULL' });
      await settled;
      await outbox.commit(intake([notification('again room')]));
      assert.equal(ids(await takeAll(outbox)).at(-1), 'again room');
    });
  });

  it('is full of dead letters until they are deleted, by whomever', async () => {
    await using outbox = open({ maxBytes: 150_000 });
    const detail = 'x'.repeat(10_000);
    const fault = await until('it to be full', () =>
      outbox.commit({ ...intake([]), deadLetters: [letter('e', { detail })] }).then(
        () => false,
        ({ code }: PusherError) => code === 'OUTBOX_FULL',
      ),
    );
    assert.equal(fault, undefined);
    assert.ok(outbox.state().bytes >= outbox.state().maxBytes);
    const { openDatabase } = await import('./schema.ts');
    const { purgeDeadLetters } = await import('./dead-letters.ts');
    const database = openDatabase(file, { create: false });
    assert.ok((await purgeDeadLetters(database, {})) > 5);
    database.close();
    await outbox.commit(intake([notification('room')]));
    assert.ok(outbox.state().bytes < outbox.state().maxBytes);
  });

  it('hands replay requests on that someone makes on another connection while it is open', async () => {
    await using outbox = open();
    await outbox.commit({ ...intake([]), deadLetters: [letter('d1'), letter('d2'), letter('d3')] });
    assert.deepEqual(await outbox.replayRequests(10), []);
    const { openDatabase } = await import('./schema.ts');
    const { requestReplay } = await import('./dead-letters.ts');
    const database = openDatabase(file, { create: false });
    assert.equal(await requestReplay(database, { ids: [1, 3] }), 2);
    database.close();
    const requested = await outbox.replayRequests(10);
    assert.deepEqual(
      requested.map(({ id, eventId }) => [id, eventId]),
      [
        [1, 'd1'],
        [3, 'd3'],
      ],
    );
    assert.deepEqual((await outbox.replayRequests(1)).length, 1);
    await outbox.commit({ ...intake([notification('d1')]), replaces: [1] });
    assert.deepEqual(ids(await takeAll(outbox)), ['d1']);
    assert.deepEqual(
      (await outbox.replayRequests(10)).map(({ id }) => id),
      [3],
    );
    assert.equal(outbox.state().deadLetters, 2);
  });
});

/** Commits until the outbox refuses; answers the refusal. */
async function fill(outbox: Outbox, message: string): Promise<PusherError> {
  for (let n = 0; n < 1_000; n++) {
    try {
      await outbox.commit(intake([notification(`fill${n}`, { message })]));
    } catch (error) {
      return error as PusherError;
    }
  }
  throw new Error('never full');
}
