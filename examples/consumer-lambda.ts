/**
 * An example consumer: a Lambda function behind an SQS queue that is subscribed to all three topics. It keeps the
 * users' presence in a DynamoDB table, and handles each message once.
 *
 * - Daemon: `attributes = ["event_id", "timestamp"]`.
 * - Event source mapping: `FunctionResponseTypes = ["ReportBatchItemFailures"]`. Queue: a dead-letter queue.
 * - Table: partition key `pk` (string), time to live on `expires`. Role: `dynamodb:GetItem`, `PutItem`, `DeleteItem` on it.
 * - Environment: TABLE, and PM_TOPIC and MUC_TOPIC with the topics' names.
 */
import { DynamoDB } from '@aws-sdk/client-dynamodb';
import {
  type DynamoClient,
  dedupe,
  dynamoStore,
  type MessageNotification,
  presenceState,
  sqsBatch,
} from 'xmpp-event-pusher/consumer';

interface Parts {
  readonly dynamo: DynamoClient;
  readonly table: string;
  readonly topics?: { readonly pm?: string; readonly muc?: string };
  /** Your code. If it throws, the message is delivered again, and finally goes to the dead-letter queue. */
  onMessage(message: MessageNotification): Promise<void>;
}

export function createHandler({ dynamo, table, topics, onMessage }: Parts) {
  const store = dynamoStore(dynamo, { table });
  const presence = presenceState(store);
  const once = dedupe(store);
  return sqsBatch(
    async (notification) => {
      if (notification.kind === 'presence') await presence.apply(notification);
      else if (notification.kind === 'message') await once(notification, onMessage);
      else throw new Error(`unknown message in the queue: ${notification.reason}`);
    },
    {
      ...(topics && { topics }),
      onError: (error, { delivery }) => process.stderr.write(`${delivery.sqsMessageId}: ${error}\n`),
    },
  );
}

const { TABLE = '', PM_TOPIC = 'user_message_sent', MUC_TOPIC = 'user_messagegroup_sent' } = process.env;

export const handler = createHandler({
  dynamo: new DynamoDB(),
  table: TABLE,
  topics: { pm: PM_TOPIC, muc: MUC_TOPIC },
  async onMessage({ type, from_user_id, to_user_id, at }) {
    process.stdout.write(`${JSON.stringify({ type, from_user_id, to_user_id, at })}\n`);
  },
});
