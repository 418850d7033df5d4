import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseEventId } from '../event-id.ts';
import { parse } from './parse.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';
const ID = 'prosody/example.org@chat1/9f2c41d07a/1713';
const MESSAGE = '{"to_user_id":"bob@example.org","message":"Hello, Bob","from_user_id":"alice@example.org"}';
const PRESENCE = '{"user_id":"alice@example.org","present":true}';
const ATTRIBUTES = {
  event_id: { Type: 'String', Value: ID },
  timestamp: { Type: 'Number', Value: '1763820191340' },
  type: { Type: 'String', Value: 'pm' },
  stanza_id: { Type: 'String', Value: 'm1' },
  host: { Type: 'String', Value: 'example.org' },
  tags: { Type: 'String.Array', Value: '["a",1]' },
  raw: { Type: 'Binary', Value: 'AAEC' },
};
const envelope = (Message: string, MessageAttributes: object = ATTRIBUTES) => ({
  Type: 'Notification',
  MessageId: 'b4c5',
  TopicArn: TOPIC,
  Message,
  Timestamp: '2025-11-22T14:03:11.500Z',
  MessageAttributes,
});

/** The expected result of MESSAGE with ATTRIBUTES in every channel. */
const METADATA = {
  kind: 'message',
  type: 'pm',
  to_user_id: 'bob@example.org',
  from_user_id: 'alice@example.org',
  message: 'Hello, Bob',
  id: ID,
  source: 'prosody/example.org@chat1',
  epoch: '9f2c41d07a',
  seq: 1713,
  at: 1763820191340,
  host: 'example.org',
  stanzaId: 'm1',
};
const sqsLambda = (body: string, messageAttributes = {}) => ({
  messageId: 'sqs-1',
  receiptHandle: 'handle',
  body,
  attributes: { ApproximateReceiveCount: '2', SentTimestamp: '1763820191900', MessageGroupId: 'alice@example.org' },
  messageAttributes,
  eventSource: 'aws:sqs',
  eventSourceARN: 'arn:aws:sqs:eu-west-1:123456789012:queue',
});
const lambdaSpelling = Object.fromEntries(
  Object.entries(ATTRIBUTES).map(([name, { Type, Value }]) => [
    name,
    Type === 'Binary' ? { dataType: Type, binaryValue: Value } : { dataType: Type, stringValue: Value },
  ]),
);
const sdkSpelling = Object.fromEntries(
  Object.entries(ATTRIBUTES).map(([name, { Type, Value }]) => [
    name,
    Type === 'Binary'
      ? { DataType: Type, BinaryValue: Buffer.from(Value, 'base64') }
      : { DataType: Type, StringValue: Value },
  ]),
);
const sdkMessage = (Body: string, MessageAttributes?: object) => ({
  MessageId: 'sqs-1',
  ReceiptHandle: 'handle',
  Body,
  MessageAttributes,
});
const base64 = (text: string) => Buffer.from(text).toString('base64');

const CHANNELS: Readonly<Record<string, unknown>> = {
  'a Lambda subscribed to the topic': { Records: [{ EventSource: 'aws:sns', Sns: envelope(MESSAGE) }] },
  'a Lambda behind a queue': { Records: [sqsLambda(JSON.stringify(envelope(MESSAGE)))] },
  'a Lambda behind a queue with raw delivery': { Records: [sqsLambda(MESSAGE, lambdaSpelling)] },
  'a poller': { Messages: [sdkMessage(JSON.stringify(envelope(MESSAGE)))] },
  'a poller with raw delivery': { Messages: [sdkMessage(MESSAGE, sdkSpelling)] },
  'a single message of a poller': sdkMessage(MESSAGE, sdkSpelling),
  'a list of messages': [sdkMessage(MESSAGE, sdkSpelling)],
  'an HTTP request': { headers: { 'X-Amz-Sns-Message-Type': 'Notification' }, body: JSON.stringify(envelope(MESSAGE)) },
  'an HTTP request in base64': { headers: {}, body: base64(JSON.stringify(envelope(MESSAGE))), isBase64Encoded: true },
  'an HTTP body that a framework parsed': envelope(MESSAGE),
  'Pipes to a Lambda': [sqsLambda(JSON.stringify(envelope(MESSAGE)))],
  'Pipes to an event bus': {
    source: 'Pipe x',
    'detail-type': 'Event from aws:sqs',
    detail: sqsLambda(MESSAGE, lambdaSpelling),
  },
  'Pipes whose template parsed the body': [{ ...sqsLambda(''), body: envelope(MESSAGE) }],
  'a Firehose transformation': {
    invocationId: 'i',
    records: [{ recordId: 'r1', data: base64(JSON.stringify(envelope(MESSAGE))) }],
  },
  'bytes of a file that Firehose wrote': Buffer.from(`${JSON.stringify(envelope(MESSAGE))}\n`),
};

