/** Commands beside a running daemon: how they reach it, and what they do otherwise. */
import assert from 'node:assert/strict';
import { mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, afterEach, before, describe, it, type TestContext } from 'node:test';
import { commandLine } from './support/command-line.ts';
import { createDaemon, type Daemon, type DaemonOptions } from './support/daemon.ts';
import { until } from './support/process.ts';
import { type StubSns, startStubSns } from './support/stub-sns.ts';

const TOKEN = 'a-token-for-the-console';

describe('the command line and the daemon', () => {
  let sns: StubSns;
  let daemon: Daemon;
  before(async () => {
    sns = await startStubSns();
  });
  after(() => sns[Symbol.asyncDispose]());
  afterEach(() => daemon[Symbol.asyncDispose]());

  const start = async (
    options: DaemonOptions & { here?: boolean } = {},
    prepare: (daemon: Daemon) => Promise<unknown> = async () => {},
  ) => {
    daemon = await createDaemon(
      { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
      { here: true, ...options },
    );
    await prepare(daemon);
    await daemon.start();
  };
  const command = (t: TestContext, ...args: string[]) => commandLine(t, ...args, '--config', daemon.configFile);
  /** Posts invalid events, each of which becomes a dead letter. */
  const refuse = async (count: number) => {
    const events = Array.from({ length: count }, () => ({ kind: 'unheard-of' }));
    assert.equal((await daemon.post({ source: 's', events })).status, 200);
  };

  it('lists, shows, replays and deletes dead letters through the socket', async (t) => {
    await start({ rest: `token = "${TOKEN}"` });
    await refuse(103);
    assert.equal((await stat(path.join(daemon.folder, 'outbox.db.sock'))).mode & 0o777, 0o600);

    const { output: listed } = await command(t, 'dead-letters', 'list', '--limit', '101');
    const lines = listed.split('\n');
    assert.deepEqual([lines.length, lines[0]?.split('\t')[0], lines[100]?.split('\t')[0]], [103, '1', '101']);
    assert.equal(lines[101], '101 of 103 dead letters');
    const { output: json } = await command(t, 'dead-letters', 'list', '--limit', '1', '--json');
    assert.deepEqual(JSON.parse(json).content, { kind: 'raw', event: { kind: 'unheard-of' } });
    const { output: shown } = await command(t, 'dead-letters', 'show', '103');
    assert.equal(JSON.parse(shown).id, 103);
    assert.deepEqual(await command(t, 'dead-letters', 'show', '999'), {
      code: 1,
      output: 'xmpp-event-pusher: there is no dead letter 999\n',
    });

    assert.deepEqual(await command(t, 'dead-letters', 'purge', '1', '2'), {
      code: 0,
      output: '2 dead letters deleted\n',
    });
    assert.equal((await command(t, 'dead-letters', 'replay', '3')).output, '1 dead letter marked for replay\n');
    await until('the replay', () => daemon.output().includes('dead letter again'));
    assert.deepEqual(await command(t, 'dead-letters', 'purge', '--all'), {
      code: 0,
      output: '101 dead letters deleted\n',
    });
    const log = daemon.output();
    assert.match(log, /"by":"user [^"]+","ids":\[1,2\],"count":2,"msg":"admin: dead letters deleted"/);
    assert.match(log, /"by":"user [^"]+","count":1,"msg":"admin: contents of dead letters shown"/);
    assert.doesNotMatch(log, /wrong token/);
  });

  it('finds the socket of an outbox behind a symbolic link', async (t) => {
    await start({ outbox: 'path = "./link.db"' }, async ({ folder }) => {
      await mkdir(path.join(folder, 'data'));
      await writeFile(path.join(folder, 'data/real.db'), '');
      await symlink('data/real.db', path.join(folder, 'link.db'));
    });
    await refuse(1);
    assert.equal((await stat(path.join(daemon.folder, 'data/real.db.sock'))).isSocket(), true);
    assert.equal((await command(t, 'dead-letters', 'purge', '--all')).output, '1 dead letter deleted\n');
    assert.match(daemon.output(), /"by":"user [^"]+".*dead letters deleted/);
  });

  it("uses admin.listen and admin.token if the socket's path would be too long", async (t) => {
    const long = 'x'.repeat(100);
    await start({ outbox: `path = "./${long}.db"`, rest: `token = "${TOKEN}"` });
    assert.match(daemon.output(), /a Unix socket's path at most .*can't open the Unix socket for the command line/);
    await refuse(1);
    assert.equal((await command(t, 'dead-letters', 'purge', '--all')).output, '1 dead letter deleted\n');
    await until('the deletion in the log', () => /"by":"token".*dead letters deleted/.test(daemon.output()));

    await daemon.configure({ outbox: `path = "./${long}.db"`, rest: 'token = "another-token-of-length"' });
    const { code, output } = await command(t, 'dead-letters', 'list');
    assert.equal(code, 1);
    assert.match(
      output,
      /a daemon has the outbox .* open, but can't be reached: .*at most.*uses a different admin\.token/,
    );
  });

  it('does not mistake another daemon at the configured address for its own', async (t) => {
    await start();
    await refuse(1);
    await using other = await createDaemon(
      { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
      { here: true },
    );
    await other.start();
    await rm(path.join(daemon.folder, 'outbox.db.sock'));
    const text = await readFile(other.configFile, 'utf8');
    await writeFile(other.configFile, text.replace('[outbox]', `[outbox]\npath = "${daemon.folder}/outbox.db"`));
    const { code, output } = await commandLine(t, 'dead-letters', 'purge', '--all', '--config', other.configFile);
    assert.equal(code, 1);
    assert.match(
      output,
      /but can't be reached: .*outbox\.db\.sock.*; the daemon at .* uses a different outbox, .*outbox\.db\n/,
    );
  });

  it('opens the outbox itself after a kill of the daemon, and the next start replays what it marked', async (t) => {
    await start({ here: false });
    await refuse(2);
    await daemon.kill();
    assert.equal((await command(t, 'dead-letters', 'replay', '1')).output, '1 dead letter marked for replay\n');
    assert.equal((await command(t, 'dead-letters', 'purge', '2')).output, '1 dead letter deleted\n');
    await daemon.start();
    await until('the replay', () => daemon.output().includes('dead letter again'));
    assert.match((await command(t, 'dead-letters', 'list')).output, /^3\t.*\n1 dead letter\n$/);
  });
});
