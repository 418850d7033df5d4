import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { wantedOf } from '../notification/wanted.ts';
import { ForeignFile, isDamage, TraceFile } from './file.ts';
import { deliveredLine, type Entry } from './record.ts';
import { searchRecords } from './search.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:pm';
const LARGE = { keepMs: 3_600_000, maxBytes: 100_000_000 };
const START = 1_763_820_000_000;

describe("the record's file", () => {
  let folder: string;
  let name: string;
  let opened: TraceFile[];
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'trace-'));
    name = path.join(folder, 'outbox.db.trace');
    opened = [];
  });
  afterEach(async () => {
    for (const file of opened) file.close();
    await rm(folder, { recursive: true, force: true });
  });

  const open = (limits = LARGE, now: number | 'reading' = START) => {
    const file = new TraceFile(name, limits, now);
    opened.push(file);
    return file;
  };
  const close = (file: TraceFile) => {
    opened = opened.filter((each) => each !== file);
    file.close();
  };
  /** Events of a user, one batch for each time. */
  const append = (file: TraceFile, user: string, count: number, at: number) => {
    const entries: Entry[] = Array.from({ length: count }, (_, n) => [
      `s/${user}/${at}-${n}`,
      at,
      [`${user}@localhost/phone`, 'bob@localhost', `m${n}`],
      randomUUID(),
    ]);
    const lines: string[] = [];
    for (let n = 0; n < count; n += 10)
      lines.push(deliveredLine(at, TOPIC, { requestId: randomUUID(), messageIds: [] }, entries.slice(n, n + 10)));
    file.append({ content: Buffer.from(lines.join('\n')), records: count, from: at, to: at });
  };
  const search = async (file: TraceFile, text: string, bounds: { from?: number; until?: number } = {}) => {
    const { from = 0, until = Number.MAX_SAFE_INTEGER } = bounds;
    const asked = { wanted: wantedOf(text), limit: 100_000, from, until, pause: async () => undefined };
    return (await searchRecords(file, asked)).records;
  };

  it('finds records after packing, after reopening, and while its writer is open', async () => {
    const file = open();
    for (let n = 0; n < 25; n++) append(file, `user${n}`, 500, START + n);
    append(file, 'late', 1, START + 99);
    assert.equal((await search(file, 'user3@localhost')).length, 500);
    assert.equal((await search(file, 'late@localhost/phone')).length, 1);
    assert.equal((await search(open(LARGE, 'reading'), 'bob@localhost')).length, 12_501);
    close(file);
    const [one] = await search(open(), 's/user3/1763820000003-7');
    assert.deepEqual(one?.names, ['user3@localhost/phone', 'bob@localhost', 'm7']);
  });

  it('searches only the given time range, newest first', async () => {
    const file = open();
    for (let n = 0; n < 5; n++) append(file, 'alice', 2_000, START + n * 1_000);
    const found = await search(file, 'alice@localhost', { from: START + 1_000, until: START + 3_000 });
    assert.equal(found.length, 6_000);
    assert.deepEqual([found[0]?.at, found.at(-1)?.at], [START + 3_000, START + 1_000]);
  });

  it('takes at most about 40 bytes per record', () => {
    const file = open();
    append(file, 'alice', 20_000, START);
    assert.ok(file.coverage(START).bytes < 20_000 * 40 + 50_000, `${file.coverage(START).bytes} bytes`);
  });

  it('deletes records after the retention, and reports since when it is complete', async () => {
    const file = open();
    assert.equal(file.coverage(START + 60_000).since, START);
    append(file, 'old', 10, START);
    append(file, 'new', 10, START + 3_000_000);
    file.prune(START + 3_600_001);
    assert.equal((await search(file, 'old@localhost')).length, 0);
    assert.equal((await search(file, 'new@localhost')).length, 10);
    assert.equal(file.coverage(START + 3_600_001).since, START + 1);
  });

  it('deletes the oldest records at its size limit, frees their space, and reports since when it is complete', async () => {
    const file = open({ keepMs: LARGE.keepMs, maxBytes: 2_000_000 });
    for (let n = 0; n < 40; n++) append(file, `user${n}`, 4_000, START + n);
    assert.ok(file.coverage(START).bytes > 2_000_000);
    file.prune(START + 100);
    assert.ok(file.coverage(START).bytes < 2_000_000);
    assert.equal((await search(file, 'user0@localhost')).length, 0);
    assert.equal((await search(file, 'user39@localhost')).length, 4_000);
    const { since = 0 } = file.coverage(START + 100);
    assert.ok(since > START, `${since}`);
    for (let n = 0; n < 20; n++) file.prune(START + 100);
    close(file);
    assert.ok((await stat(name)).size < 4_000_000);
  });

  it('deletes everything when recording is switched off, and starts over afterwards', async () => {
    const before = open();
    append(before, 'alice', 10, START);
    close(before);
    const off = open({ ...LARGE, keepMs: 0 }, START + 1);
    assert.equal((await search(off, 'alice@localhost')).length, 0);
    assert.equal(off.coverage(START + 1).since, undefined);
    close(off);
    assert.equal(open(LARGE, START + 2).coverage(START + 3).since, START + 2);
  });

  it('never claims to be complete since a future time, if the clock was set back', () => {
    assert.equal(open().coverage(START - 60_000).since, START - 60_000);
  });

  it('skips and counts a damaged block', async () => {
    const file = open();
    append(file, 'alice', 5_000, START);
    append(file, 'alice', 5_000, START + 1);
    file.database.exec("UPDATE block SET content = x'28b52ffd0000' WHERE id = 1");
    const asked = { wanted: wantedOf('alice@localhost'), limit: 10_000, from: 0, until: START + 9 };
    const { records, unreadable } = await searchRecords(file, { ...asked, pause: async () => undefined });
    assert.deepEqual([records.length, unreadable], [5_000, 1]);
  });

  it('the file is readable by its owner only', async () => {
    open();
    assert.equal((await stat(name)).mode & 0o777, 0o600);
  });

  for (const [what, make, expected] of [
    ['not a database', () => writeFile(name, 'this is no database at all, however long one looks at it'), isDamage],
    [
      'a database of another program',
      async () => new DatabaseSync(name).exec('CREATE TABLE mine (x)'),
      (error: unknown) => error instanceof ForeignFile,
    ],
  ] as const)
    it(`refuses a file that is ${what}, so that it can be put aside`, async () => {
      await make();
      assert.throws(() => open(), expected);
    });
});
