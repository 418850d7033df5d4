/**
 * The port that notifications are published to. Amazon SNS and the dry run implement it; tests and host programs bring
 * their own. Every sink passes the suite in `sink-contract.ts`.
 */
import type { Notification } from '../notification/notification.ts';

/** A topic's limits for one request. */
export interface Limits {
  /** Most notifications. */
  readonly maxEntries: number;
  /** Most bytes of all its notifications together, as `Notification.bytes` counts them. */
  readonly maxBytes: number;
}

/** Why a notification was refused. `reason` is a word to group by; `shown` is fit for logs, `detail` may not be. */
interface Cause {
  readonly reason: string;
  /** All that is known, for a person who looks at the dead letter; may quote the message. */
  readonly detail: string;
  readonly shown: string;
  /** What a person can do about it. */
  readonly advice: string;
}

/** Why the sink did not take a notification, and what should happen to it. */
export type Verdict = Cause &
  (
    | {
        /** Worth another try soon. */
        readonly kind: 'retry';
        /** The sink asks for a lower rate; the notification isn't the cause. */
        readonly throttled: boolean;
        /**
         * The cause is certainly not the notification, but a key, a clock, the network or the configuration: it never
         * becomes a dead letter for that, however often it is tried.
         */
        readonly surroundings?: boolean | undefined;
      }
    /** A person has to act; the topic waits until then. */
    | { readonly kind: 'pause' }
    /** The sink will never accept it. */
    | { readonly kind: 'dead' }
  );

/** What the sink has to show for a request that it answered, for whoever asks it later what became of one. */
export interface SinkReceipt {
  /** The sink's name of the request; undefined where it has none. */
  readonly requestId: string | undefined;
  /** The sink's id of each entry, in order; undefined for one that it did not take, or has no id for. */
  readonly messageIds: readonly (string | undefined)[];
}

export interface Sink {
  /** What a topic takes in one request; asked before each, and answered at once. */
  limits(topic: string): Limits;
  /**
   * Asks the sink to take notifications of one topic; never rejects for what the sink or the network does.
   * @param entries at least one, within `limits`, each with another order key
   * @returns for each entry, in order, `undefined` when the sink has it, else why not; `'split'` when it refused the
   *   request as a whole for what one of several entries holds, and does not say which
   * @param onReceipt to be called with the receipt, before the promise resolves, by a sink that has one
   */
  publish(
    topic: string,
    entries: readonly Notification[],
    onReceipt?: (receipt: SinkReceipt) => void,
  ): Promise<readonly (Verdict | undefined)[] | 'split'>;
}

const KINDS: readonly unknown[] = ['retry', 'pause', 'dead'] satisfies Verdict['kind'][];

/**
 * The mistake in a sink's answer, which may come from plain JavaScript; undefined when there is none. An entry without
 * a verdict counts as delivered, so an answer that is too short would lose notifications.
 * @param entries how many the sink was given
 */
export function answerProblem(answer: unknown, entries: number): string | undefined {
  if (answer === 'split') return entries > 1 ? undefined : 'answered "split" for a single notification';
  if (!Array.isArray(answer)) return 'did not answer a list of verdicts';
  if (answer.length !== entries) return `answered ${answer.length} verdicts for ${entries} notifications`;
  for (const verdict of answer)
    if (verdict !== undefined && !KINDS.includes(verdict?.kind))
      return 'answered something that is neither undefined nor a verdict';
  return undefined;
}

/**
 * What a sink says that a topic takes in one request, or one notification where it does not say so in numbers above 0:
 * an empty request would be sent for ever.
 */
export function limitsOf(sink: Sink, topic: string): Limits {
  const { maxEntries, maxBytes } = sink.limits(topic) ?? {};
  return { maxEntries: maxEntries >= 1 ? Math.floor(maxEntries) : 1, maxBytes: maxBytes > 0 ? maxBytes : 0 };
}
