/** Interprets SNS's answer, or its absence, for a notification in the publisher's terms. Pure. */
import type { Verdict } from '../pipeline/sink.ts';
import { explain } from './explain.ts';
import type { Circumstances, Failure } from './failure.ts';

/**
 * Interprets a failure. `dead` for a whole request with several entries means that one of them is at fault: then they
 * have to be tried in smaller batches.
 */
export function verdictOf(failure: Failure, circumstances: Circumstances): Verdict {
  const { kind, throttled, surroundings, reason, seen, means, detail, advice } = explain(failure, circumstances);
  const cause = { reason, detail, shown: `${seen}; ${means}`, advice };
  return kind === 'retry' ? { kind, throttled, surroundings, ...cause } : { kind, ...cause };
}
