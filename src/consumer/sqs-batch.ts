/**
 * A Lambda's SQS batch, record by record: what fails comes again, what succeeded doesn't.
 *
 * The function's event source mapping needs `FunctionResponseTypes = ["ReportBatchItemFailures"]`; without it Lambda
 * ignores the answer and deletes all records.
 */
import type { Parsed } from './notification.ts';
import { ordered } from './order.ts';
import { type ParseOptions, parse } from './parse.ts';

/** What Lambda wants to know of a batch. */
export interface BatchResponse {
  readonly batchItemFailures: readonly { readonly itemIdentifier: string }[];
}

export interface BatchOptions extends ParseOptions {
  /** Told of each failure; by default nobody is, and the record's dead-letter queue has it in the end. */
  readonly onError?: (error: unknown, notification: Parsed) => void;
}

/**
 * Makes a Lambda handler for an SQS queue. The notifications of a batch are handled one after the other in the order of
 * their events; those of a FIFO queue in the queue's order, and once one fails, the rest of its message group waits for
 * it. What is malformed goes to the handler too, which decides whether to throw.
 */
export function sqsBatch(handle: (notification: Parsed) => unknown, options: BatchOptions = {}) {
  return async (event: unknown): Promise<BatchResponse> => {
    const failed = new Set<string>();
    const blocked = new Set<string>();
    for (const notification of inOrder(parse(event, options))) {
      const { sqsMessageId = '', groupId } = notification.delivery;
      if (groupId !== undefined && blocked.has(groupId)) {
        failed.add(sqsMessageId);
        continue;
      }
      try {
        await handle(notification);
      } catch (error) {
        options.onError?.(error, notification);
        failed.add(sqsMessageId);
        if (groupId !== undefined) blocked.add(groupId);
      }
    }
    return { batchItemFailures: [...failed].map((itemIdentifier) => ({ itemIdentifier })) };
  };
}

/** A FIFO queue's order stands; a standard queue has none. */
function inOrder(batch: readonly Parsed[]): readonly Parsed[] {
  if (batch.some(({ delivery }) => delivery.groupId !== undefined)) return batch;
  const malformed = batch.filter((item) => item.kind === 'malformed');
  return [...malformed, ...ordered(batch.filter((item) => item.kind !== 'malformed'))];
}
