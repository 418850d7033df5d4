import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Circumstances } from './diagnosis.ts';
import { type Answer, answerOf } from './probe.ts';
import { createTopicCommand, siblingOf, type TopicObservations, topicProblems } from './topic.ts';

const circumstances: Circumstances = {
  endpoint: new URL('https://sns.eu-west-1.amazonaws.com'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretLength: 40,
  proxy: undefined,
  configFile: '/etc/pusher.toml',
};
const ARN = 'arn:aws:sns:eu-west-1:123456789012:events';
const KEY = 'arn:aws:kms:eu-west-1:123456789012:key/1234';

const attributes = (values: Record<string, string> = {}): Answer => {
  const entries = Object.entries(values).map(
    ([key, value]) => `<entry><key>${key}</key><value>${value}</value></entry>`,
  );
  return answerOf(
    200,
    {},
    `<GetTopicAttributesResponse xmlns="x"><GetTopicAttributesResult><Attributes>${entries.join('')}</Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>`,
  );
};
const refused = (status: number, code: string, message: string): Answer =>
  answerOf(
    status,
    {},
    `<ErrorResponse xmlns="x"><Error><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
  );
const empty = refused(400, 'InvalidParameter', 'Invalid parameter: Empty message');
const denied = (message: string) => refused(403, 'AuthorizationError', message);
const USER = 'arn:aws:iam::123456789012:user/pusher';

/** One text of all that is said of a topic. */
function said(observed: Partial<TopicObservations>): string {
  const whole = { arn: ARN, attributes: attributes(), publish: empty, published: false, sibling: undefined };
  return topicProblems({ ...whole, ...observed }, circumstances)
    .map(({ level, seen, means, advice }) => `${level}: ${seen} | ${means} | ${advice}`)
    .join('\n');
}

describe('a topic', () => {
  it('is fine when only the empty message is refused, or a real one is taken', () => {
    assert.equal(said({}), '');
    assert.equal(said({ publish: answerOf(200, {}, '<PublishResponse xmlns="x"/>'), published: true }), '');
  });

  it('whose attributes the key may not read can not be seen to be encrypted: a real publish shows it', () => {
    const hidden = denied(`User: ${USER} is not authorized to perform: SNS:GetTopicAttributes`);
    assert.match(
      said({ attributes: hidden }),
      /^warn: .*may publish to .*:events, .*AuthorizationError.*encrypted.*FIFO.*check --publish.*iam-policy --with-attributes/,
    );
    const publish = answerOf(200, {}, '<PublishResponse xmlns="x"/>');
    assert.equal(said({ attributes: hidden, publish, published: true }), '');
  });

  it('that is missing is told with both commands that make it', () => {
    const notFound = refused(404, 'NotFound', 'Topic does not exist');
    const text = said({ attributes: notFound, publish: notFound, sibling: false });
    assert.match(text, /^fail: SNS knows no topic .*:events .*none of that name in account 123456789012/);
    assert.match(text, /xmpp-event-pusher topics create --config \/etc\/pusher\.toml/);
    assert.match(text, /aws sns create-topic --name events --region eu-west-1\n/);
    assert.equal(
      createTopicCommand(`${ARN}.fifo`, 'eu-west-1'),
      'aws sns create-topic --name events.fifo --region eu-west-1 --attributes FifoTopic=true,FifoThroughputScope=MessageGroup',
    );
  });

  it('that is missing, while its FIFO name is there, lacks the suffix; and the other way round', () => {
    const publish = refused(404, 'NotFound', 'Topic does not exist');
    assert.match(said({ publish, sibling: true }), /but .*:events\.fifo .*part of it.*write "events\.fifo"/);
    const arn = `${ARN}.fifo`;
    assert.match(said({ arn, publish, sibling: true }), /a standard topic.*write "events"/);
    assert.equal(siblingOf(siblingOf(ARN)), ARN);
  });

  it('that is a FIFO topic without saying so in its name is told', () => {
    assert.match(said({ attributes: attributes({ FifoTopic: 'true' }) }), /is a FIFO topic.*does not end in \.fifo/);
    const publish = refused(400, 'InvalidParameter', 'The MessageGroupId parameter is required for FIFO topics');
    assert.match(said({ publish }), /is a FIFO topic/);
    assert.equal(said({ arn: `${ARN}.fifo`, attributes: attributes({ FifoTopic: 'true' }) }), '');
  });

  it('that the key may not publish to is told with who asked, and the command that prints the policy', () => {
    const message = `User: ${USER} is not authorized to perform: SNS:Publish on resource: ${ARN} because no identity-based policy allows the SNS:Publish action`;
    assert.match(
      said({ publish: denied(message) }),
      /^fail: .*user\/pusher lacks sns:Publish on this topic: no identity-based policy allows it .*iam-policy --config \/etc\/pusher\.toml/,
    );
    assert.match(said({ publish: denied('not authorized') }), /the access key lacks sns:Publish.*iam-policy/);
  });

  it('that another kind of policy withholds is told so', () => {
    const publish = (why: string) =>
      denied(`User: ${USER} is not authorized to perform: SNS:Publish on resource: ${ARN} ${why}`);
    assert.match(
      said({ publish: publish('with an explicit deny in a service control policy') }),
      /a service control policy denies it.*out of that denial/,
    );
    assert.match(
      said({ publish: publish('with an explicit deny in an identity-based policy') }),
      /an identity-based policy denies it/,
    );
    assert.match(
      said({ publish: publish('because no permissions boundary allows the SNS:Publish action') }),
      /no permissions boundary allows it.*in the permissions boundary too/,
    );
    assert.match(
      said({ publish: publish('because no VPC endpoint policy allows the SNS:Publish action') }),
      /in the VPC endpoint policy too/,
    );
  });

  it('of another account than the key is told with both accounts', () => {
    const other = 'arn:aws:sts::210987654321:assumed-role/xmpp/session';
    const publish = denied(`User: ${other} is not authorized to perform: SNS:Publish on resource: ${ARN}`);
    assert.match(
      said({ publish }),
      /credentials are of account 210987654321, the topic of account 123456789012 .*account_id = "210987654321"/,
    );
  });

  it('of another region or account than the endpoint is told', () => {
    const publish = refused(400, 'InvalidParameter', 'Invalid parameter: TopicArn');
    assert.match(
      said({ publish }),
      /not responsible for topics of region eu-west-1.*correct region, account_id or sns_host/,
    );
  });

  it('that is encrypted with a key we may not use is told with the key and the rights', () => {
    const publish = refused(400, 'KMSAccessDenied', 'The ciphertext refers to a key you do not have access to');
    assert.match(
      said({ attributes: attributes({ KmsMasterKeyId: KEY }), publish, published: true }),
      /may not use its key .*kms:GenerateDataKey\* and kms:Decrypt on the key arn:aws:kms:.*key\/1234: .*--kms-key/,
    );
    assert.match(said({ publish: refused(400, 'KMSDisabledException', 'disabled') }), /enable the key of the topic/);
    assert.match(said({ publish: refused(400, 'KMSNotFound', 'gone') }), /give the topic another/);
  });

  it('that is encrypted wants a real publish to be sure', () => {
    const encrypted = attributes({ KmsMasterKeyId: KEY });
    assert.match(said({ attributes: encrypted }), /^warn: .*is encrypted with the KMS key .*check --publish/);
    const publish = answerOf(200, {}, '<PublishResponse xmlns="x"/>');
    assert.equal(said({ attributes: encrypted, publish, published: true }), '');
  });

  it('is not to blame when SNS throttles or fails', () => {
    assert.match(said({ publish: refused(400, 'Throttling', 'Rate exceeded') }), /^warn: .*quota/);
    assert.match(said({ publish: refused(500, 'InternalError', 'oops') }), /^warn: .*SNS itself fails/);
    assert.match(said({ publish: refused(400, 'EndpointDisabled', 'x') }), /^fail: .*enable the endpoint/);
  });
});
