import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseConfig } from '../config/load.ts';
import type { SnsOptions } from '../config/options.ts';
import { partitionOf, topicArn, topicsOf } from './account.ts';

const options = (region: string, topics = ''): SnsOptions =>
  parseConfig(
    `[modules.mod_event_pusher.sns]
     sns_host = "sns"
     region = "${region}"
     access_key_id = "a"
     secret_access_key = "s"
     account_id = "123456789012"
     ${topics}`,
    '/pusher.toml',
    {},
  ).sns as SnsOptions;

describe('a topic', () => {
  for (const [region, partition] of [
    ['eu-west-1', 'aws'],
    ['us-east-1', 'aws'],
    ['ca-central-1', 'aws'],
    ['cn-north-1', 'aws-cn'],
    ['cn-northwest-1', 'aws-cn'],
    ['us-gov-west-1', 'aws-us-gov'],
    ['us-gov-east-1', 'aws-us-gov'],
  ] as const)
    it(`of ${region} is in the partition ${partition}`, () => {
      assert.equal(partitionOf(region), partition);
      assert.equal(topicArn(options(region), 'news.fifo'), `arn:${partition}:sns:${region}:123456789012:news.fifo`);
    });

  it('is there for each kind that has one configured', () => {
    assert.deepEqual(topicsOf(options('eu-west-1')), {});
    assert.deepEqual(topicsOf(options('eu-west-1', 'pm_messages_topic = "pm"')), {
      pm: 'arn:aws:sns:eu-west-1:123456789012:pm',
    });
    const all = 'presence_updates_topic = "a"\npm_messages_topic = "b"\nmuc_messages_topic = "c"';
    assert.deepEqual(topicsOf(options('eu-west-1', all)), {
      presence: 'arn:aws:sns:eu-west-1:123456789012:a',
      pm: 'arn:aws:sns:eu-west-1:123456789012:b',
      muc: 'arn:aws:sns:eu-west-1:123456789012:c',
    });
  });
});
