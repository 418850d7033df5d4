/**
 * The example consumers with the daemon's real notifications: through SNS and its queues, in the three ways of reading
 * them, and with DynamoDB.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { SNSClient, SubscribeCommand } from '@aws-sdk/client-sns';
import { CreateQueueCommand, type Message, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import {
  dynamoStore,
  type MessageNotification,
  type Notification,
  parse,
  presenceState,
} from '../src/consumer/index.ts';
import { createDaemon, TOPICS } from './support/daemon.ts';
import { type Dynamo, startDynamo } from './support/dynamodb.ts';
import { until } from './support/process.ts';
import './support/self.ts';
import { type Sns, startSns } from './support/sns.ts';
import { makeAuthority, signatureOf } from './support/sns-signer.ts';

const { createEndpoint } = await import('../examples/consumer-endpoint.ts');
const { createHandler } = await import('../examples/consumer-lambda.ts');
const { poll } = await import('../examples/consumer-poller.ts');

const credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
};
const SOURCE = 'prosody/localhost@chat1';
const [ALICE, BOB, ROOM] = ['alice@localhost', 'bob@localhost', 'tea@conference.localhost'];

const event = { at: 1763820191120, host: 'localhost' };
const presence = (jid: string, present: boolean) => ({
  ...event,
  kind: 'presence',
  jid: `${jid}/phone`,
  present,
  sessions: present ? 1 : 0,
});
const message = (from: string, to: string, type: string, body: string) => ({
  ...event,
  kind: 'message',
  type,
  from: `${from}/phone`,
  to,
  body,
  stanza_id: body,
});

/** Two runs of an adapter. All events of the first have the same time. */
const RUNS = [
  {
    epoch: '9f2c41d07a',
    events: [
      presence(ALICE, true),
      presence(BOB, true),
      message(ALICE, BOB, 'chat', 'one'),
      message(ALICE, BOB, 'chat', 'two'),
      presence(BOB, false),
      message(ALICE, ROOM, 'groupchat', 'three'),
    ],
  },
  {
    epoch: '01aa',
    events: [presence(ALICE, false), presence(BOB, true), message(BOB, ALICE, 'chat', 'four')].map((later) => ({
      ...later,
      at: event.at + 1,
    })),
  },
];
const COUNT = 9;

const OPTIONS = `
  attributes = ["event_id", "timestamp", "stanza_id"]
  body_fields = ["type", "seq"]
  subject = "{type}"
[modules.mod_event_pusher.sns.message_attributes]
  room = "{room}"
  size = { number = "{body.length}" }`;

