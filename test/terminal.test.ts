/** The commands on a pseudo-terminal, provided by script(1). */
import assert from 'node:assert/strict';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { NewDeadLetter } from '../src/outbox/dead-letters.ts';
import { sqliteOutbox } from '../src/outbox/sqlite/sqlite.ts';
import { BIN, createDaemon, type Daemon } from './support/daemon.ts';
import { launch, type Process, until } from './support/process.ts';
import { type Fault, type StubSns, startStubSns } from './support/stub-sns.ts';

const CTRL_C = '\x03';
const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';
const LETTERS = 1_500;

describe('on a terminal', () => {
  let sns: StubSns;
  let fault: Fault | undefined;
  let daemon: Daemon;
  let screens: Process[];
  beforeEach(async () => {
    fault = undefined;
    screens = [];
    sns = await startStubSns({ fault: () => fault });
    daemon = await createDaemon({ url: sns.url, region: 'eu-west-1', accountId: '123456789012' });
  });
  afterEach(async () => {
    for (const screen of screens) await screen.end('SIGTERM');
    await daemon[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
  });

  const run = async (...args: string[]): Promise<Process> => {
    const words = [process.execPath, BIN, ...args, '--config', daemon.configFile].map((word) => `'${word}'`);
    // exec: a remaining shell would get the Ctrl-C too, and return its own exit code.
    const screen = await launch('script', ['-qefc', `exec ${words.join(' ')}`, '/dev/null'], { stdin: 'pipe' });
    screens.push(screen);
    return screen;
  };
  /** The visible text: what follows the last carriage return of each line. */
  const seen = (screen: Process) =>
    screen
      .output()
      .split('\n')
      .map((line) => line.replace(/\r$/, '').split('\r').at(-1)?.replace('\x1b[K', ''))
      .join('\n');

  /** Adds dead letters to an outbox that no daemon has open. */
  async function fill(): Promise<void> {
    const outbox = sqliteOutbox({ file: path.join(daemon.folder, 'outbox.db'), maxBytes: 1e9 });
    const deadLetters = Array.from({ length: LETTERS }, (_, n): NewDeadLetter => {
      const message = `{"message":"m${n}"}`;
      const fields = { eventId: `s/e/${n}`, topic: TOPIC, orderKey: `u${n}`, at: 1, bytes: message.length };
      const notification = { ...fields, message, attributes: [] };
      const content = { kind: 'notification' as const, notification };
      return { eventId: `s/e/${n}`, topic: TOPIC, reason: 'InvalidParameter', detail: 'no', attempts: 1, content };
    });
    await outbox.commit({ notifications: [], deadLetters });
    await outbox.close();
  }

  it('a purge shows its progress, then its result', async () => {
    await fill();
    const screen = await run('dead-letters', 'purge', '--all');
    assert.equal(await screen.exited, 0);
    for (const step of ['1,000 of 1,500 (66 %)', '1,500 of 1,500 (100 %)'])
      assert.ok(screen.output().includes(`\rdeleted: ${step}\x1b[K`), `${step} in ${JSON.stringify(screen.output())}`);
    assert.equal(seen(screen), '1,500 dead letters deleted\n');
  });

  it("a replay shows its progress, and the daemon's", async () => {
    await fill();
    await daemon.start();
    const screen = await run('dead-letters', 'replay', '--all');
    assert.equal(await screen.exited, 0);
    assert.match(screen.output(), /\rmarked for replay: 1,000 of 1,500 \(66 %\)/);
    const steps = [...screen.output().matchAll(/\rreplayed: ([\d,]+) of [\d,]+ \((\d+) %\)/g)].map(([, done]) =>
      Number(done?.replaceAll(',', '')),
    );
    assert.ok(steps.length > 1, JSON.stringify(screen.output()));
    assert.deepEqual(
      steps,
      steps.toSorted((a, b) => a - b),
    );
    assert.equal(seen(screen), '1,500 dead letters marked for replay\n');
    const { output } = await daemon.command('dead-letters', 'list');
    assert.equal(output, '0 dead letters\n');
  });

  it('a replay without a daemon says that it waits for one', async () => {
    await fill();
    const screen = await run('dead-letters', 'replay', '--all');
    assert.equal(await screen.exited, 0);
    assert.match(
      seen(screen),
      /^1,500 dead letters marked for replay\n1,500 wait for the daemon, which is not running\n/,
    );
  });

  it('a daemon writes readable lines, stops at Ctrl-C, and says what it waits for', async () => {
    fault = { kind: 'slow', ms: 4_000 };
    const screen = await run('run');
    await until('it to run', () => screen.output().includes('running'));
    assert.doesNotMatch(screen.output(), /"msg"/);
    const from = 'alice@localhost/phone';
    const event = { kind: 'message', at: 1, host: 'localhost', type: 'chat', from, to: 'bob@localhost', body: 'x' };
    assert.equal((await daemon.post({ source: 's', events: [event] })).status, 200);
    await until('the request', () => sns.requests > 0);
    screen.type(CTRL_C);
    assert.equal(await screen.exited, 0, screen.output());
    const lines = stripVTControlCharacters(seen(screen));
    assert.match(
      lines,
      /INFO.*: stopping: waiting for the requests under way[\s\S]*: waiting for requests under way\n *requests: 1/,
    );
    assert.match(lines, /stopped\s*$/);
  });
});
