/** Plugins in the daemon: started with their options, replaced by a reload, stopped at the end, never blocking it. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createDaemon, type Daemon } from './support/daemon.ts';
import { until } from './support/process.ts';
import { type Sns, startSns } from './support/sns.ts';

describe('a plugin of the daemon', { timeout: 120_000 }, () => {
  let sns: Sns;
  let daemon: Daemon;
  before(async () => {
    sns = await startSns(['user_presence_updated']);
    daemon = await createDaemon(sns);
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
  });

  const write = (name: string, text: string) => writeFile(path.join(daemon.folder, name), text);
  /** CommonJS, with a timer that would keep the process alive; logs calls to a file. */
  const plugin = (version: number) => `
    const fs = require('node:fs');
    setInterval(() => {}, 1_000);
    const note = (text) => fs.appendFileSync(${JSON.stringify(path.join(daemon.folder, 'notes'))}, text + '\\n');
    let prefix;
    exports.start = async ({ options, log }) => {
      prefix = options.prefix + ${version};
      note('start ' + prefix);
      log.info({ prefix }, 'the plugin is ready');
    };
    exports.stop = async () => note('stop ' + prefix);
    exports.userGuid = (jid) => prefix + ':' + jid.local;`;
  const notes = async () => (await readFile(path.join(daemon.folder, 'notes'), 'utf8')).trim().split('\n');
  let seq = 0;
  const guid = async () => {
    const event = { kind: 'presence', at: 1, host: 'localhost', jid: 'alice@localhost/x', present: true };
    await daemon.post({ source: 's', epoch: 'e', first_seq: ++seq, events: [event] });
    return (await sns.receive(seq)).at(-1)?.body.user_id;
  };
  const configure = (options: string) =>
    daemon.configure({ sns: `plugin_module = "./p.cjs"\n [modules.mod_event_pusher.sns.plugin_options]\n ${options}` });

  it('a plugin gets its options from the configuration, and logs to the daemon’s log', async () => {
    await write('p.cjs', plugin(1));
    await configure('prefix = "a"');
    await daemon.start();
    assert.equal(await guid(), 'a1:alice');
    assert.match(daemon.output(), /"prefix":"a1","msg":"the plugin is ready"/);
  });

  it('a reload starts the new plugin and stops the old one', async () => {
    await write('p.cjs', plugin(2));
    await configure('prefix = "b"');
    await daemon.reload();
    await until('the old one to stop', async () => (await notes()).includes('stop a1'));
    assert.equal(await guid(), 'b2:alice');
    assert.deepEqual(await notes(), ['start a1', 'start b2', 'stop a1']);
  });

  it('a plugin whose start fails in a reload leaves the old one in place', async () => {
    await write('p.cjs', `${plugin(3)}\nexports.start = () => { throw new Error('no database'); };`);
    await daemon.reload();
    await until('the refusal', () => /reload failed; the previous configuration stays in use/.test(daemon.output()));
    assert.match(daemon.output(), /start\(\) failed: no database/);
    assert.equal(await guid(), 'b2:alice');
  });

  it('a plugin whose start hangs does not delay the stop', async () => {
    await write('p.cjs', `${plugin(4)}\nexports.start = () => new Promise(() => note('hangs'));`);
    await daemon.reload();
    await until('the start that hangs', async () => (await notes()).includes('hangs'));
    await daemon.stop();
    assert.match(daemon.output(), /"msg":"stopped"/);
    assert.ok((await notes()).includes('stop b2'));
  });
});
