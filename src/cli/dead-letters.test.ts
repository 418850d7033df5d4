import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, describe, it, type TestContext } from 'node:test';
import { commandLine } from '../../test/support/command-line.ts';
import type { NewDeadLetter } from '../outbox/dead-letters.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';

const SNS = `
[modules.mod_event_pusher.sns]
sns_host = "sns.eu-west-1.amazonaws.com"
region = "eu-west-1"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = "wJalrXUtnFEMI"
account_id = "123456789012"
`;

const letter = (n: number, fields: Partial<NewDeadLetter> = {}): NewDeadLetter => ({
  eventId: `s/x/${n}`,
  topic: TOPIC,
  reason: 'InvalidParameter',
  detail: 'HTTP 400: no',
  attempts: 3,
  content: { kind: 'raw', event: { body: 'what was written' } },
  ...fields,
});

const LETTERS = [
  letter(1),
  letter(2, { reason: 'malformed', topic: undefined, attempts: 0 }),
  letter(3, { topic: `${TOPIC}.fifo` }),
];

describe('dead-letters', () => {
  let folder: string;
  let files = 0;
  let outboxFile: string;
  let config: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'dead-letters-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));
  beforeEach(async () => {
    files += 1;
    outboxFile = path.join(folder, `${files}.db`);
    config = path.join(folder, `${files}.toml`);
    await writeFile(config, `${SNS}[outbox]\npath = "./${files}.db"\n`);
  });

  const dead = (t: TestContext, ...args: string[]) => commandLine(t, 'dead-letters', ...args, '--config', config);

  async function fill(letters: readonly NewDeadLetter[] = LETTERS): Promise<void> {
    const outbox = sqliteOutbox({ file: outboxFile, maxBytes: 1e9, now: () => Date.UTC(2026, 10, 22, 12) });
    await outbox.commit({ notifications: [], deadLetters: letters });
    await outbox.close();
  }

  it('list prints a line for each dead letter, without message texts', async (t) => {
    await fill();
    assert.deepEqual(await dead(t, 'list'), {
      code: 0,
      output: [
        '1\t2026-11-22T12:00:00.000Z\tInvalidParameter\tuser_message_sent\ts/x/1\tattempts 3\tHTTP 400: no',
        '2\t2026-11-22T12:00:00.000Z\tmalformed\t—\ts/x/2\tattempts 0\tHTTP 400: no',
        '3\t2026-11-22T12:00:00.000Z\tInvalidParameter\tuser_message_sent.fifo\ts/x/3\tattempts 3\tHTTP 400: no',
        '3 dead letters\n',
      ].join('\n'),
    });
  });

  it('list filters, prints JSON, and counts the matches', async (t) => {
    await fill();
    const { output: limited } = await dead(t, 'list', '--reason', 'InvalidParameter', '--limit', '1');
    const { output: json } = await dead(t, 'list', '--topic', `${TOPIC}.fifo`, '--json');
    const { output: none } = await dead(t, 'list', '--reason', 'unheard-of');
    assert.match(limited, /^1\t[^\n]*\n1 of 2 dead letters\n$/);
    const { id, content } = JSON.parse(json);
    assert.deepEqual([id, content], [3, LETTERS[2]?.content]);
    assert.equal(none, '0 dead letters\n');
  });

  it('show prints the whole dead letter', async (t) => {
    await fill();
    const shown = await dead(t, 'show', '2');
    const missing = await dead(t, 'show', '99');
    assert.equal(shown.code, 0);
    assert.deepEqual(JSON.parse(shown.output), {
      id: 2,
      eventId: 's/x/2',
      reason: 'malformed',
      detail: 'HTTP 400: no',
      attempts: 0,
      diedAt: Date.UTC(2026, 10, 22, 12),
      content: { kind: 'raw', event: { body: 'what was written' } },
      replayRequested: false,
    });
    assert.deepEqual(missing, { code: 1, output: 'xmpp-event-pusher: there is no dead letter 99\n' });
  });

  it('replay marks dead letters, and list shows the mark', async (t) => {
    await fill();
    assert.deepEqual(await dead(t, 'replay', '1', '3', '1'), { code: 0, output: '2 dead letters marked for replay\n' });
    const { output } = await dead(t, 'list');
    assert.deepEqual(
      output.split('\n').map((line) => line.includes('(replay requested)')),
      [true, false, true, false, false],
    );
  });

  it('purge deletes by number, reason or topic, or all', async (t) => {
    await fill();
    assert.deepEqual(await dead(t, 'purge', '1'), { code: 0, output: '1 dead letter deleted\n' });
    assert.deepEqual(await dead(t, 'purge', '--reason', 'malformed'), { code: 0, output: '1 dead letter deleted\n' });
    assert.deepEqual(await dead(t, 'purge', '--all'), { code: 0, output: '1 dead letter deleted\n' });
    assert.deepEqual(await dead(t, 'list'), { code: 0, output: '0 dead letters\n' });
  });

  it('replay and purge report unknown numbers with exit code 1, and handle the others', async (t) => {
    await fill();
    for (const act of ['replay', 'purge'] as const) {
      const done = act === 'replay' ? 'marked for replay' : 'deleted';
      assert.deepEqual(await dead(t, act, '99'), {
        code: 1,
        output: 'xmpp-event-pusher: there is no dead letter 99\n',
      });
      assert.deepEqual(await dead(t, act, act === 'replay' ? '1' : '2', '99', '98', '99'), {
        code: 1,
        output: `1 dead letter ${done}\nxmpp-event-pusher: there are no dead letters 99, 98\n`,
      });
    }
    assert.deepEqual(await dead(t, 'replay', '1'), { code: 0, output: '0 dead letters marked for replay\n' }, 'again');
    assert.match((await dead(t, 'list')).output, /^1\t.*\(replay requested\).*\n3\t.*\n2 dead letters\n$/);
  });

  it('uses the singular for one dead letter', async (t) => {
    await fill([letter(1)]);
    assert.match((await dead(t, 'list')).output, /\n1 dead letter\n$/);
    assert.equal((await dead(t, 'purge', '--topic', 'none')).output, '0 dead letters deleted\n');
  });

  it("list escapes line breaks and control characters, and does not quote a plugin's error", async (t) => {
    const detail = 'messageAttributes: can\'t look up "what was written"';
    await fill([
      letter(1, { detail: 'two\nlines\t\u001b[2J\u009b2J', eventId: 's\n/x' }),
      letter(2, { reason: 'plugin', detail }),
      letter(4, { reason: 'plugin', detail: 'userGuid should return a string, and returned ["what was written"]' }),
      letter(3, { reason: 'plugin', detail: 'attribute "what was written": is empty' }),
    ]);
    const { output } = await dead(t, 'list');
    const lines = output.split('\n').map((each) => each.split('\t').slice(4));
    assert.deepEqual(lines.slice(0, 4), [
      ['s·/x', 'attempts 3', 'two·lines··[2J·2J'],
      ['s/x/2', 'attempts 3', "the plugin's messageAttributes failed"],
      ['s/x/4', 'attempts 3', "the plugin's userGuid failed"],
      ['s/x/3', 'attempts 3', 'the plugin failed: look at the detail'],
    ]);
    const { output: shown } = await dead(t, 'show', '2');
    assert.equal(JSON.parse(shown).detail, detail);
  });

  it('export writes all matches whole as JSON lines; list counts the matches', async (t) => {
    await fill();
    const lines = async (...args: string[]) => {
      const { code, output } = await dead(t, 'export', ...args);
      assert.equal(code, 0, output);
      return output.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
    };
    assert.deepEqual(
      (await lines()).map(({ id, content }) => [id, content.event.body]),
      [1, 2, 3].map((id) => [id, 'what was written']),
    );
    assert.deepEqual(
      (await lines('--match', '.FIFO')).map(({ id }) => id),
      [3],
    );
    assert.deepEqual(await lines('--match', 'what was written'), []);
    assert.match((await dead(t, 'list', '--match', 'HTTP 400', '--limit', '1')).output, /\n1 of 3 dead letters\n$/);
    assert.equal((await dead(t, 'purge', '--match', 's/x/2')).output, '1 dead letter deleted\n');
  });

  it('reports that there is no outbox yet, and creates none', async (t) => {
    const { code, output } = await dead(t, 'list');
    assert.equal(code, 1);
    assert.match(output, /outbox .*\.db does not exist: the daemon creates it at its first start\n$/);
  });
});
