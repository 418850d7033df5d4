/** The CloudFormation template: by AWS's specification of its resources, and by what the daemon needs of them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isScalar, parseDocument, visit } from 'yaml';
import { leastPolicy } from '../../src/cli/iam-policy.ts';
import { parseConfig } from '../../src/config/load.ts';
import { problemsOf } from '../support/cloudformation.ts';
import { readDeployed } from '../support/deploy.ts';

interface Template {
  AWSTemplateFormatVersion: string;
  Parameters: Record<string, { Type: string; Default?: string }>;
  Resources: Record<string, { Type: string; DependsOn?: string; Properties: Record<string, unknown> }>;
  Outputs: Record<string, { Value: unknown }>;
}

describe('CloudFormation template', () => {
  const TAGS = ['Ref', 'GetAtt', 'Sub'];

  /** The template with `!Ref X` as `{ Ref: 'X' }`, as CloudFormation itself reads it. */
  async function template(): Promise<Template> {
    const customTags = TAGS.map((name) => ({ tag: `!${name}`, resolve: (value: string) => value }));
    const document = parseDocument(await readDeployed('cloudformation/topics.yaml'), { customTags });
    assert.deepEqual([document.errors, document.warnings], [[], []]);
    visit(document, {
      Scalar(_, node) {
        const name = node.tag?.slice(1) ?? '';
        if (!TAGS.includes(name) || !isScalar(node)) return undefined;
        const value = { [name === 'Ref' ? 'Ref' : `Fn::${name}`]: node.value };
        return document.createNode(value);
      },
    });
    return document.toJS() as Template;
  }

  const properties = async (type: string) =>
    Object.values((await template()).Resources)
      .filter((resource) => resource.Type === type)
      .map((resource) => resource.Properties);

  it('has the resources, properties and attributes that AWS knows, with values of their types', async () => {
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

  it('refers only to what it has', async () => {
    const whole = await template();
    const names = [...Object.keys(whole.Parameters), ...Object.keys(whole.Resources), 'AWS::AccountId', 'AWS::Region'];
    const text = JSON.stringify(whole);
    const refs = [...text.matchAll(/"(?:Ref|Fn::GetAtt)":"([^".]+)/g)].map(([, name]) => name ?? '');
    assert.ok(refs.length > 20);
    for (const name of refs) assert.ok(names.includes(name), name);
    for (const { DependsOn } of Object.values(whole.Resources))
      if (DependsOn) assert.ok(whole.Resources[DependsOn], DependsOn);
    for (const name of Object.keys(whole.Parameters)) assert.ok(refs.includes(name), `${name} is not used`);
  });

  it('makes the topics that the example configurations name', async () => {
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

  it('subscribes the queue to each topic, with a dead-letter queue behind both', async () => {
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
    // What a policy document holds has no type: the test below is what checks it.
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
