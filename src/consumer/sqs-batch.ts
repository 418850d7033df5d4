/**
 * Handles a Lambda's SQS batch record by record: failed records are delivered again, the others aren't.
 *
 * The function's event source mapping needs `FunctionResponseTypes = ["ReportBatchItemFailures"]`; without it Lambda
 * ignores the answer and deletes all records.
 */
import type { Parsed } from './notification.ts';
import { ordered } from './order.ts';
import { type ParseOptions, parse } from './parse.ts';

/** The answer that Lambda expects. */
export interface BatchResponse {
  readonly batchItemFailures: readonly { readonly itemIdentifier: string }[];
}

export interface BatchOptions extends ParseOptions {
  /** Called with each failure. Default: none; after the last attempt the record goes to the dead-letter queue. */
  readonly onError?: (error: unknown, notification: Parsed) => void;
}

/**
 * Makes a Lambda handler for an SQS queue. Notifications are handled one after another: for a standard queue in the
 * order of their events, for a FIFO queue in the queue's order; there, after a failure the rest of its message group
 * waits. The handler also gets malformed input, and decides whether to throw.
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

/** Keeps a FIFO queue's order; sorts a standard queue's batch. */
function inOrder(batch: readonly Parsed[]): readonly Parsed[] {
  if (batch.some(({ delivery }) => delivery.groupId !== undefined)) return batch;
  const malformed = batch.filter((item) => item.kind === 'malformed');
  return [...malformed, ...ordered(batch.filter((item) => item.kind !== 'malformed'))];
}
