/** The CloudFormation template, checked against AWS's specification and the daemon's requirements. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { leastPolicy } from '../../src/cli/iam-policy.ts';
import { parseConfig } from '../../src/config/load.ts';
import { problemsOf, readTemplate, unresolved } from '../support/cloudformation.ts';
import { readDeployed } from '../support/deploy.ts';

describe('CloudFormation template', () => {
  const template = () => readTemplate('topics.yaml');

  const properties = async (type: string) =>
    Object.values((await template()).Resources)
      .filter((resource) => resource.Type === type)
      .map((resource) => resource.Properties);

  it('has only resources, properties and attributes that AWS knows, with the right types', async () => {
    assert.deepEqual(problemsOf((await template()).Resources), []);
    const mistaken = {
      Topic: { Type: 'AWS::SNS::Topic', Properties: { Name: 'x', FifoTopic: 'yes' } },
      Alarm: { Type: 'AWS::CloudWatch::Alarm', Properties: { Dimensions: [{ Name: 'QueueName' }] } },
      Subscription: { Type: 'AWS::SNS::Subscription', Properties: { TopicArn: { 'Fn::GetAtt': 'Topic.Name' } } },
      Queue: { Type: 'AWS::SQS::Line' },
    };
    assert.deepEqual(problemsOf(mistaken), [
      'Topic.Name: there is no such property',
      'Topic.FifoTopic: should be a boolean',
      'Alarm.Dimensions.0.Value: is missing',
      'Subscription.TopicArn: Topic has no attribute Name',
      'Subscription.Protocol: is missing',
      'Queue: AWS knows no AWS::SQS::Line',
    ]);
  });

  it('the template refers only to names it defines', async () => {
    assert.deepEqual(unresolved(await template()), []);
    const { Outputs, ...rest } = await template();
    const mistaken = { ...rest, Parameters: { ...rest.Parameters, Spare: { Type: 'String' } }, Outputs };
    assert.deepEqual(unresolved({ ...mistaken, Outputs: { ...Outputs, X: { Value: { Ref: 'Y' } } } }), ['Y', 'Spare']);
  });

  it('creates the topics named in the example configurations', async () => {
    const { Parameters } = await template();
    const text = await readDeployed('systemd/pusher.toml');
    const variables = [...text.matchAll(/\$\{(\w+)\}/g)].map(([, name]) => [name, 'a-secret-long-enough']);
    const { sns } = parseConfig(text, '/x/pusher.toml', Object.fromEntries(variables));
    assert.deepEqual(
      Object.entries(Parameters).flatMap(([name, { Default }]) => (/Topic/.test(name) ? [Default] : [])),
      [sns?.presence_updates_topic, sns?.pm_messages_topic, sns?.muc_messages_topic],
    );
    assert.equal((await properties('AWS::SNS::Topic')).length, 3);
  });

  it('allows the publisher what iam-policy prints', async () => {
    const [policy] = await properties('AWS::IAM::ManagedPolicy');
    const refs = ['PresenceTopic', 'PrivateMessageTopic', 'GroupMessageTopic'].map((Ref) => ({ Ref }));
    const expected = leastPolicy({ topics: [] });
    assert.deepEqual(policy?.PolicyDocument, {
      ...expected,
      Statement: expected.Statement.map((statement) => ({ ...statement, Resource: refs })),
    });
  });

  it('subscribes the queue to each topic, with a dead-letter queue for both', async () => {
    const queue = { 'Fn::GetAtt': 'ConsumerQueue.Arn' };
    const deadLetters = { 'Fn::GetAtt': 'ConsumerDeadLetterQueue.Arn' };
    const subscriptions = await properties('AWS::SNS::Subscription');
    assert.equal(subscriptions.length, 3);
    for (const { Endpoint, RedrivePolicy, Protocol } of subscriptions) {
      assert.deepEqual([Endpoint, Protocol], [queue, 'sqs']);
      assert.deepEqual(RedrivePolicy, { deadLetterTargetArn: deadLetters });
    }
    const [consumer] = await properties('AWS::SQS::Queue');
    assert.deepEqual(consumer?.RedrivePolicy, { deadLetterTargetArn: deadLetters, maxReceiveCount: 5 });
    // A policy document has no type: the test below checks it.
    const [policy] = (await properties('AWS::SQS::QueuePolicy')) as unknown as {
      PolicyDocument: { Statement: { Principal: unknown; Resource: unknown; Condition: unknown }[] };
    }[];
    const [statement] = policy?.PolicyDocument.Statement ?? [];
    assert.deepEqual(statement?.Principal, { Service: 'sns.amazonaws.com' });
    assert.deepEqual(statement?.Resource, [queue, deadLetters]);
    const sources = ['PresenceTopic', 'PrivateMessageTopic', 'GroupMessageTopic'].map((Ref) => ({ Ref }));
    assert.deepEqual(statement?.Condition, { ArnEquals: { 'aws:SourceArn': sources } });
  });
});

describe("CloudFormation template of Amazon MQ's broker", () => {
  it("the broker's template has only known properties, and refers only to names it defines", async () => {
    const template = await readTemplate('rabbitmq.yaml');
    assert.deepEqual(problemsOf(template.Resources), []);
    assert.deepEqual(unresolved(template), []);
  });

  it('creates a cluster of three that only the daemons reach, with TLS and a generated password', async () => {
    const { Resources } = await readTemplate('rabbitmq.yaml');
    const { Broker, BrokerSecurityGroup, WaitingAlarm } = Resources;
    const { DeploymentMode, PubliclyAccessible, Users, BrokerName } = Broker?.Properties ?? {};
    assert.deepEqual([DeploymentMode, PubliclyAccessible], ['CLUSTER_MULTI_AZ', false]);
    const password = { 'Fn::Sub': '{{resolve:secretsmanager:${Password}}}' };
    assert.deepEqual(Users, [{ Username: 'pusher', Password: password }]);
    const { SecurityGroupIngress } = BrokerSecurityGroup?.Properties ?? {};
    const [ingress] = SecurityGroupIngress as Record<string, unknown>[];
    assert.deepEqual(ingress?.SourceSecurityGroupId, { Ref: 'DaemonSecurityGroupId' });
    assert.deepEqual([ingress?.FromPort, ingress?.ToPort], [5671, 5671]);
    assert.deepEqual(WaitingAlarm?.Properties.Dimensions, [{ Name: 'Broker', Value: BrokerName }]);
  });
});
