import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Notification } from '../notification/notification.ts';
import {
  fifoId,
  publishBatchForm,
  readError,
  readPublishBatchAnswer,
  readRequestId,
  readTopicArn,
  readTopicAttributes,
} from './wire.ts';

const ARN = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';

const notification = (message: string, more: Partial<Notification> = {}): Notification => ({
  eventId: 's/e/1',
  topic: ARN,
  orderKey: 'alice@localhost',
  at: 0,
  message,
  attributes: [],
  bytes: message.length,
  ...more,
});

/** The form's fields, as a server reads them. */
const fields = (form: string) => Object.fromEntries(new URLSearchParams(form));

describe('the PublishBatch form', () => {
  it('the form has each entry with its id, and no MessageStructure', () => {
    const form = publishBatchForm(ARN, [notification('{"a":"ü & = + %"}'), notification('😀')]);
    assert.deepEqual(fields(form), {
      Action: 'PublishBatch',
      Version: '2010-03-31',
      TopicArn: ARN,
      'PublishBatchRequestEntries.member.1.Id': '0',
      'PublishBatchRequestEntries.member.1.Message': '{"a":"ü & = + %"}',
      'PublishBatchRequestEntries.member.2.Id': '1',
      'PublishBatchRequestEntries.member.2.Message': '😀',
    });
  });

  it("the form has a subject, and FIFO ids given in place of the event's", () => {
    const parameters = { Subject: 'a & b', MessageGroupId: 'tea', MessageDeduplicationId: undefined };
    const entry = 'PublishBatchRequestEntries.member.1.';
    const standard = fields(publishBatchForm(ARN, [notification('x', { parameters })]));
    assert.equal(standard[`${entry}Subject`], 'a & b');
    assert.equal(`${entry}MessageGroupId` in standard, false);
    const fifo = fields(publishBatchForm(`${ARN}.fifo`, [notification('x', { parameters })]));
    assert.equal(fifo[`${entry}MessageGroupId`], 'tea');
    assert.equal(fifo[`${entry}MessageDeduplicationId`], 's/e/1');
    const ids = { MessageGroupId: 'ä', MessageDeduplicationId: 'm1' };
    const hashed = fields(publishBatchForm(`${ARN}.fifo`, [notification('x', { parameters: ids })]));
    assert.equal(hashed[`${entry}MessageGroupId`], fifoId('ä'));
    assert.equal(hashed[`${entry}MessageDeduplicationId`], 'm1');
  });

  it('the form has attributes with their types, a Binary as BinaryValue', () => {
    const form = publishBatchForm(ARN, [
      notification('x', {
        attributes: [
          { name: 'a', type: 'String', value: 'b&c' },
          { name: 'n', type: 'Number', value: '1.5' },
          { name: 'l', type: 'String.Array', value: '["x","y"]' },
          { name: 'b', type: 'Binary', value: 'AAE+' },
        ],
      }),
    ]);
    const read = fields(form);
    const entry = 'PublishBatchRequestEntries.member.1.MessageAttributes.entry.';
    assert.equal(read[`${entry}1.Name`], 'a');
    assert.equal(read[`${entry}1.Value.DataType`], 'String');
    assert.equal(read[`${entry}1.Value.StringValue`], 'b&c');
    assert.equal(read[`${entry}2.Value.DataType`], 'Number');
    assert.equal(read[`${entry}3.Value.StringValue`], '["x","y"]');
    assert.equal(read[`${entry}4.Value.BinaryValue`], 'AAE+');
  });

  it('the form has group and deduplication id for a FIFO topic', () => {
    const read = fields(publishBatchForm(`${ARN}.fifo`, [notification('x')]));
    assert.equal(read['PublishBatchRequestEntries.member.1.MessageGroupId'], 'alice@localhost');
    assert.equal(read['PublishBatchRequestEntries.member.1.MessageDeduplicationId'], 's/e/1');
  });

  it('hashes ids that a FIFO topic would refuse', () => {
    assert.equal(fifoId('a'.repeat(128)), 'a'.repeat(128));
    assert.match(fifoId('a'.repeat(129)), /^[0-9a-f]{64}$/);
    assert.match(fifoId('jürgen@localhost'), /^[0-9a-f]{64}$/);
    assert.match(fifoId('with space'), /^[0-9a-f]{64}$/);
    assert.notEqual(fifoId('jürgen@localhost'), fifoId('jörgen@localhost'));
  });
});

