/** `tail` beside a running daemon, as people and scripts use it. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { BIN, createDaemon, type Daemon, TOPICS } from './support/daemon.ts';
import { launch, type Process, until } from './support/process.ts';
import { type StubSns, startStubSns } from './support/stub-sns.ts';

const TOKEN = 'a-token-for-the-console';
const EVENT = { host: 'localhost', from: 'alice@localhost/phone', to: 'bob@localhost', kind: 'message', type: 'chat' };

describe('tail', () => {
  let sns: StubSns;
  let daemon: Daemon;
  let seq = 1;
  const running: Process[] = [];
  before(async () => {
    sns = await startStubSns();
    daemon = await createDaemon(
      { url: sns.url, region: 'eu-west-1', accountId: '123456789012' },
      { rest: `token = "${TOKEN}"`, here: true },
    );
    await daemon.start();
  });
  after(async () => {
    for (const child of running) await child.end('SIGTERM');
    await daemon[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
  });

  const tail = async (config: string, ...options: string[]) => {
    const child = await launch(process.execPath, [BIN, 'tail', '--config', config, ...options]);
    running.push(child);
    return child;
  };
  const post = async (body: string, more: Record<string, unknown> = {}) => {
    const at = Date.now() - 1_000;
    const { status } = await daemon.post({
      source: 'tail@test',
      epoch: 'e1',
      first_seq: seq++,
      events: [{ ...EVENT, at, body, ...more }],
    });
    assert.equal(status, 200);
    return at;
  };
  const prints = (child: Process, text: string | RegExp) =>
    until(`tail to print ${text}`, () =>
      typeof text === 'string' ? child.output().includes(text) : text.test(child.output()),
    );

  it('tail prints a line for each notification, starting with recent ones, without message texts', async () => {
    await post('before anyone looked');
    const child = await tail(daemon.configFile);
    await prints(child, 'tail@test/e1/1\n');
    await post('secret talk');
    await prints(
      child,
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\tuser_message_sent\talice@localhost\t1(\.\d+)? s\ttail@test\/e1\/2$/m,
    );
    assert.ok(!child.output().includes('secret talk') && !child.output().includes('before anyone'));
    await child.end('SIGINT');
  });

  it('tail prints JSON, and messages on request', async () => {
    const child = await tail(daemon.configFile, '--json', '--bodies');
    await prints(child, 'before anyone looked');
    const at = await post('for machines');
    await prints(child, 'machines');
    const lines = child
      .output()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const { at: sentAt, bytes, ...line } = lines.at(-1);
    assert.ok(sentAt >= at && bytes > 50);
    assert.deepEqual(line, {
      eventAt: at,
      topic: `arn:aws:sns:eu-west-1:123456789012:${TOPICS.pm}`,
      eventId: `tail@test/e1/${seq - 1}`,
      about: 'alice@localhost',
      message: JSON.stringify({
        to_user_id: 'bob@localhost',
        message: 'for machines',
        from_user_id: 'alice@localhost',
      }),
    });
    await until('the log to say so', () => /"by":"user [^"]+".*live tail with message bodies/.test(daemon.output()));
    await child.end('SIGINT');
  });

  it('tail removes control characters from names', async () => {
    const child = await tail(daemon.configFile, '--bodies');
    await post('\u009b2J\u202e\u2066\u2028', { stanza_id: 'm1' });
    await prints(child, `e1/${seq - 1}\t{"to_user_id":"bob@localhost","message":"·2J···"`);
    await child.end('SIGINT');
  });

  it('tail prints only matches, and no message texts', async () => {
    const child = await tail(daemon.configFile, '--match', 'Carol@', '--topic', TOPICS.pm);
    await post('before', { to: 'carol@localhost' });
    await post('carol@localhost is not named here');
    await post('after', { to: 'carol@localhost' });
    await prints(child, `tail@test/e1/${seq - 1}`);
    assert.deepEqual(
      [...child.output().matchAll(/tail@test\/e1\/(\d+)/g)].map(([, number]) => Number(number)),
      [seq - 3, seq - 1],
    );
    await child.end('SIGINT');
  });

  it('tail continues after a restart of the daemon', async () => {
    const child = await tail(daemon.configFile);
    await prints(child, 'tail@test/e1/1\n');
    await daemon.stop();
    await prints(child, 'the daemon closed the connection');
    await daemon.start();
    await prints(child, 'the daemon is back');
    await post('after the restart');
    await prints(child, `tail@test/e1/${seq - 1}\n`);
    assert.equal(child.output().split('tail@test/e1/1\n').length, 2, 'no line twice');
    await child.end('SIGINT');
  });

  it("status draws the daemon's state, or prints it as JSON", async () => {
    const drawn = await daemon.command('status');
    assert.equal(drawn.code, 0, drawn.output);
    assert.match(drawn.output, /^Ready .*\n\nIn [\s\S]*user_message_sent +open [\s\S]*tail@test /);
    const { code, output } = await daemon.command('status', '--json');
    assert.deepEqual([code, JSON.parse(output).topics.length], [0, 3]);
  });

  it('tail reports a wrong token, and a missing daemon', async () => {
    const other = path.join(daemon.folder, 'other.toml');
    const text = (token: string, port: string) => `
      [modules.mod_event_pusher.sns]
      sns_host = "${sns.url}"
      region = "eu-west-1"
      access_key_id = "AKIAIOSFODNN7EXAMPLE"
      secret_access_key = "x"
      account_id = "123456789012"
      [admin]
      listen = "127.0.0.1:${port}"
      token = "${token}"
      [outbox]
      path = "./other.db"`;
    const { port } = new URL(daemon.adminUrl);
    await writeFile(other, text('another-token-of-length', port));
    const refused = await tail(other);
    assert.equal(await refused.exited, 1);
    assert.match(
      refused.output(),
      /^xmpp-event-pusher: the daemon at http:\/\/127\.0\.0\.1:\d+ uses a different admin\.token/,
    );

    await writeFile(other, text(TOKEN, '1'));
    const nobody = await tail(other);
    assert.equal(await nobody.exited, 1);
    assert.match(
      nobody.output(),
      /^xmpp-event-pusher: no daemon answers at http:\/\/127\.0\.0\.1:1 \(admin\.listen\): .*ECONNREFUSED.*; nor by its socket: .*other\.db\.sock/,
    );
  });
});