describe('parse', () => {
  for (const [channel, input] of Object.entries(CHANNELS))
    it(`reads the notification and its metadata from ${channel}`, () => {
      const [notification, ...others] = parse(input);
      assert.partialDeepStrictEqual(notification, METADATA);
      assert.deepEqual(others, []);
      assert.ok(notification?.kind === 'message');
      assert.deepEqual(notification.attributes.tags, ['a', 1]);
      assert.deepEqual([...(notification.attributes.raw as Uint8Array)], [0, 1, 2]);
      assert.equal(notification.attributes.timestamp, 1763820191340);
      assert.deepEqual(notification.fields, {});
    });

  it('reads metadata from the body where a channel has no attributes', () => {
    const body = {
      user_id: 'alice@example.org',
      present: false,
      event_id: ID,
      timestamp: 7,
      sessions: 0,
      type: 'presence',
    };
    const [notification] = parse({ records: [{ recordId: 'r1', data: base64(`${JSON.stringify(body)}\n`) }] });
    assert.deepEqual(notification, {
      kind: 'presence',
      user_id: 'alice@example.org',
      present: false,
      sessions: 0,
      id: ID,
      ...parseEventId(ID),
      at: 7,
      attributes: {},
      fields: { event_id: ID, timestamp: 7, sessions: 0, type: 'presence' },
      delivery: { recordId: 'r1' },
    });
  });

  it('reads the attributes of the CloudEvents binding', () => {
    const [notification] = parse(
      envelope(MESSAGE, {
        ce_id: { Type: 'String', Value: ID },
        ce_time: { Type: 'String', Value: '2025-11-22T14:03:11.340Z' },
        ce_type: { Type: 'String', Value: 'xmpp-event-pusher.muc' },
      }),
    );
    assert.partialDeepStrictEqual(notification, { id: ID, seq: 1713, at: 1763820191340, type: 'muc' });
  });

  it('reports how each notification arrived', () => {
    const [raw] = parse({ Records: [sqsLambda(MESSAGE)] });
    const sqs = { sqsMessageId: 'sqs-1', receiptHandle: 'handle', groupId: 'alice@example.org', receiveCount: 2 };
    assert.deepEqual(raw?.delivery, sqs);
    const [enveloped] = parse({ Records: [sqsLambda(JSON.stringify(envelope(MESSAGE)))] });
    const sns = { messageId: 'b4c5', topicArn: TOPIC, publishedAt: Date.parse('2025-11-22T14:03:11.500Z') };
    assert.deepEqual(enveloped?.delivery, { ...sqs, ...sns });
    const headers = { 'x-amz-sns-message-id': 'b4c5', 'x-amz-sns-topic-arn': TOPIC, 'x-amz-sns-rawdelivery': 'true' };
    assert.deepEqual(parse({ headers, body: MESSAGE })[0]?.delivery, { messageId: 'b4c5', topicArn: TOPIC });
  });

  it('distinguishes private from group messages by topic without an attribute', () => {
    const typeOf = (input: unknown, topics?: { pm?: string; muc?: string }) => {
      const [notification] = parse(input, { ...(topics && { topics }) });
      return notification?.kind === 'message' ? notification.type : notification;
    };
    const bare = envelope(MESSAGE, {});
    assert.equal(typeOf(bare), undefined);
    assert.equal(typeOf(bare, { pm: 'user_message_sent', muc: 'user_messagegroup_sent' }), 'pm');
    assert.equal(typeOf(bare, { muc: TOPIC }), 'muc');
    assert.equal(typeOf(bare, { muc: 'message_sent' }), undefined);
    assert.equal(typeOf(bare, { pm: TOPIC, muc: TOPIC }), undefined);
    assert.equal(typeOf(envelope(MESSAGE), { muc: TOPIC }), 'pm');
  });

  it('keeps a batch in order, with malformed messages in their place', () => {
    const confirmation = { ...envelope('You have chosen …'), Type: 'SubscriptionConfirmation' };
    const inputs = [
      PRESENCE,
      'no JSON',
      '{"user_id":1,"present":true}',
      '[]',
      '7',
      JSON.stringify(confirmation),
      MESSAGE,
    ];
    const parsed = parse({ Records: inputs.map((body) => sqsLambda(body)) });
    assert.deepEqual(
      parsed.map((item) => (item.kind === 'malformed' ? item.reason : item.kind)),
      [
        'presence',
        'it is not JSON',
        'its body is neither a presence nor a message notification',
        'it is not a JSON object',
        "it is SNS's SubscriptionConfirmation",
        'message',
      ],
    );
    assert.ok(parsed.every(({ delivery }) => delivery.sqsMessageId === 'sqs-1'));
  });

  it('returns nothing for an empty batch in all forms of SQS and its SDK', () => {
    const answer = { $metadata: { httpStatusCode: 200 } };
    for (const empty of [answer, { ...answer, Messages: [] }, { Messages: [] }, { Records: [] }, [], undefined])
      assert.deepEqual(parse(empty), []);
  });

  it('reads a file of many lines', () => {
    const lines = [PRESENCE, '', JSON.stringify(envelope(MESSAGE)), 'torn {', PRESENCE];
    assert.deepEqual(
      parse(`${lines.join('\n')}\n`).map(({ kind }) => kind),
      ['presence', 'message', 'malformed', 'presence'],
    );
  });

  it('never mistakes a body for an envelope, whatever users write', () => {
    fc.assert(
      fc.property(fc.json(), fc.string(), (message, user) => {
        const body = JSON.stringify({ to_user_id: user, message, from_user_id: user });
        for (const input of [envelope(body), { Records: [sqsLambda(body)] }, { Messages: [sdkMessage(body)] }])
          assert.partialDeepStrictEqual(parse(input)[0], { kind: 'message', message, to_user_id: user });
      }),
    );
  });

  it('never throws, whatever the input', () => {
    const deep = Array.from({ length: 50 }).reduce((inner) => ({ Sns: inner }), {});
    const input = fc.oneof(fc.anything(), fc.json(), fc.constant(deep));
    const property = fc.property(input, (value) => assert.ok(Array.isArray(parse(value))));
    fc.assert(property, { numRuns: 500 });
  });

  it('returns a result for each record of a batch, whatever it contains', () => {
    const body = fc.oneof(fc.string(), fc.constant(MESSAGE), fc.constant('{"Records":0}'), fc.constant('{}'));
    const property = fc.property(fc.array(body), (bodies) => {
      const records = bodies.map((text, index) => ({ ...sqsLambda(text), messageId: String(index) }));
      const ids = parse({ Records: records }).map(({ delivery }) => delivery.sqsMessageId);
      assert.deepEqual(
        [...new Set(ids)],
        bodies.map((_, index) => String(index)),
      );
    });
    fc.assert(property);
  });
});

describe('parseEventId', () => {
  it('reads number and epoch from the end, since a source may contain slashes', () => {
    assert.deepEqual(parseEventId(ID), { source: 'prosody/example.org@chat1', epoch: '9f2c41d07a', seq: 1713 });
  });

  it('returns nothing for an id without a number', () => {
    for (const id of ['', 'a/b', 'a/b/0', 'a/b/01', 'a/b/x', '/b/1', 'a//1', `a/b/${2 ** 53}`, crypto.randomUUID()])
      assert.equal(parseEventId(id), undefined, id);
  });
});
