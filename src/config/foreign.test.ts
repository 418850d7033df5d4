import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseConfig } from './load.ts';

const SNS = `
  sns_host = "sns.eu-west-1.amazonaws.com"
  region = "eu-west-1"
  access_key_id = "a"
  secret_access_key = "b"
  account_id = "123456789012"
`;
const GENERAL = `[modules.mod_event_pusher.sns]${SNS}`;
const parse = (text: string) => parseConfig(text, '/etc/pusher.toml', {});
const mistakeIn = (text: string): string => {
  try {
    parse(text);
  } catch (error) {
    return (error as Error).message;
  }
  return 'none';
};

describe('sections that are not ours', () => {
  for (const [written, meant] of [
    ['outbx', 'outbox'],
    ['outboxes', 'outbox'],
    ['Outbox', 'outbox'],
    ['taps', 'tap'],
    ['tap_http', 'tap'],
    ['amdin', 'admin'],
    ['logging', 'log'],
    ['logs', 'log'],
    ['module', 'modules'],
  ] as const)
    it(`rejects [${written}] and suggests [${meant}]`, () => {
      assert.equal(
        mistakeIn(`${GENERAL}\n[${written}]\nx = 1`),
        `/etc/pusher.toml: 1 mistake\n  ${written} is not a known section; did you mean "${meant}"?`,
      );
    });

  it('rejects misspelt sections below others and in lists', () => {
    for (const [text, path, meant] of [
      [`[modules.mod_event_pushr.sns]${SNS}`, 'modules.mod_event_pushr', 'mod_event_pusher'],
      [`[modules.mod_event_pusher_sns]${SNS}`, 'modules.mod_event_pusher_sns', 'mod_event_pusher'],
      [`[modules.mod_event_pusher.SNS]${SNS}`, 'modules.mod_event_pusher.SNS', 'sns'],
      [`${GENERAL}\n[[host_configs]]\nhost = "a"`, 'host_configs', 'host_config'],
      [`${GENERAL}\n[[host_config]]\nhosts = "a"`, 'host_config[0].hosts', 'host'],
      [`${GENERAL}\n[[host_config]]\nhost = "a"\n[host_config.module.mod_x]`, 'host_config[0].module', 'modules'],
    ] as const)
      assert.ok(mistakeIn(text).includes(`  ${path} is not a known section; did you mean "${meant}"?`), path);
  });

  it("ignores MongooseIM's sections and those unlike ours", () => {
    const theirs = ['general', 'listen', 'auth', 'internal_databases', 'outgoing_pools', 'services', 'shaper'];
    const names = [...theirs, 'acl', 'access', 's2s', 'instrumentation', 'custom'];
    const modules = ['mod_muc', 'mod_event_hook', 'mod_push_service_mongoosepush', 'mod_muc_log'];
    const text = [
      ...names.map((name) => `[${name}]\nx = 1`),
      ...modules.map((name) => `[modules.${name}]`),
      '[modules.mod_event_pusher.push]\n[modules.mod_event_pusher.http]\n[modules.mod_event_pusher.rabbit]',
      GENERAL,
    ].join('\n');
    assert.equal(parse(text).ignored.length, names.length + modules.length + 3);
  });

  it('rejects an option outside any section', () => {
    assert.match(mistakeIn(`level = "debug"\n${GENERAL}`), /^ {2}level is outside of any section$/m);
  });

  it('names a host type whose section applies to no virtual host', () => {
    const text = `[[host_config]]\nhost_type = "dynamic"\n[host_config.modules.mod_event_pusher.sns]${SNS}`;
    assert.match(
      mistakeIn(text),
      /sns is required; the file has one for the host type "dynamic", but events name domains/,
    );
    assert.doesNotMatch(mistakeIn('[general]\nx = 1'), /host type/);
  });
});

describe('a secret', () => {
  for (const [section, option] of [
    ['tap.http', 'secret'],
    ['admin', 'token'],
  ] as const)
    it(`requires 20 characters for ${section}.${option} beyond loopback`, () => {
      const text = (host: string, length: number) =>
        `${GENERAL}\n[${section}]\nlisten = "${host}:80"\n${option} = "${'x'.repeat(length)}"`;
      for (const host of ['0.0.0.0', '10.0.0.1', '[::]', 'example.org']) {
        assert.equal(
          mistakeIn(text(host, 19)),
          `/etc/pusher.toml: 1 mistake\n  ${section}.${option} is too short, should have 20 characters or more when \`listen\` is not a loopback address`,
        );
        assert.equal(mistakeIn(text(host, 20)), 'none');
      }
      assert.equal(mistakeIn(text('127.0.0.1', 19)), 'none');
    });
});
