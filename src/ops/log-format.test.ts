import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { formatterOf } from './log-format.ts';

const LINE = {
  level: 'warn',
  time: '2026-11-29T12:00:00.000Z',
  topic: 'arn:aws:sns:eu-west-1:1:t',
  reason: 'two words\nand \u001b[2J a line',
  waiting: 12,
  open: false,
  sections: ['admin', 'tap'],
  msg: 'topic\npaused',
};
const format = (name: 'json' | 'pretty' | 'journald', line: object = LINE) =>
  formatterOf(name)?.(`${JSON.stringify(line)}\n`);

describe('a line of the log', () => {
  it('the journal format has one line with a priority and no time', () => {
    assert.equal(
      format('journald'),
      '<4>topic·paused topic=arn:aws:sns:eu-west-1:1:t reason="two words\\nand \\u001b[2J a line" waiting=12 open=false sections=["admin","tap"]\n',
    );
    const priorities = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'].map((level) =>
      format('journald', { level, msg: 'x' })?.slice(0, 3),
    );
    assert.deepEqual(priorities, ['<2>', '<3>', '<4>', '<6>', '<7>', '<7>']);
  });

  it('the terminal format is readable', () => {
    assert.match(
      format('pretty') ?? '',
      /^\[20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] WARN: topic\s+paused\n\s+topic: "arn:aws:sns/,
    );
  });

  it('escapes control characters in names on a terminal', () => {
    const text = format('pretty', { ...LINE, source: 'a\u202eb\u0085', msg: 'topic \u001b[2J' }) ?? '';
    assert.ok(text.includes('topic ·[2J') && text.includes('a·b·'), text);
    assert.doesNotMatch(text, /\u202e|\u0085/);
  });

  it('JSON lines are unchanged', () => {
    assert.equal(format('json'), undefined);
  });
});

describe('the format of the log', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'log-'));
  after(() => rmSync(folder, { recursive: true }));
  const module = new URL('./log.ts', import.meta.url).href;

  /** What a process writes into a file, which it is told is the journal's or not. */
  async function written(options: string, journal: (identity: string) => string | undefined): Promise<string> {
    const file = path.join(folder, 'log');
    const fd = openSync(file, 'w');
    const { dev, ino } = fstatSync(fd, { bigint: true });
    const script = `import { createLogger } from '${module}'; createLogger(${options}).error({ code: 'E' }, 'said');`;
    const variable = journal(`${dev}:${ino}`);
    const env = { ...process.env, JOURNAL_STREAM: variable };
    if (variable === undefined) delete env.JOURNAL_STREAM;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', fd, 'inherit'],
      env,
    });
    await once(child, 'exit');
    closeSync(fd);
    return readFileSync(file, 'utf8');
  }

  it("chooses the journal's format for the journal, otherwise JSON", async () => {
    const [journal, inherited, plain, configured] = [
      await written("'info'", (identity) => identity),
      await written("'info'", () => '8:1'),
      await written("'info'", () => undefined),
      await written("{ level: 'info', format: 'journald' }", () => undefined),
    ];
    assert.equal(journal, '<3>said code=E\n');
    assert.match(inherited, /^\{"level":"error","time":"20[^"]*","code":"E","msg":"said"\}\n$/);
    assert.match(plain, /^\{/);
    assert.equal(configured, journal);
  });

  it('uses JSON if configured, for any destination', async () => {
    assert.match(await written("{ level: 'info', format: 'json' }", (identity) => identity), /^\{"level":"error"/);
  });
});
