/** What `check` says of a thing that it looked at. */
import type { Explanation } from '../explain.ts';

export interface Diagnosis {
  /** `fail`: events can't be published so. `warn`: they can, but somebody should know. */
  readonly level: 'fail' | 'warn';
  /** The cause by name, as in the daemon's metrics and log; only where something failed that fails the daemon too. */
  readonly reason?: string;
  /** What was observed. */
  readonly seen: string;
  readonly means: string;
  /** What to do about it. */
  readonly advice: string;
}

/** One thing that was looked at: fine, or what is the matter with it. */
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

/** What the daemon says of a failure, as a finding; `of` names what it was about. */
export function diagnose(explanation: Explanation, of?: string): Diagnosis {
  const { kind, throttled, surroundings, reason, seen, means, advice } = explanation;
  // What SNS itself does passes by itself.
  const level = kind === 'retry' && (throttled || !surroundings) ? 'warn' : 'fail';
  return { level, reason, seen: of === undefined ? seen : `${of}: ${seen}`, means, advice };
}
