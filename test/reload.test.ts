/** A reload on SIGHUP: what a running daemon takes over, seen by what it then does. test/sns.test.ts has topics and plugins. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createDaemon, type Daemon } from './support/daemon.ts';
import { until } from './support/process.ts';
import { type StubSns, startStubSns } from './support/stub-sns.ts';

describe('a reload', () => {
  let sns: StubSns;
  let daemon: Daemon;
  let accepted: string[];
  let seq: number;
  before(async () => {
    sns = await startStubSns({ accepted: ({ message }) => accepted.push(JSON.parse(message).message) });
  });
  after(() => sns[Symbol.asyncDispose]());
  beforeEach(async () => {
    accepted = [];
    seq = 1;
    daemon = await createDaemon({ url: sns.url, region: 'eu-west-1', accountId: '123456789012' });
  });
  afterEach(() => daemon[Symbol.asyncDispose]());

  const post = async (count: number) => {
    const message = { kind: 'message', at: Date.now(), host: 'localhost', type: 'chat', to: 'bob@localhost' };
    const numbers = Array.from({ length: count }, (_, n) => seq + n);
    const events = numbers.map((n) => ({ ...message, from: `user${n}@localhost/phone`, body: `m${n}` }));
    const { status } = await daemon.post({ source: 's', epoch: 'e', first_seq: seq, events });
    assert.equal(status, 200);
    seq += count;
  };
  const sent = () => new Set(accepted).size;
  const reloads = () => daemon.output().split('"msg":"reloaded').length - 1;
  const reload = async (...configuration: Parameters<Daemon['configure']>) => {
    const before = reloads();
    await daemon.configure(...configuration);
    await daemon.reload();
    await until('the reload', () => reloads() > before);
  };

  it('takes a new rate: less, and more', async () => {
    await daemon.start();
    await post(100);
    await until('all without a cap', () => sent() === 100);

    await reload({ sns: 'max_messages_per_second = 1' });
    const since = performance.now();
    await post(200);
    await until('some behind the first batch', () => sent() >= 112, 60_000);
    // Ten at once, and one a second: a slow machine only makes it fewer.
    const most = 100 + 10 + (performance.now() - since) / 1_000;
    assert.ok(sent() <= most + 1, `${sent()} were sent, at most ${most}`);

    // At the old rate the rest would take three minutes.
    await reload({ sns: 'max_messages_per_second = 100000' });
    await until('all at the new rate', () => sent() === 300, 60_000);
    assert.deepEqual(accepted.toSorted(), [...new Set(accepted)].toSorted(), 'nothing twice');
  });

  it('takes a new log level: less, and more', async () => {
    await daemon.start();
    const complain = async () => {
      await daemon.post('not JSON');
      await daemon.post({ source: 's', events: [] }, { authorization: 'Bearer wrong' });
    };
    const lines = (text: string) => daemon.output().split(text).length - 1;
    await complain();
    await until('both lines', () => lines('not JSON') === 1 && lines('wrong secret') === 1);

    await daemon.configure({ rest: '[log]\nlevel = "error"' });
    await daemon.reload();
    // What it has to say of a reload is below this level too.
    await until('warnings to end', async () => {
      const [warnings, errors] = [lines('not JSON'), lines('wrong secret')];
      await complain();
      await until('the error', () => lines('wrong secret') > errors);
      return lines('not JSON') === warnings;
    });
    assert.equal(reloads(), 0);

    await reload({ rest: '[log]\nlevel = "info"' });
    const before = lines('not JSON');
    await complain();
    await until('the warning', () => lines('not JSON') > before);
  });

  it('loses nothing and sends nothing twice, however often it comes', async () => {
    await daemon.start();
    let goesOn = true;
    const flowing = (async () => {
      while (goesOn) {
        await post(20);
        await sleep(5);
      }
    })();
    for (const rate of [1_000, 900, 800, 700, 100_000]) await reload({ sns: `max_messages_per_second = ${rate}` });
    goesOn = false;
    await flowing;
    await until('all to arrive', () => sent() === seq - 1, 60_000);
    assert.equal(accepted.length, seq - 1, 'nothing twice');
  });
});