describe('consumers of what the daemon publishes', () => {
  let sns: Sns;
  let dynamo: Dynamo;
  let sqs: SQSClient;
  let folder: string;
  const queues = { enveloped: '', raw: '', http: '', added: '' };
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'consumer-'));
    sns = await startSns(Object.values(TOPICS));
    dynamo = await startDynamo();
    const options = { endpoint: sns.url, region: sns.region, credentials };
    sqs = new SQSClient(options);
    const client = new SNSClient(options);
    for (const name of Object.keys(queues) as (keyof typeof queues)[]) {
      queues[name] = String((await sqs.send(new CreateQueueCommand({ QueueName: name }))).QueueUrl);
      for (const topic of Object.values(TOPICS)) {
        const TopicArn = `arn:aws:sns:${sns.region}:${sns.accountId}:${topic}`;
        const Endpoint = `arn:aws:sqs:${sns.region}:${sns.accountId}:${name}`;
        const Attributes = { RawMessageDelivery: String(name === 'raw') };
        await client.send(new SubscribeCommand({ TopicArn, Protocol: 'sqs', Endpoint, Attributes }));
      }
    }
    client.destroy();
    await using daemon = await createDaemon(sns, { sns: OPTIONS, here: true });
    await daemon.start();
    for (const { epoch, events } of RUNS)
      assert.equal((await daemon.post({ source: SOURCE, epoch, first_seq: 1, events })).status, 200);
    await sns.receive(COUNT);
  });
  after(async () => {
    sqs.destroy();
    await dynamo[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const receive = async (queueUrl: string): Promise<Message[]> => {
    const all: Message[] = [];
    await until('all messages', async () => {
      const request = { QueueUrl: queueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: ['All'] };
      all.push(...((await sqs.send(new ReceiveMessageCommand(request))).Messages ?? []));
      return all.length === COUNT;
    });
    return all;
  };
  /** In the form of Lambda's event source mapping. */
  const lambdaEvent = (messages: readonly Message[]) => ({
    Records: messages.map(({ MessageId, ReceiptHandle, Body }) => ({
      messageId: MessageId,
      receiptHandle: ReceiptHandle,
      body: Body,
      attributes: {},
      messageAttributes: {},
      eventSource: 'aws:sqs',
    })),
  });

  it('the Lambda example ends with the right presence and each message once, despite shuffled and repeated deliveries', async () => {
    const table = await dynamo.createTable('lambda');
    const messages: MessageNotification[] = [];
    const handler = createHandler({
      dynamo: dynamo.client,
      table,
      topics: { pm: TOPICS.pm, muc: TOPICS.muc },
      async onMessage(notification) {
        messages.push(notification);
      },
    });
    const deliveries = await receive(queues.enveloped);
    for (const batch of [deliveries.slice(4), deliveries.slice(0, 6), deliveries.toReversed()])
      assert.deepEqual(await handler(lambdaEvent(batch)), { batchItemFailures: [] });
    const state = presenceState(dynamoStore(dynamo.client, { table }));
    assert.deepEqual(await state.get(ALICE), { present: false, at: event.at + 1 });
    assert.deepEqual(await state.get(BOB), { present: true, at: event.at + 1 });
    assert.deepEqual(messages.map(({ message, type }) => [message, type]).toSorted(), [
      ['four', 'pm'],
      ['one', 'pm'],
      ['three', 'muc'],
      ['two', 'pm'],
    ]);
  });

  it('the Lambda example reports failures and invalid messages, and handles repeated deliveries', async () => {
    const table = await dynamo.createTable('failing');
    let fails = true;
    const handled: string[] = [];
    const handler = createHandler({
      dynamo: dynamo.client,
      table,
      async onMessage({ message }) {
        if (fails) throw new Error('not now');
        handled.push(message);
      },
    });
    const body = '{"to_user_id":"b","message":"x","from_user_id":"a","event_id":"s/e/1"}';
    const batch = lambdaEvent([
      { MessageId: 'm1', Body: body },
      { MessageId: 'm2', Body: 'not ours' },
    ]);
    assert.deepEqual((await handler(batch)).batchItemFailures.map(({ itemIdentifier }) => itemIdentifier).toSorted(), [
      'm1',
      'm2',
    ]);
    fails = false;
    assert.deepEqual(await handler(batch), { batchItemFailures: [{ itemIdentifier: 'm2' }] });
    assert.deepEqual(await handler(batch), { batchItemFailures: [{ itemIdentifier: 'm2' }] });
    assert.deepEqual(handled, ['x']);
  });

  it('configured attributes, body fields and the subject arrive', async () => {
    const deliveries = await receive(queues.added);
    const [{ Body = '' } = {}] = deliveries.filter(({ Body = '' }) => Body.includes('three'));
    const [notification] = parse(Body);
    assert.ok(notification?.kind === 'message');
    const { event_id, timestamp, ...attributes } = notification.attributes;
    assert.deepEqual(attributes, { stanza_id: 'three', room: ROOM, size: 5 });
    assert.deepEqual(notification.fields, { type: 'muc', seq: 6 });
    assert.equal(JSON.parse(Body).Subject, 'muc');
  });

  it('the poller example handles the events of each run in order, from a queue with raw delivery', async () => {
    const stop = new AbortController();
    const handled: Notification[] = [];
    const polling = poll({
      sqs,
      queueUrl: queues.raw,
      waitMs: 200,
      signal: stop.signal,
      async handle(notification) {
        handled.push(notification);
        if (handled.length === COUNT) stop.abort();
      },
    });
    await until('all notifications', () => handled.length === COUNT);
    await polling;
    const expected = RUNS.flatMap(({ epoch, events }) => events.map((_, index) => `${SOURCE}/${epoch}/${index + 1}`));
    assert.deepEqual(
      handled.map(({ id }) => id),
      expected,
    );
  });

  it('the endpoint example accepts what SNS signed, confirms its subscription, and refuses the rest', async () => {
    const authority = await makeAuthority(folder, 'sns.amazonaws.com');
    const handled: unknown[] = [];
    const confirmed: string[] = [];
    const topics = Object.values(TOPICS).map((topic) => `arn:aws:sns:${sns.region}:${sns.accountId}:${topic}`);
    const endpoint = createEndpoint({
      topics,
      roots: [authority.root],
      async fetch(input) {
        if (String(input).endsWith('.pem')) return new Response(`${authority.leaf}${authority.issuer}`);
        confirmed.push(String(input));
        return new Response('<ConfirmSubscriptionResponse/>');
      },
      async handle(notification) {
        handled.push(notification);
      },
    }).listen(0, '127.0.0.1');
    await once(endpoint, 'listening');
    const { port } = endpoint.address() as AddressInfo;
    const post = async (body: object) => {
      const init = {
        method: 'POST',
        headers: { 'content-type': 'text/plain; charset=UTF-8' },
        body: JSON.stringify(body),
      };
      return (await fetch(`http://127.0.0.1:${port}/sns`, init)).status;
    };
    const SigningCertURL = `https://sns.${sns.region}.amazonaws.com/SimpleNotificationService-0.pem`;
    const signed = (envelope: Record<string, string>) => {
      const whole = { ...envelope, SignatureVersion: '2', SigningCertURL };
      return { ...whole, Signature: signatureOf(whole, authority.key) };
    };
    try {
      const SubscribeURL = `https://sns.${sns.region}.amazonaws.com/?Action=ConfirmSubscription&TopicArn=${topics[0]}&Token=t`;
      const base = { MessageId: 'b4c5', TopicArn: String(topics[0]), Timestamp: new Date().toISOString() };
      const subscription = {
        ...base,
        Type: 'SubscriptionConfirmation',
        Message: 'You have chosen',
        Token: 't',
        SubscribeURL,
      };
      assert.equal(await post(signed(subscription)), 200);
      assert.deepEqual(confirmed, [SubscribeURL]);
      const deliveries = await receive(queues.http);
      for (const { Body } of deliveries) assert.equal(await post(signed(JSON.parse(String(Body)))), 200);
      const expected = parse({ Messages: deliveries.map(({ Body }) => ({ Body })) });
      assert.deepEqual(handled, expected);
      assert.equal(await post(JSON.parse(String(deliveries[0]?.Body))), 403);
      assert.equal(handled.length, COUNT);
    } finally {
      endpoint.closeAllConnections();
      endpoint.close();
    }
  });
});
