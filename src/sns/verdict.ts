/** What SNS's answer, or its absence, means for a notification, in the publisher's terms. Pure. */
import type { Verdict } from '../pipeline/sink.ts';
import { explain } from './explain.ts';
import type { Circumstances, Failed } from './failure.ts';

export type { Failure } from './failure.ts';

/** Of a failure that came without them. */
const NOWHERE: Circumstances = {
  endpoint: new URL('https://sns.invalid'),
  region: '',
  accountId: '',
  credentials: 'static',
};

/**
 * What a failure means. For a whole request with several entries `dead` says that one of them is at fault, not which:
 * then they have to be tried in smaller batches.
 */
export function verdictOf(failure: Failed): Verdict {
  const circumstances = failure.circumstances ?? NOWHERE;
  const { kind, throttled, reason, seen, means, detail, advice } = explain(failure, circumstances);
  const shown = `${seen}; ${means}`;
  return kind === 'retry'
    ? { kind, throttled, reason, detail, shown, advice }
    : { kind, reason, detail, shown, advice };
}
