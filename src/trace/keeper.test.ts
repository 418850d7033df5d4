import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { until } from '../../test/support/process.ts';
import { mountSmallDisk } from '../../test/support/tmpfs.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';
import type { History } from './history-file.ts';
import { createKeeper, type Keeper } from './keeper.ts';
import type { FromKeeper, InRecord, ToKeeper } from './messages.ts';
import { deliveredLine } from './record.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:pm';
const START = 1_763_820_000_000;

describe('the keeper of the record', () => {
  let folder: string;
  let file: string;
  let keepers: Keeper[];
  let heard: FromKeeper[];
  let now: number;
  let questions: number;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'keeper-'));
    file = path.join(folder, 'outbox.db.trace');
    keepers = [];
    heard = [];
    now = START;
    questions = 0;
    await sqliteOutbox({ file: path.join(folder, 'outbox.db') }).close();
  });
  afterEach(async () => {
    for (const keeper of keepers) keeper.close();
    await rm(folder, { recursive: true, force: true });
  });

  const start = (limits: { keepMs?: number; maxBytes?: number } = {}) => {
    const options = {
      file,
      outboxFile: path.join(folder, 'outbox.db'),
      keepMs: 3_600_000,
      maxBytes: 10_000_000,
      startedAt: now,
    };
    const keeper = createKeeper(
      { ...options, ...limits },
      (message) => void heard.push(message),
      () => now,
    );
    keepers.push(keeper);
    return keeper;
  };
  const append = (keeper: Keeper, eventId: string) => {
    const text = deliveredLine(now, TOPIC, undefined, [[eventId, now, ['alice@localhost']]]);
    keeper.take({ kind: 'append', portion: { content: Buffer.from(text), records: 1, from: now, to: now } });
  };
  const ask = async <T>(keeper: Keeper, question: (id: number) => ToKeeper): Promise<T> => {
    const id = ++questions;
    keeper.take(question(id));
    const answerTo = (message: FromKeeper) => message.kind === 'answer' && message.id === id;
    await until('an answer', () => heard.some(answerTo));
    const answer = heard.find(answerTo) as Extract<FromKeeper, { kind: 'answer' }>;
    assert.equal(answer.error, undefined);
    return answer.value as T;
  };
  const asked = (text = 'alice@localhost') => ({ text, limit: 10, from: 0, until: now });
  const found = async (keeper: Keeper) =>
    (await ask<InRecord>(keeper, (id) => ({ kind: 'record', id, asked: asked() }))).records.map(
      ({ eventId }) => eventId,
    );
  const moments = async (keeper: Keeper) =>
    (await ask<History>(keeper, (id) => ({ kind: 'history', id }))).moments.map(({ kind, at }) => [kind, at - START]);
  const lost = () => heard.reduce((sum, message) => sum + (message.kind === 'done' ? message.lost : 0), 0);
  const problems = () => heard.flatMap((message) => (message.kind === 'state' ? [message.problem] : []));
  const stop = (keeper: Keeper) => ask(keeper, (id) => ({ kind: 'close', id }));

  it('keeps its records over a stop, and distinguishes a stop from a kill', async () => {
    const first = start();
    append(first, 'e1');
    now += 1_000;
    await stop(first);
    now += 1_000;
    const second = start();
    assert.deepEqual(await found(second), ['e1']);
    // Killed: it is never closed.
    second.close();
    now += 60_000;
    const third = start();
    assert.deepEqual(await moments(third), [
      ['start', 0],
      ['stop', 1_000],
      ['start', 2_000],
      ['killed', 2_000],
      ['start', 62_000],
    ]);
  });

  for (const [what, content] of [
    ['a file that is not a database', 'this is no database at all, however long one looks at it'],
    ['a truncated empty database', 'SQLite format 3\0'],
  ] as const)
    it(`puts aside ${what}, reports it, and begins a new one`, async () => {
      await writeFile(file, content);
      const keeper = start();
      const [aside] = heard.filter((message) => message.kind === 'aside');
      assert.equal(aside?.to, `${file}.damaged`);
      assert.equal(await readFile(`${file}.damaged`, 'utf8'), content);
      append(keeper, 'e1');
      assert.deepEqual(await found(keeper), ['e1']);
      assert.equal(lost(), 0);
    });

  it('puts aside a file that gets damaged in use, and keeps only one such file', async () => {
    await writeFile(`${file}.damaged`, 'an older one');
    const first = start();
    for (let n = 0; n < 50; n++) append(first, `e${n}`);
    await stop(first);
    const whole = await readFile(file);
    whole.fill(0xff, 4_096);
    await writeFile(file, whole);
    const second = start();
    append(second, 'new');
    assert.deepEqual(await found(second), ['new']);
    assert.equal((await readFile(`${file}.damaged`)).length, whole.length);
  });

  it("counts lost records while it can't create its file, and recovers by itself", async () => {
    // Not even root can open a folder as a file.
    await mkdir(file);
    const keeper = start();
    append(keeper, 'e1');
    assert.match(String(problems().at(-1)), /./);
    assert.deepEqual(await found(keeper), []);
    await rm(file, { recursive: true });
    append(keeper, 'e2');
    assert.equal(lost(), 2);
    now += 5_001;
    append(keeper, 'e3');
    assert.deepEqual([lost(), problems().at(-1)], [2, undefined]);
    assert.deepEqual(await found(keeper), ['e3']);
  });

  it('counts lost records on a full disk, and continues when there is room', async () => {
    await using disk = await mountSmallDisk('1m');
    file = path.join(disk.folder, 'outbox.db.trace');
    const keeper = start();
    append(keeper, 'e1');
    // Until no page is free.
    const filler = await open(path.join(disk.folder, 'filler'), 'w');
    await assert.rejects(async () => {
      for (;;) await filler.write(Buffer.alloc(4_096));
    });
    await filler.close();
    // What fits in SQLite's WAL is not lost.
    for (let n = 0; lost() === 0 && n < 10_000; n++) append(keeper, `e${n + 2}`);
    const before = lost();
    assert.ok(before > 0);
    assert.match(String(problems().at(-1)), /full/);
    await rm(path.join(disk.folder, 'filler'));
    now += 5_001;
    append(keeper, 'last');
    assert.equal(lost(), before);
    assert.equal((await found(keeper))[0], 'last');
    keeper.close();
  });

  it('counts lost records on a read-only disk, and answers', async () => {
    await using disk = await mountSmallDisk('1m');
    await disk.makeReadOnly();
    file = path.join(disk.folder, 'outbox.db.trace');
    const keeper = start();
    append(keeper, 'e1');
    assert.equal(lost(), 1);
    assert.deepEqual(await found(keeper), []);
    assert.match(String(problems().at(-1)), /EROFS/);
  });

  it('retries even if the clock was set back', async () => {
    await mkdir(file);
    const keeper = start();
    await rm(file, { recursive: true });
    now -= 3_600_000;
    append(keeper, 'e1');
    assert.equal(lost(), 0);
  });

  it("reports that it can't search an outbox that does not exist", async () => {
    await rm(path.join(folder, 'outbox.db'));
    const keeper = start();
    keeper.take({ kind: 'outbox', id: 99, asked: asked() });
    await until('an answer', () => heard.some((message) => message.kind === 'answer'));
    const [answer] = heard.filter((message) => message.kind === 'answer');
    assert.match(answer?.error ?? '', /unable to open/);
    assert.equal(existsSync(path.join(folder, 'outbox.db')), false);
  });

  it('makes its file readable by its owner only, even if it was not before', async () => {
    await writeFile(file, '');
    await chmod(file, 0o666);
    const keeper = start();
    append(keeper, 'e1');
    assert.deepEqual(await found(keeper), ['e1']);
  });
});
