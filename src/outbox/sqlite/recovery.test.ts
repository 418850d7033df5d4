/** The documented repair of a damaged outbox, run as it stands with SQLite's own command line. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { it } from 'node:test';
import { consume } from '../../../test/support/consumer.ts';
import { admission, commitAs, depthOf, lastOf, numbered, TOPIC } from '../../../test/support/outbox.ts';
import { sqliteOutbox } from './sqlite.ts';

const PAGE = new URL('../../../docs/outbox.md', import.meta.url);

/** The block's lines for files, without those for services. */
async function repair(): Promise<string> {
  const [, block = ''] = /Repair it by hand:\n\n((?: {6}.*\n)+)/.exec(await readFile(PAGE, 'utf8')) ?? [];
  return block.replace(/^.*(systemctl|xmpp-event-pusher) .*$/gm, '');
}

it('the documented repair of a damaged outbox keeps all that can be read, and the positions', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'recovery-'));
  try {
    const file = path.join(folder, 'outbox.db');
    const before = sqliteOutbox({ file });
    for (let batch = 0; batch < 40; batch++)
      await commitAs(
        before,
        's',
        'e',
        (batch + 1) * 50,
        admission(...numbered(batch * 50, 50, { message: 'x'.repeat(500) })),
      );
    await before.close();
    const handle = await open(file, 'r+');
    const { size } = await handle.stat();
    await handle.write(Buffer.alloc(4_096, 0xff), 0, 4_096, Math.floor(size / 8_192) * 4_096);
    await handle.close();

    execFileSync('sh', ['-ec', await repair()], { cwd: folder });

    const after = sqliteOutbox({ file });
    assert.equal(await lastOf(after, 's', 'e'), 2_000);
    const left = depthOf(after);
    assert.ok(left >= 1_800 && left < 2_000, `${left} of 2,000 notifications are left`);
    await using topic = consume(after, TOPIC);
    assert.equal((await topic.next(left)).length, left, 'as many as the outbox says');
    await after.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});
