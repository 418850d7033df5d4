import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseConfig, shapeOf } from '../config/load.ts';
import { snsOptions } from '../config/sns-options.ts';
import { additionsOf, type SnsSettings, snsOptionsOf, snsSettingsOf } from './settings.ts';

const SETTINGS: SnsSettings = {
  region: 'eu-west-1',
  accountId: '123456789012',
  topics: { presence: 'presence', pm: 'pm' },
  credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
};

const problem = (settings: object): string => {
  try {
    snsOptionsOf({ ...SETTINGS, ...settings });
    return '';
  } catch (error) {
    return (error as Error).message;
  }
};

describe('the settings of a host program', () => {
  it('settings convert to a section and back without loss', () => {
    const section = `
presence_updates_topic = "a"
muc_messages_topic = "b.fifo"
sns_host = "http://localhost:4566/x"
region = "eu-west-1"
account_id = "123456789012"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = "wJalrXUtnFEMI"
pool_size = 7
max_messages_per_second = 9
ca_file = "ca.pem"
proxy = "http://me:p%40ss@proxy.example.org:3128"
plugin_options = { timeout_ms = 200, nested = { a = [1] } }
publish_retry_count = 0
publish_retry_time_ms = 0
publish_exhausted = "dead-letter"
presence = "session"
attributes = ["event_id"]
pm_messages_topic = "chat-{host}"
topics = ["chat-a"]
message_attributes = { a = "{type}", n = { number = "{seq}" } }
presence_attributes = { b = "{host}" }
cloudevents = true
body_fields = ["type"]
subject = "{type}"
message_group_id = "{room}"
message_deduplication_id = "{event_id}"`;
    const elsewhere = ['credentials', 'plugin_module'];
    for (const option of Object.keys(shapeOf(snsOptions)))
      assert.ok(elsewhere.includes(option) || section.includes(`${option} = `), option);
    const { sns } = parseConfig(`[modules.mod_event_pusher.sns]${section}`, '/pusher.toml', {});
    assert.ok(sns);
    assert.deepEqual(snsOptionsOf(snsSettingsOf(sns)), sns);
  });

  it("settings have a section's defaults, the region's endpoint and AWS's provider chain", () => {
    const { sns_host, pool_size, credentials } = snsOptionsOf({ ...SETTINGS, credentials: undefined });
    assert.deepEqual([sns_host.href, pool_size, credentials], ['https://sns.eu-west-1.amazonaws.com/', 100, 'aws']);
    assert.equal(
      snsOptionsOf({ ...SETTINGS, region: 'cn-north-1' }).sns_host.hostname,
      'sns.cn-north-1.amazonaws.com.cn',
    );
    assert.equal(snsOptionsOf(SETTINGS).credentials, 'static');
  });

  it('lists every mistake in settings by the names of a host program', () => {
    assert.match(problem({ accountId: '5' }), /^sns\.accountId should be an AWS account number/);
    assert.match(problem({ poolSize: 0 }), /^sns\.poolSize should be a whole number from 1 to 10,000$/);
    assert.match(problem({ topics: { pm: 'a b' } }), /^sns\.topics\.pm should be an SNS topic name/);
    assert.match(problem({ topics: { chat: 'a' } }), /^sns\.topics\.chat is not a setting; there are region, /);
    assert.match(problem({ poolsize: 5 }), /^sns\.poolsize is not a setting/);
    assert.match(
      problem({ subject: '{tpye}' }),
      /^sns\.subject names \{tpye\}, which is not known; did you mean \{type\}\?$/,
    );
    assert.match(problem({ messageAttributes: { 'a b': 'x' } }), /^sns\.messageAttributes\.a b is not allowed by SNS/);
    assert.match(problem({ topics: { pm: 'chat-{host}' } }), /^sns\.topicNames is required/);
    const two = problem({ region: 'Ireland', exhausted: 'drop' });
    assert.match(two, /sns\.region should be/);
    assert.match(two, /sns\.exhausted should be/);
  });

  it('checks and applies additions for another sink too', () => {
    const { members, subject, attributes } = additionsOf({ bodyFields: ['type'], subject: '{type}' });
    assert.deepEqual([typeof members, typeof subject, attributes], ['function', 'function', undefined]);
    assert.throws(() => additionsOf({ bodyFields: ['typ'], messageAttributes: { a: '{hots}' } }), {
      code: 'CONFIG_INVALID',
      message:
        'messageAttributes.a names {hots}, which is not known; did you mean {host}?; bodyFields names "typ", which is not known; did you mean "type"?',
    });
  });

  it('never shows a secret of the settings', () => {
    assert.doesNotMatch(
      problem({ region: 'X', credentials: { accessKeyId: '', secretAccessKey: 'hidden' } }),
      /hidden/,
    );
  });
});
