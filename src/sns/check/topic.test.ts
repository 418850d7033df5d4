import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CallOutcome } from '../client.ts';
import type { Circumstances } from '../failure.ts';
import { diagnoseTopic, siblingOf, type TopicObservations } from './topic.ts';

const circumstances: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretLength: 40,
  configFile: '/etc/pusher.toml',
};
const ARN = 'arn:aws:sns:eu-west-1:123456789012:events';
const KEY = 'arn:aws:kms:eu-west-1:123456789012:key/1234';

const attributes = (values: Record<string, string> = {}): CallOutcome => {
  const entries = Object.entries(values).map(
    ([key, value]) => `<entry><key>${key}</key><value>${value}</value></entry>`,
  );
  return {
    xml: `<GetTopicAttributesResponse xmlns="x"><GetTopicAttributesResult><Attributes>${entries.join('')}</Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>`,
  };
};
const refused = (status: number, code: string, message: string): CallOutcome => ({
  failure: { kind: 'request', status, code, message },
});
const taken: CallOutcome = { xml: '<PublishResponse xmlns="x"/>' };
const empty = refused(400, 'InvalidParameter', 'Invalid parameter: Empty message');
const denied = (message: string) => refused(403, 'AuthorizationError', message);
const USER = 'arn:aws:iam::123456789012:user/pusher';

/** All findings about a topic as one text. */
function said(observed: Partial<TopicObservations>): string {
  const whole = { arn: ARN, attributes: attributes(), publish: empty, published: false, sibling: undefined };
  return diagnoseTopic({ ...whole, ...observed }, circumstances)
    .map(({ level, seen, means, advice }) => `${level}: ${seen} | ${means} | ${advice}`)
    .join('\n');
}

describe('a topic', () => {
  it('a topic is fine when it refuses only the empty message, or accepts a real one', () => {
    assert.equal(said({}), '');
    assert.equal(said({ publish: taken, published: true }), '');
  });

  it('asks for a real publish when the key may not read whether the topic is encrypted', () => {
    const hidden = denied(`User: ${USER} is not authorized to perform: SNS:GetTopicAttributes`);
    assert.match(
      said({ attributes: hidden }),
      /^warn: .*may publish to .*:events, .*AuthorizationError.*encrypted.*FIFO.*check --publish.*iam-policy --with-attributes/,
    );
    assert.equal(said({ attributes: hidden, publish: taken, published: true }), '');
  });

  it('a missing topic that exists with or without .fifo is reported under that name', () => {
    const publish = refused(404, 'NotFound', 'Topic does not exist');
    assert.match(
      said({ publish, sibling: true }),
      /^fail: .*but there is .*:events\.fifo, .*part of it.*write "events\.fifo"/,
    );
    const arn = `${ARN}.fifo`;
    assert.match(said({ arn, publish, sibling: true }), /a standard topic.*write "events"/);
    assert.equal(siblingOf(siblingOf(ARN)), ARN);
  });

  it('reports a FIFO topic whose name does not end in .fifo', () => {
    assert.match(said({ attributes: attributes({ FifoTopic: 'true' }) }), /is a FIFO topic.*does not end in \.fifo/);
    const publish = refused(400, 'InvalidParameter', 'The MessageGroupId parameter is required for FIFO topics');
    assert.match(said({ publish }), /is a FIFO topic/);
    assert.equal(said({ arn: `${ARN}.fifo`, attributes: attributes({ FifoTopic: 'true' }) }), '');
  });

  it('reports a missing permission with the caller and the command that prints the policy', () => {
    const message = `User: ${USER} is not authorized to perform: SNS:Publish on resource: ${ARN} because no identity-based policy allows the SNS:Publish action`;
    assert.match(
      said({ publish: denied(message) }),
      /^fail: .*:events: HTTP 403: .*user\/pusher lacks sns:Publish on this topic: no identity-based policy allows it .*iam-policy --config \/etc\/pusher\.toml/,
    );
    assert.match(said({ publish: denied('not authorized') }), /the access key lacks sns:Publish.*iam-policy/);
  });

  it('asks for a real publish to an encrypted topic', () => {
    const encrypted = attributes({ KmsMasterKeyId: KEY });
    assert.match(said({ attributes: encrypted }), /^warn: .*is encrypted with the KMS key .*check --publish/);
    assert.equal(said({ attributes: encrypted, publish: taken, published: true }), '');
  });

  it('reports a topic that refuses a real message', () => {
    assert.match(said({ publish: refused(400, 'InvalidParameter', 'no'), published: true }), /^fail: .*HTTP 400: no/);
  });

  it('does not blame a topic when SNS throttles or fails', () => {
    assert.match(said({ publish: refused(400, 'Throttling', 'Rate exceeded') }), /^warn: .*quota/);
    assert.match(said({ publish: refused(500, 'InternalError', 'oops') }), /^warn: .*SNS itself fails/);
    assert.match(said({ publish: refused(400, 'EndpointDisabled', 'x') }), /^fail: .*enable the endpoint/);
  });
});
