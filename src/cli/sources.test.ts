import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it, type TestContext } from 'node:test';
import { commandLine } from '../../test/support/command-line.ts';
import { writeConfigFile } from '../../test/support/config-file.ts';
import { admission, commitAs } from '../../test/support/outbox.ts';
import { loadConfig } from '../config/load.ts';
import { type Daemon, startDaemon } from '../daemon.ts';
import { createLogger } from '../ops/log.ts';
import { sqliteOutbox } from '../outbox/sqlite/sqlite.ts';

describe('sources', () => {
  let folder: string;
  let config: string;
  let daemon: Daemon | undefined;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'sources-'));
    config = await writeConfigFile(folder, '[outbox]\npath = "./outbox.db"');
    const now = () => Date.UTC(2026, 10, 22, 12);
    const outbox = sqliteOutbox({ file: path.join(folder, 'outbox.db'), now });
    await commitAs(outbox, 'prosody@a', 'e1', 7, admission());
    await commitAs(outbox, 'prosody@a', 'e1', 12, admission(), 3);
    await commitAs(outbox, 'ejabberd@b', 'f', 2, admission());
    await outbox.close();
    daemon = undefined;
  });
  afterEach(async () => {
    await daemon?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const sources = (t: TestContext, ...args: string[]) => commandLine(t, 'sources', ...args, '--config', config);

  for (const [where, prepare] of [
    ['in the file, while no daemon runs', async () => undefined],
    ['through the running daemon', () => startDaemon(loadConfig(config), createLogger('silent'))],
  ] as const)
    it(`sources are listed, acknowledged and retired ${where}`, async (t) => {
      daemon = await prepare();
      const { output } = await sources(t, 'list');
      assert.match(
        output,
        /^prosody@a {2}epoch e1 {2}last 12 {2}heard 2026-11-22T12:00:00\.000Z {2}1 hole, 3 events lost$/m,
      );
      assert.match(output, /^ {2}hole {2}prosody@a {2}8 to 10 of e1 {2}at 2026-11-22T12:00:00\.000Z$/m);
      assert.match(output, /^ejabberd@b .* no holes$/m);
      const check = async () => (await commandLine(t, 'check', '--config', config)).output;
      assert.match(await check(), /warn {2}outbox: source prosody@a: events 8 to 10 of e1 are missing/);

      assert.deepEqual(await sources(t, 'acknowledge', 'prosody@a'), { code: 0, output: '1 hole acknowledged\n' });
      assert.deepEqual(await sources(t, 'acknowledge', 'prosody@none'), {
        code: 1,
        output: 'xmpp-event-pusher: there is no source prosody@none\n',
      });
      assert.deepEqual(await sources(t, 'acknowledge', '--all'), { code: 0, output: '0 holes acknowledged\n' });
      assert.equal((await sources(t, 'acknowledge')).code, 2);
      assert.doesNotMatch((await sources(t, 'list')).output, /^ {2}hole/m);
      assert.doesNotMatch(await check(), /are missing/);

      assert.deepEqual(await sources(t, 'retire', 'prosody@a'), { code: 0, output: 'prosody@a retired\n' });
      assert.equal((await sources(t, 'retire', 'prosody@a')).code, 1);
      const left = (await sources(t, 'list', '--json')).output.trim().split('\n');
      assert.deepEqual(
        left.map((line) => JSON.parse(line).source),
        ['ejabberd@b'],
      );
    });
});
