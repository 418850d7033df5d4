/** Amazon SNS as the pipeline's sink: turns its client's outcomes into verdicts. */
import type { Sink } from '../pipeline/sink.ts';
import { publishing } from '../tracing.ts';
import type { SnsClient } from './client.ts';
import type { Circumstances, Failure } from './failure.ts';
import { verdictOf } from './verdict.ts';
import { MAX_ENTRIES } from './wire.ts';

interface SnsSinkOptions {
  readonly client: Pick<SnsClient, 'publishBatch'>;
  /** A topic's size limit for a whole batch, in bytes. */
  readonly maxBytes: (topicArn: string) => number;
  /** Circumstances that help to explain a topic's failure. */
  readonly circumstances: (topicArn: string) => Circumstances;
}

export function snsSink({ client, maxBytes, circumstances }: SnsSinkOptions): Sink {
  return {
    limits: (topic) => ({ maxEntries: MAX_ENTRIES, maxBytes: maxBytes(topic) }),
    async publish(topic, entries, onReceipt) {
      const outcome = await publishing(topic, entries, () => client.publishBatch(topic, entries));
      const verdict = (failure: Failure) => verdictOf(failure, circumstances(topic));
      if ('entries' in outcome) {
        if (outcome.receipt) onReceipt?.(outcome.receipt);
        return outcome.entries.map((failure) => failure && verdict(failure));
      }
      const ofAll = verdict(outcome.failure);
      // SNS refused the request for its content, without naming the entry at fault.
      if (ofAll.kind === 'dead' && entries.length > 1) return 'split';
      return entries.map(() => ofAll);
    },
  };
}
