import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { until } from '../../test/support/process.ts';
import { parseConfig } from '../config/load.ts';
import type { SnsOptions } from '../config/sns-options.ts';
import type { XmppEvent } from '../event.ts';
import { type Account, openAccount, topicArn, topicRoutes, topicsOf } from './account.ts';

const options = (region: string, topics = '', host = 'sns'): SnsOptions =>
  parseConfig(
    `[modules.mod_event_pusher.sns]
     sns_host = "${host}"
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
    ['us-iso-east-1', 'aws-iso'],
    ['us-isob-east-1', 'aws-iso-b'],
    ['eu-isoe-west-1', 'aws-iso-e'],
    ['us-isof-south-1', 'aws-iso-f'],
    ['eusc-de-east-1', 'aws-eusc'],
    ['xx-nowhere-1', 'aws'],
  ] as const)
    it(`a topic of ${region} is in the partition ${partition}`, () => {
      assert.equal(topicArn(options(region), 'news.fifo'), `arn:${partition}:sns:${region}:123456789012:news.fifo`);
    });

  it('has a topic for each configured kind', () => {
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

describe('what a topic takes', () => {
  const ARN = 'arn:aws:sns:eu-west-1:123456789012:pm';
  const error = (code: string) => `<ErrorResponse><Error><Code>${code}</Code></Error></ErrorResponse>`;
  const attribute = (name: string, value: string) =>
    `<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes><entry><key>${name}</key><value>${value}</value></entry></Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>`;
  let server: Server;
  let account: Account;
  let answer: { status: number; body: string };
  let asked = 0;

  beforeEach(async () => {
    asked = 0;
    server = createServer((request, response) => {
      asked += 1;
      request.resume().once('end', () => response.writeHead(answer.status).end(answer.body));
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    account = openAccount(options('eu-west-1', 'pm_messages_topic = "pm"', host), { folder: '/' });
  });
  afterEach(() => {
    account.close();
    server.close();
    mock.timers.reset();
  });

  /** Of a batch, and of a message before it becomes a dead letter. */
  const limits = () => [account.sink.limits(ARN).maxBytes, account.route({}).maxBytes(ARN)];

  for (const [what, status, body, bytes] of [
    ['is its MaximumMessageSize', 200, attribute('MaximumMessageSize', '1048576'), 1_048_576],
    [
      'is what SNS gives by default for a size that SNS can not have',
      200,
      attribute('MaximumMessageSize', '9e9'),
      262_144,
    ],
    ['is what SNS gives by default for a size that is too small', 200, attribute('MaximumMessageSize', '0'), 262_144],
    ['is what SNS gives by default for a size that is no number', 200, attribute('MaximumMessageSize', 'x'), 262_144],
    ['is 262,144 bytes where it was given none', 200, attribute('DisplayName', ''), 262_144],
    ['is 262,144 bytes where this key may not ask', 403, error('AuthorizationError'), 262_144],
    ['is 262,144 bytes where there is no such topic', 404, error('NotFound'), 262_144],
  ] as const)
    it(what, async () => {
      answer = { status, body };
      await account.readLimits();
      assert.deepEqual(limits(), [bytes, bytes]);
      assert.equal(asked, 1);
    });

  it("asks for a topic's size limit until SNS answers, and rejects no message before", async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    answer = { status: 503, body: '' };
    await account.readLimits();
    assert.deepEqual(limits(), [262_144, 1_048_576]);
    answer = { status: 200, body: attribute('MaximumMessageSize', '1024') };
    mock.timers.tick(30_000);
    await until('the second answer', () => account.sink.limits(ARN).maxBytes === 1_024);
    assert.deepEqual(limits(), [1_024, 1_024]);
  });
});

describe('a topic by template', () => {
  const listed = 'topics = ["chat-example-org", "chat-example-org.fifo"]';
  const arn = (name: string) => `arn:aws:sns:eu-west-1:123456789012:${name}`;
  const event: XmppEvent = {
    kind: 'message',
    id: 'a/b/1',
    at: 1,
    host: 'example.org',
    type: 'chat',
    from: 'alice@example.org/x',
    to: 'bob@example.org',
    body: '',
  };
  const chosen = (template: string, host = 'example.org') => {
    const topic = topicRoutes(options('eu-west-1', `${listed}\npm_messages_topic = "${template}"`)).pm;
    return typeof topic === 'function' ? topic({ ...event, host }) : topic;
  };

  it("a template chooses a listed topic, with hyphens for characters that a name can't have", () => {
    assert.equal(chosen('chat-{host}'), arn('chat-example-org'));
    assert.equal(chosen('chat-{host}.fifo'), arn('chat-example-org.fifo'));
    assert.equal(chosen('chat-{host}', 'example/org'), arn('chat-example-org'));
  });

  it('a template chooses no topic if the result is not listed, or a field has no value', () => {
    assert.equal(chosen('chat-{host}', 'example.net'), undefined);
    assert.equal(chosen('chat-{host}', 'example.org.fifo'), undefined);
    assert.equal(chosen('chat-{room}'), undefined);
  });

  it('all listed topics belong to the account', () => {
    const all = topicsOf(
      options('eu-west-1', `${listed}\nmuc_messages_topic = "muc"\npm_messages_topic = "chat-{host}"`),
    );
    assert.deepEqual(Object.values(all), [arn('muc'), arn('chat-example-org'), arn('chat-example-org.fifo')]);
  });
});