const answer = (successful: string, failed: string) =>
  `<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
  <Successful>${successful}</Successful><Failed>${failed}</Failed></PublishBatchResult>
  <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></PublishBatchResponse>`;
const taken = (id: string) => `<member><MessageId>m-${id}</MessageId><Id>${id}</Id></member>`;
const failed = (id: string, fault = 'true') =>
  `<member><Id>${id}</Id><Code>InvalidParameter</Code><Message>a &lt;b&gt; &amp;amp; c</Message><SenderFault>${fault}</SenderFault></member>`;

describe('the PublishBatch answer', () => {
  it('reads the outcome of each entry', () => {
    assert.deepEqual(readPublishBatchAnswer(answer(taken('0') + taken('2'), failed('1', 'false')), 3), [
      'm-0',
      { code: 'InvalidParameter', message: 'a <b> &amp; c', senderFault: false },
      'm-2',
    ]);
  });

  it("reads the request's id", () => {
    assert.deepEqual([readRequestId(answer('', '')), readRequestId('<x/>')], ['r', undefined]);
  });

  it('counts an entry listed as accepted and as failed as failed', () => {
    assert.equal(typeof readPublishBatchAnswer(answer(taken('0'), failed('0')), 1)?.[0], 'object');
  });

  it('reports no result for entries that the answer omits, and ignores unknown ids', () => {
    const read = readPublishBatchAnswer(answer(taken('7') + taken('x') + taken('') + taken('00'), ''), 2);
    assert.deepEqual([...(read ?? [])], [undefined, undefined]);
  });

  it('does not count an entry without a MessageId as accepted', () => {
    assert.deepEqual([...(readPublishBatchAnswer(answer('<member><Id>0</Id></member>', ''), 1) ?? [])], [undefined]);
  });

  it('rejects a truncated or foreign answer', () => {
    const whole = answer(taken('0'), '');
    for (let length = 0; length < whole.length - 1; length++)
      assert.equal(readPublishBatchAnswer(whole.slice(0, length), 1), undefined);
    assert.equal(readPublishBatchAnswer('<html>Welcome to the hotel</html>', 1), undefined);
    assert.equal(readPublishBatchAnswer('', 1), undefined);
  });
});

describe('other answers', () => {
  it('reads code and message of an error document', () => {
    const xml =
      '<ErrorResponse><Error><Type>Sender</Type><Code>NotFound</Code><Message>Topic does not exist</Message></Error></ErrorResponse>';
    assert.deepEqual(readError(xml), { code: 'NotFound', message: 'Topic does not exist' });
    assert.equal(readError('<html></html>'), undefined);
  });

  it("leaves AWS's quote of the request, such as a session token, out of the error", () => {
    const error = (message: string) =>
      readError(`<ErrorResponse><Error><Code>C</Code><Message>${message}</Message></Error></ErrorResponse>`)?.message;
    const quoted =
      "does not match.\n\nThe Canonical String for this request should have been 'POST x-amz-security-token:T'";
    assert.equal(error(quoted), 'does not match.');
    assert.equal(error('requires a date. Authorization=AWS4-HMAC-SHA256 Credential=K'), 'requires a date.');
  });

  it('reads the ARN of a created topic', () => {
    assert.equal(readTopicArn('<CreateTopicResult><TopicArn>arn:x</TopicArn></CreateTopicResult>'), 'arn:x');
    assert.equal(readTopicArn('<x/>'), undefined);
  });

  it("reads a topic's attributes", () => {
    const entry = (key: string, value: string) => `<entry><key>${key}</key><value>${value}</value></entry>`;
    const xml = `<GetTopicAttributesResult><Attributes>${entry('MaximumMessageSize', '1048576')}${entry('DisplayName', '')}</Attributes></GetTopicAttributesResult>`;
    assert.equal(readTopicAttributes(xml).get('MaximumMessageSize'), '1048576');
    assert.equal(readTopicAttributes('<x/>').size, 0);
  });
});
