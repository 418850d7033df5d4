/** What the command writes when a slow program reads it, or one that stops reading. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { BIN } from '../../test/support/daemon.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';

const sh = promisify(execFile);
const LETTERS = 30;
const BODY = 'x'.repeat(100_000);

describe('the output of a command', { concurrency: true }, () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'output-'));
    await writeFile(
      path.join(folder, 'pusher.toml'),
      `[modules.mod_event_pusher.sns]
       sns_host = "sns.eu-west-1.amazonaws.com"
       region = "eu-west-1"
       access_key_id = "a"
       secret_access_key = "b"
       account_id = "123456789012"`,
    );
    const outbox = sqliteOutbox({ file: path.join(folder, 'outbox.db'), maxBytes: 1e9 });
    const letter = { topic: undefined, reason: 'malformed', detail: 'd', attempts: 0 };
    const deadLetters = Array.from({ length: LETTERS }, (_, n) => ({
      ...letter,
      eventId: String(n),
      content: { kind: 'raw' as const, event: BODY },
    }));
    await outbox.commit({ notifications: [], deadLetters });
    await outbox.close();
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const run = (command: string, pipe: string) =>
    sh('sh', ['-c', `"${process.execPath}" "${BIN}" dead-letters ${command} | ${pipe}`], {
      cwd: folder,
      maxBuffer: 2 * LETTERS * BODY.length,
    });

  for (const command of ['list --json', 'export']) {
    it(`writes all output even to a slow reader: ${command}`, async () => {
      const { stdout } = await run(command, '(sleep 1; cat)');
      const letters = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line));
      assert.equal(letters.length, LETTERS);
      assert.ok(letters.every(({ content }) => content.event === BODY));
    });

    it(`exits quietly when the reader stops: ${command}`, async () => {
      const { stdout, stderr } = await run(command, 'head -c 10');
      assert.equal(stdout.length, 10);
      assert.equal(stderr, '');
    });
  }
});
