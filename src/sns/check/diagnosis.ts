/** The findings of `check`. */
import type { Explanation } from '../explain.ts';

export interface Diagnosis {
  /** `fail`: events can't be published. `warn`: they can, but a person should look at it. */
  readonly level: 'fail' | 'warn';
  /** The name of the cause, as in the daemon's metrics and log; only for failures that affect the daemon too. */
  readonly reason?: string;
  /** What was observed. */
  readonly seen: string;
  readonly means: string;
  /** What to do. */
  readonly advice: string;
}

/** One checked item: fine, or its problem. */
export type Finding = { readonly what: string } & ({ readonly level: 'ok'; readonly seen: string } | Diagnosis);

const diagnosis =
  (level: Diagnosis['level']) =>
  (seen: string, means: string, advice: string): Diagnosis => ({ level, seen, means, advice });

export const fail = diagnosis('fail');
export const warn = diagnosis('warn');

export const failed = (what: string, seen: string, means: string, advice: string): Finding => ({
  what,
  ...fail(seen, means, advice),
});

/** Turns the daemon's explanation of a failure into a finding; `of` names its subject. */
export function diagnose(explanation: Explanation, of?: string): Diagnosis {
  const { kind, throttled, surroundings, reason, seen, means, advice } = explanation;
  // Problems of SNS itself end without our help.
  const level = kind === 'retry' && (throttled || !surroundings) ? 'warn' : 'fail';
  return { level, reason, seen: of === undefined ? seen : `${of}: ${seen}`, means, advice };
}
