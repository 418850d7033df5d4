/** The filter policies in docs/notifications.md, tested at an SNS with the daemon's notifications. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { CreateTopicCommand, PublishCommand, SNSClient, SubscribeCommand } from '@aws-sdk/client-sns';
import { CreateQueueCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { parse } from '../src/consumer/index.ts';
import type { XmppEvent } from '../src/event.ts';
import { compileAdditions } from '../src/notification/additions.ts';
import { translate } from '../src/notification/notification.ts';
import { until } from './support/process.ts';
import { type Sns, startSns } from './support/sns.ts';

const event = { at: 1763820191120, host: 'example.org' };
const presence = (user: string, present: boolean, host = 'example.org') =>
  ({
    ...event,
    host,
    id: `${user} ${present ? 'comes' : 'goes'}`,
    kind: 'presence',
    jid: `${user}@${host}/x`,
    present,
  }) as const;
const message = (id: string, from: string, to: string, type: 'chat' | 'groupchat', body = 'Hi') =>
  ({ ...event, id, kind: 'message', type, from: `${from}@example.org/x`, to, body }) as const;

const EVENTS: readonly XmppEvent[] = [
  presence('alice', true),
  presence('alice', false),
  presence('support-1', true),
  presence('carol', true, 'example.net'),
  message('pm', 'alice', 'bob@example.org', 'chat'),
  message('pm in a room', 'alice', 'tea@conference.example.org/Bob', 'chat'),
  message('group', 'alice', 'tea@conference.example.org', 'groupchat'),
  message('robot', 'robot', 'bob@example.org', 'chat'),
  message('long', 'alice', 'bob@example.org', 'chat', 'x'.repeat(1_001)),
];

/** The ids of the events that pass each policy. */
const PASSES: Readonly<Record<string, readonly string[]>> = {
  '{"present":[true]}': ['alice comes', 'support-1 comes', 'carol comes'],
  '{"to_user_id":[{"suffix":"@conference.example.org"}]}': ['pm in a room', 'group'],
  '{"from_user_id":[{"anything-but":["robot@example.org"]}]}': ['pm', 'pm in a room', 'group', 'long'],
  '{"user_id":[{"prefix":"support-"}]}': ['support-1 comes'],
  '{"message":[{"exists":true}]}': ['pm', 'pm in a room', 'group', 'robot', 'long'],
  '{"type":["muc"]}': ['group'],
  '{"type":["presence"],"host":["example.org"]}': ['alice comes', 'alice goes', 'support-1 comes'],
  '{"size":[{"numeric":[">",1000]}]}': ['long'],
};

const page = readFileSync(new URL('../docs/notifications.md', import.meta.url), 'utf8');
const ROWS = [...page.matchAll(/^\| `(\{.*\})` \| `(MessageBody|MessageAttributes)` \|/gm)].map(
  ([, policy = '', scope = '']) => ({ policy, scope }),
);

describe('the filter policies of the documentation', () => {
  let sns: Sns;
  let sqs: SQSClient;
  const queues = new Map<string, string>();
  before(async () => {
    sns = await startSns([]);
    const credentials = {
      accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
      secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    };
    const options = { endpoint: sns.url, region: sns.region, credentials };
    sqs = new SQSClient(options);
    const client = new SNSClient(options);
    const { TopicArn = '' } = await client.send(new CreateTopicCommand({ Name: 'all' }));
    for (const [index, { policy, scope }] of ROWS.entries()) {
      const { QueueUrl = '' } = await sqs.send(new CreateQueueCommand({ QueueName: `queue${index}` }));
      const Endpoint = `arn:aws:sqs:${sns.region}:${TopicArn.split(':')[4]}:queue${index}`;
      const Attributes = { FilterPolicy: policy, FilterPolicyScope: scope };
      await client.send(new SubscribeCommand({ TopicArn, Protocol: 'sqs', Endpoint, Attributes }));
      queues.set(policy, QueueUrl);
    }
    const additions = compileAdditions({
      attributes: ['event_id', 'type', 'host'],
      message_attributes: { size: { number: '{body.length}' } },
    });
    const topics = { presence: TopicArn, pm: TopicArn, muc: TopicArn };
    for (const each of EVENTS) {
      const translation = await translate(each, {
        topics,
        plugin: {},
        presence: 'user',
        additions,
        maxBytes: () => 262_144,
      });
      assert.ok(translation.kind === 'publish');
      const { message: Message, attributes } = translation.notification;
      const MessageAttributes = Object.fromEntries(
        attributes.map(({ name, type, value }) => [name, { DataType: type, StringValue: value }]),
      );
      await client.send(new PublishCommand({ TopicArn, Message, MessageAttributes }));
    }
    client.destroy();
  });
  after(async () => {
    sqs.destroy();
    await sns[Symbol.asyncDispose]();
  });

  it('this test covers every filter policy of the documentation', () => {
    assert.deepEqual(
      ROWS.map(({ policy }) => policy),
      Object.keys(PASSES),
    );
  });

  for (const [policy, expected] of Object.entries(PASSES))
    it(policy, async () => {
      const found: (string | undefined)[] = [];
      const QueueUrl = queues.get(policy);
      await until('the notifications', async () => {
        const answer = await sqs.send(new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10 }));
        found.push(...parse(answer).map((item) => (item.kind === 'malformed' ? item.reason : item.id)));
        return found.length >= expected.length;
      });
      assert.deepEqual(found.toSorted(), expected.toSorted());
    });
});
