/** `init --from` with an existing `mongooseim.toml`. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { describe, it, type TestContext } from 'node:test';
import { takeFromMongooseim } from '../src/cli/init/mongooseim.ts';
import { commandLine } from './support/command-line.ts';
import { ASKED, useInit, without } from './support/init.ts';

describe('init from a mongooseim.toml', () => {
  const bench = useInit();
  const { at, text, init, loaded } = bench;
  const take = (t: TestContext, toml: string, ...more: string[]) =>
    writeFile(at('mongooseim.toml'), toml).then(() =>
      commandLine(
        t,
        'init',
        '--yes',
        '--no-topics',
        '--from',
        at('mongooseim.toml'),
        ...without(bench.flags, '--sns-host'),
        ...more,
      ),
    );
  const SECTION = `presence_updates_topic = "presence"
      pm_messages_topic = "pm"
      muc_messages_topic = "muc"
      plugin_module = "mod_event_pusher_sns_defaults"
      sns_host = "sns.eu-west-2.amazonaws.com"
      region = "eu-west-2"
      access_key_id = "AKIA\${KEY}"
      secret_access_key = "its\\"secret$"
      account_id = "123456789012"
      pool_size = 50
      publish_retry_count = 5
      publish_retry_time_ms = 100`;

  it("init reads each option of MongooseIM's section, and moves the secret out of the file", async (t) => {
    const { output } = await take(t, `[general]\nhosts = ["a"]\n[modules.mod_event_pusher.sns]\n${SECTION}`);
    assert.match(output, /note {6}taken from \S+mongooseim\.toml, which is not changed\n/);
    const { sns: section } = loaded();
    assert.deepEqual(
      { ...section, sns_host: section?.sns_host.host, access_key_id: section?.access_key_id },
      {
        ...section,
        presence_updates_topic: 'presence',
        pm_messages_topic: 'pm',
        muc_messages_topic: 'muc',
        sns_host: 'sns.eu-west-2.amazonaws.com',
        region: 'eu-west-2',
        access_key_id: 'AKIA${KEY}',
        secret_access_key: 'its"secret$',
        account_id: '123456789012',
        pool_size: 50,
        publish_retry_count: 5,
        publish_retry_time_ms: 100,
      },
    );
    assert.doesNotMatch(text('pusher.toml'), /its/);
  });

  it("init reads sections of single domains, and reports what it can't use", async (t) => {
    const { output } = await take(
      t,
      `[modules.mod_event_pusher.rabbit]
        [[host_config]]
          host = "a.example"
          [host_config.modules.mod_event_pusher.sns]
            ${SECTION.replace('defaults"', 'mine"').replace('pool_size', 'pool_sizes')}
        [[host_config]]
          host = "b.example"
          [host_config.modules.mod_roster]
        [[host_config]]
          host_type = "tenants"
          [host_config.modules.mod_event_pusher.sns]
            ${SECTION}`,
    );
    const { sns: general, hosts } = loaded();
    assert.equal(general, undefined);
    assert.deepEqual([hosts.get('a.example')?.region, hosts.get('b.example'), hosts.size], ['eu-west-2', null, 2]);
    for (const expected of [
      /modules\.mod_event_pusher\.rabbit: not used; with --rabbitmq the daemon reads from there/,
      /host_config of a\.example: \S+plugin_module: mod_event_pusher_sns_mine is an Erlang module/,
      /host_config of a\.example: \S+pool_sizes: xmpp-event-pusher has no such option/,
      /host_config of the host type tenants: events name domains/,
    ])
      assert.match(output, expected);
  });

  const RABBIT = `[outgoing_pools.rabbit.event_pusher]
      connection.host = "mq1"
      connection.username = "mim"
      connection.password = "a/b"
      connection.virtual_host = "xmpp"
      [modules.mod_event_pusher.rabbit]
        presence_exchange.durable = true
        chat_msg_exchange.name = "chats"
        chat_msg_exchange.durable = true`;

  it('init reads the exchanges of its rabbit backend, and moves the password out of the file', async (t) => {
    await writeFile(at('mongooseim.toml'), RABBIT);
    const from = ['--from', at('mongooseim.toml'), '--rabbitmq', '--no-topics'];
    const { output } = await init(t, ...ASKED, ...from);
    assert.match(output, /wrote {5}\S+pusher\.toml/);
    const { tap, sns: section } = loaded();
    assert.deepEqual(tap.rabbitmq?.url, ['amqp://mim:a%2Fb@mq1/xmpp']);
    assert.deepEqual(
      [tap.rabbitmq?.presence_exchange.durable, tap.rabbitmq?.chat_msg_exchange.name, section?.region],
      [true, 'chats', 'eu-west-1'],
    );
    assert.doesNotMatch(text('pusher.toml'), /a%2Fb/);
    const none = await take(t, `[modules.mod_event_pusher.sns]\n${SECTION}`, '--rabbitmq', '--overwrite');
    assert.match(none.output, /has no \[modules\.mod_event_pusher\.rabbit\] to read from/);
  });

  it('init refuses --from beside flags for the same options', async (t) => {
    const { code, output } = await take(t, `[modules.mod_event_pusher.sns]\n${SECTION}`, '--region', 'eu-west-1');
    assert.equal(code, 2);
    assert.match(output, /error: --region cannot be used with --from: \S+mongooseim\.toml sets them/);
  });

  for (const [what, toml, expected] of [
    [
      'there is no such section',
      '[general]\n',
      /has no \[modules\.mod_event_pusher\.sns\] to copy from: leave --from out/,
    ],
    ['the file is not TOML', 'x', /can't read \S+mongooseim\.toml: Invalid TOML/],
    [
      'a number is infinite',
      `[modules.mod_event_pusher.sns]\n${SECTION.replace('pool_size = 50', 'pool_size = inf')}`,
      /\/mongooseim\.toml: 1 mistake\n.*pool_size is the number Infinity, should be/,
    ],
    [
      'the section has a mistake',
      `[modules.mod_event_pusher.sns]\n${SECTION.replace('pool_size = 50', 'pool_size = 0')}`,
      /\/mongooseim\.toml: 1 mistake\n.*pool_size is the number 0, should be/,
    ],
  ] as const)
    it(`init writes nothing if ${what}`, async (t) => {
      const { code, output } = await take(t, toml);
      assert.equal(code, 78, output);
      assert.match(output, expected);
      assert.deepEqual(readdirSync(bench.folder), ['mongooseim.toml']);
    });

  it("init copies nothing from a MongooseIM's file that nobody named and that it can't read", async (t) => {
    const said: unknown[] = [];
    t.mock.method(process.stdout, 'write', (text: unknown) => said.push(text) > 0);
    await writeFile(at('mongooseim.toml'), '[general\n');
    const taken = takeFromMongooseim(undefined, { rabbitmq: false, places: [at('mongooseim.toml')] });
    t.mock.restoreAll();
    assert.equal(taken, undefined);
    assert.match(String(said[0]), /^note {6}copied nothing from MongooseIM: can't read \S+mongooseim\.toml: /);
  });
});
