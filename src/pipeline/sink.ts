/**
 * The port for publishing notifications. Amazon SNS and the dry run implement it; tests and host programs may provide
 * their own. Every sink passes the suite in `sink-contract.ts`.
 */
import { countOf } from '../format.js';
import type { Notification } from '../notification/notification.ts';

/** A topic's limits for one request. */
export interface Limits {
  /** Most notifications. */
  readonly maxEntries: number;
  /** Most bytes of all its notifications together, as `Notification.bytes` counts them. */
  readonly maxBytes: number;
}

/** Why a notification was refused. `reason` is a keyword to group by; `shown` may be logged, `detail` may not. */
interface Cause {
  readonly reason: string;
  /** Full details for a person who opens the dead letter; may quote the message. */
  readonly detail: string;
  readonly shown: string;
  /** What an operator can do. */
  readonly advice: string;
}

/** Why the sink did not accept a notification, and what should happen to it. */
export type Verdict = Cause &
  (
    | {
        /** Worth a retry soon. */
        readonly kind: 'retry';
        /** The sink asks for a lower rate; the notification isn't the cause. */
        readonly throttled: boolean;
        /**
         * The notification is certainly not the cause, but a key, a clock, the network or the configuration: so it
         * never becomes a dead letter for that, however often it is retried.
         */
        readonly surroundings?: boolean | undefined;
      }
    /** An operator has to act; the topic waits until then. */
    | { readonly kind: 'pause' }
    /** The sink will never accept it. */
    | { readonly kind: 'dead' }
  );

/** The sink's receipt for an answered request, for later inquiries. */
export interface SinkReceipt {
  /** The sink's id of the request; undefined if there is none. */
  readonly requestId: string | undefined;
  /** The sink's id of each entry, in order; undefined if it was not accepted or has none. */
  readonly messageIds: readonly (string | undefined)[];
}

export interface Sink {
  /** A topic's limits for one request; called before each request. */
  limits(topic: string): Limits;
  /**
   * Sends notifications of one topic; never rejects for failures of the sink or the network.
   * @param entries at least one, within `limits`, each with another order key
   * @returns for each entry, in order, `undefined` if the sink has it, else the reason; `'split'` if it refused the
   * whole request because of one of several entries without naming it
   * @param onReceipt called with the receipt, if any, before the promise resolves
   */
  publish(
    topic: string,
    entries: readonly Notification[],
    onReceipt?: (receipt: SinkReceipt) => void,
  ): Promise<readonly (Verdict | undefined)[] | 'split'>;
}

const KINDS: readonly unknown[] = ['retry', 'pause', 'dead'] satisfies Verdict['kind'][];

/**
 * The mistake in a sink's answer, which may come from plain JavaScript; undefined if there is none. An entry without a
 * verdict counts as delivered, so an answer that is too short would lose notifications.
 * @param entries how many were sent to the sink
 */
export function answerProblem(answer: unknown, entries: number): string | undefined {
  if (answer === 'split') return entries > 1 ? undefined : 'answered "split" for a single notification';
  if (!Array.isArray(answer)) return 'did not answer a list of verdicts';
  if (answer.length !== entries)
    return `answered ${countOf(answer.length, 'verdict')} for ${countOf(entries, 'notification')}`;
  for (const verdict of answer)
    if (verdict !== undefined && !KINDS.includes(verdict?.kind))
      return 'answered something that is neither undefined nor a verdict';
  return undefined;
}

/**
 * A sink's limits for a topic, or one notification if they are not positive numbers: otherwise empty requests would be
 * sent for ever.
 */
export function limitsOf(sink: Sink, topic: string): Limits {
  const { maxEntries, maxBytes } = sink.limits(topic) ?? {};
  return { maxEntries: maxEntries >= 1 ? Math.floor(maxEntries) : 1, maxBytes: maxBytes > 0 ? maxBytes : 0 };
}
