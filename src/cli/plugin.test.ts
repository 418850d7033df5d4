import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { commandLine } from '../../test/support/command-line.ts';
import { BIN } from '../../test/support/daemon.ts';
import { launch } from '../../test/support/process.ts';

const EXAMPLE = fileURLToPath(new URL('../../examples/plugin.ts', import.meta.url));

describe('plugin test', () => {
  let folder: string;
  const write = async (name: string, text: string) => {
    await writeFile(path.join(folder, name), text);
    return path.join(folder, name);
  };
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'plugin-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('plugin test shows topic, JSON and attributes with and without the plugin for each kind of event', async (t) => {
    const { code, output } = await commandLine(t, 'plugin', 'test', EXAMPLE);
    assert.equal(code, 0, output);
    const [first] = output.split('\n\n');
    assert.equal(
      first,
      `alice@example.org/phone comes online
  topic          both  user_presence_updated
  message     without  {"user_id":"alice@example.org","present":true}
                 with  {"user_id":"alice","present":true}
  attributes  without  –
                 with  online: String = true
                       resource: String = phone`,
    );
    for (const kind of ['goes offline', 'chat from', 'groupchat from', 'tea@conference.example.org/Bob'])
      assert.ok(output.includes(kind), kind);
  });

  it('plugin test exits with 1 if the plugin ends the process', async () => {
    const plugin = await write('ends.mjs', 'process.exit(0);');
    const child = await launch(process.execPath, [BIN, 'plugin', 'test', plugin]);
    assert.equal(await child.exited, 1);
    assert.equal(child.output(), 'xmpp-event-pusher: ended too early, probably because a plugin called process.exit\n');
  });

  it('plugin test names a missing plugin, and no configuration that is not used', async (t) => {
    const { code, output } = await commandLine(t, 'plugin', 'test', '/nowhere/plugin.mjs');
    assert.equal(code, 1);
    assert.match(output, /^xmpp-event-pusher: plugin_module "\/nowhere\/plugin\.mjs": can't be loaded: Cannot find/);
  });

  it('plugin test fails without any event', async (t) => {
    const events = await write('none.json', '{"events":[]}');
    const { code, output } = await commandLine(t, 'plugin', 'test', EXAMPLE, '--events', events);
    assert.equal(code, 1);
    assert.match(output, /can't read events from \S+none\.json: it has none\n$/);
  });

  it('plugin test exits with 1 and shows why when the plugin causes a dead letter', async (t) => {
    const plugin = await write(
      'bad.js',
      'export const userGuid = (jid) => jid.local.repeat(2).slice(0, 3 - jid.local.length);',
    );
    const { code, output } = await commandLine(t, 'plugin', 'test', plugin);
    assert.equal(code, 1);
    assert.match(output, /outcome {5}without {2}published\n {17}with {2}dead letter: userGuid should return a string/);
  });

  it('plugin test reads topics, templates and the plugin from a configuration, and events from a file', async (t) => {
    await write(
      'guid.js',
      'export const userGuid = (jid, { seq }) => `${jid.local} at ${seq}`; export const filter = ({ present }) => present !== false;',
    );
    const config = await write(
      'pusher.toml',
      `[modules.mod_event_pusher.sns]
       presence_updates_topic = "who"
       sns_host = "localhost"
       region = "eu-west-1"
       account_id = "123456789012"
       access_key_id = "a"
       secret_access_key = "b"
       plugin_module = "./guid.js"
       [modules.mod_event_pusher.sns.presence_attributes]
       domain = "{user.domain}"`,
    );
    const event = { kind: 'presence', at: 1, host: 'localhost', jid: 'alice@localhost/x', present: true };
    const events = [
      event,
      { ...event, present: false },
      { ...event, kind: 'message', type: 'chat', from: 'a@b', to: 'c', body: '' },
    ];
    const forms = [
      JSON.stringify({ events }),
      JSON.stringify(events),
      events.map((each) => JSON.stringify(each)).join('\n'),
    ];
    for (const form of forms) {
      const file = await write('events.json', form);
      const { code, output } = await commandLine(t, 'plugin', 'test', '--config', config, '--events', file, '--json');
      assert.equal(code, 0, output);
      const [first, second, third] = output
        .trim()
        .split('\n')
        .map((text) => JSON.parse(text));
      assert.equal(first.with.notification.topic, 'arn:aws:sns:eu-west-1:123456789012:who');
      assert.equal(first.with.notification.message, '{"user_id":"alice at 1","present":true}');
      assert.deepEqual(first.with.notification.attributes, [{ name: 'domain', type: 'String', value: 'localhost' }]);
      assert.equal(first.without.notification.message, '{"user_id":"alice@localhost","present":true}');
      assert.deepEqual([second.with.reason, third.with.reason], ['filtered', 'no-topic']);
    }
  });

  it('plugin test reports mistakes of the plugin and the events, and missing ones', async (t) => {
    const fails = async (...args: string[]) => {
      const { code, output } = await commandLine(t, 'plugin', 'test', ...args);
      return `${code} ${output}`;
    };
    assert.match(await fails(), /^2 error: name a plugin, or a configuration with --config/);
    assert.match(await fails(path.join(folder, 'missing.js')), /^1 .*can't be loaded/);
    assert.match(
      await fails(EXAMPLE, '--events', path.join(folder, 'missing')),
      /^1 .*can't read events from .*ENOENT/,
    );
    const file = await write('one.json', '{"kind":"presence","at":1,"host":"h","present":true}');
    assert.match(await fails(EXAMPLE, '--events', file), /^1 .*event 1 jid: should be a JID/);
    assert.match(
      await fails(EXAMPLE, '--events', await write('torn', '{"kind"')),
      /^1 .*can't read events from .*JSON/,
    );
  });
});
