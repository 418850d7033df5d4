/**
 * An example consumer: a process that polls an SQS queue and handles events in order. Each notification waits two
 * seconds for earlier ones, because a standard topic does not preserve the order.
 *
 *     QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/chat node consumer-poller.ts
 *
 * Deletes a message after handling it. So the queue's visibility timeout must be longer than the wait and the work.
 */
import { DeleteMessageCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { type Notification, parse, reorder } from 'xmpp-event-pusher/consumer';

interface Parts {
  readonly sqs: SQSClient;
  readonly queueUrl: string;
  readonly waitMs?: number;
  readonly signal: AbortSignal;
  /** Your code. If it throws, the message is delivered again. */
  handle(notification: Notification, late: boolean): Promise<void>;
}

/** Polls until the signal aborts; messages still held go to the next poller. */
export async function poll({ sqs, queueUrl, waitMs = 2_000, signal, handle }: Parts): Promise<void> {
  const waiting = reorder({ waitMs });
  while (!signal.aborted) {
    const received = await sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: queueUrl,
        MaxNumberOfMessages: 10,
        WaitTimeSeconds: 1,
        MessageAttributeNames: ['All'],
      }),
    );
    for (const notification of parse(received)) {
      if (notification.kind === 'malformed') process.stderr.write(`left in the queue: ${notification.reason}\n`);
      else waiting.add([notification]);
    }
    for (const { notification, late } of waiting.take()) {
      try {
        await handle(notification, late);
        const ReceiptHandle = notification.delivery.receiptHandle;
        await sqs.send(new DeleteMessageCommand({ QueueUrl: queueUrl, ReceiptHandle }));
      } catch (error) {
        process.stderr.write(`${notification.id} comes again: ${error}\n`);
      }
    }
  }
}

if (import.meta.main) {
  const stop = new AbortController();
  process.once('SIGTERM', () => stop.abort());
  process.once('SIGINT', () => stop.abort());
  await poll({
    sqs: new SQSClient(),
    queueUrl: process.env.QUEUE_URL ?? '',
    signal: stop.signal,
    async handle(notification, late) {
      process.stdout.write(`${notification.at} ${notification.kind} ${notification.id}${late ? ' (late)' : ''}\n`);
    },
  });
}
