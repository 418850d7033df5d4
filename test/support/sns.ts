/** An SNS for tests: fauxqs in this process, with an SQS queue behind each topic to read back what arrived. */

import { CreateTopicCommand, SNSClient, SubscribeCommand } from '@aws-sdk/client-sns';
import {
  CreateQueueCommand,
  DeleteMessageBatchCommand,
  type Message,
  ReceiveMessageCommand,
  SQSClient,
} from '@aws-sdk/client-sqs';
import { buildApp } from 'fauxqs';
import { until } from './process.ts';
import { assertValid } from './schemas.ts';

/** A notification as received from the topic's queue. */
export interface Received {
  readonly topic: string;
  /** The published string, parsed. */
  readonly body: Record<string, unknown>;
  /** Its message attributes: type and value. */
  readonly attributes: Readonly<Record<string, { Type: string; Value: string }>>;
}

export interface Sns extends AsyncDisposable {
  readonly url: string;
  readonly region: string;
  readonly accountId: string;
  /** Its fastify instance, for hooks that check requests or make them fail. */
  readonly app: ReturnType<typeof buildApp>;
  readonly received: readonly Received[];
  /** Reads until there are `count` in total, or nothing arrives for `ms`; returns all so far. */
  receive(count: number, ms?: number): Promise<readonly Received[]>;
}

/** Between two looks at the queues: each costs a request per topic, to a server in this process. */
const PAUSE_MS = 50;
const REGION = 'eu-west-1';
const credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
};

/**
 * @param topics names of the topics to create
 * @param prepare adds hooks that watch requests or make them fail
 */
export async function startSns(topics: readonly string[], prepare?: (app: Sns['app']) => void): Promise<Sns> {
  const app = buildApp({ logger: false });
  prepare?.(app);
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  const client = { endpoint: url, region: REGION, credentials };
  const sns = new SNSClient(client);
  const sqs = new SQSClient(client);
  const queues: { topic: string; url: string }[] = [];
  let accountId = '';
  for (const topic of topics) {
    const { TopicArn } = await sns.send(new CreateTopicCommand({ Name: topic, ...fifo(topic, 'FifoTopic') }));
    const queue = await sqs.send(new CreateQueueCommand({ QueueName: topic, ...fifo(topic, 'FifoQueue') }));
    accountId = String(TopicArn).split(':')[4] ?? '';
    const Endpoint = `arn:aws:sqs:${REGION}:${accountId}:${topic}`;
    await sns.send(new SubscribeCommand({ TopicArn, Protocol: 'sqs', Endpoint }));
    queues.push({ topic, url: String(queue.QueueUrl) });
  }
  const received: Received[] = [];

  const drain = async (): Promise<void> => {
    for (const { topic, url } of queues) {
      for (;;) {
        const { Messages = [] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl: url, MaxNumberOfMessages: 10 }));
        if (Messages.length === 0) break;
        received.push(...Messages.map((message) => toReceived(topic, message)));
        const Entries = Messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
        await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: url, Entries }));
      }
    }
  };

  return {
    url,
    region: REGION,
    accountId,
    app,
    received,
    async receive(count, ms = 60_000) {
      const enough = async () => {
        await drain();
        return received.length >= count;
      };
      await until(`${count} notifications to arrive`, enough, ms, PAUSE_MS).catch((error: Error) => {
        throw new Error(
          `${error.message}; there are ${received.length}: ${JSON.stringify(received.map(({ body }) => body))}`,
        );
      });
      return received;
    },
    async [Symbol.asyncDispose]() {
      sns.destroy();
      sqs.destroy();
      await app.close();
    },
  };
}

const fifo = (topic: string, attribute: string) =>
  topic.endsWith('.fifo') ? { Attributes: { [attribute]: 'true' } } : {};

function toReceived(topic: string, { Body }: Message): Received {
  const envelope = JSON.parse(String(Body));
  assertValid('sns-envelope', envelope);
  const body = JSON.parse(envelope.Message);
  // The message of `check --publish` is not a notification.
  if (!('xmpp_event_pusher_check' in body)) assertValid('notification', body);
  return { topic, body, attributes: envelope.MessageAttributes ?? {} };
}
