/** The pipeline's reports, from which metrics, the console and a host program's listeners are fed. */
import type { ErrorCode } from '../errors.ts';
import type { XmppEvent } from '../event.ts';
import type { EventKind } from '../notification/kind.ts';
import type { Notification, SkipReason } from '../notification/notification.ts';
import type { NewDeadLetter } from '../outbox/dead-letters.ts';
import type { SinkReceipt, Verdict } from './sink.ts';

/** Why a topic waits, and until when it does so at least. */
export interface Pause {
  readonly reason: string;
  readonly detail: string;
  readonly advice: string;
  /** When it stopped taking, when this pause began and when it ends; milliseconds since the Unix epoch. */
  readonly since: number;
  readonly began: number;
  readonly until: number;
}

/** The outcome of a source's batch; reported when it is committed. */
export interface BatchReport {
  readonly tap: string;
  readonly source: string;
  /** New, well-formed events by kind. */
  readonly kinds: ReadonlyMap<EventKind, number>;
  readonly duplicates: number;
  readonly rejected: number;
  /** How many events are missing between this batch and the one before it. */
  readonly missing: number;
  /**
   * Of the duplicates, how many are other events than those that had their numbers before: the source used them twice.
   */
  readonly conflicts: number;
}

/** A source came, whatever the answer; reported when that is known. */
export interface ContactReport {
  readonly tap: string;
  readonly source: string;
  /** Whether it numbers its events. */
  readonly numbered: boolean;
  /** How many it brought; with none it asks whether anyone is there. */
  readonly events: number;
  /** When the newest of them happened, in milliseconds since the Unix epoch; undefined where none says it. */
  readonly newestAt: number | undefined;
  /** The error that it was put off for; undefined: what it brought is kept. */
  readonly refused: ErrorCode | undefined;
}

/** The outcome of one request to the sink. */
export interface RequestReport {
  readonly topic: string;
  readonly entries: readonly Notification[];
  /** For each entry, in order, `undefined` when the sink has it; `'split'` when it refused them all for one of them. */
  readonly verdicts: readonly (Verdict | undefined)[] | 'split';
  /** What the sink has to show for it; undefined where it gives nothing, or did not answer. */
  readonly receipt?: SinkReceipt | undefined;
  /** How long it took, in milliseconds. */
  readonly ms: number;
  /** When the answer came, in milliseconds since the Unix epoch. */
  readonly at: number;
}

export interface Report {
  contact(report: ContactReport): void;
  batch(report: BatchReport): void;
  skipped(event: XmppEvent, reason: SkipReason): void;
  request(report: RequestReport): void;
  deadLetter(letter: NewDeadLetter): void;
  /** A dead letter's event is about to be kept for the sink again, or to become a dead letter again. */
  replaying(eventId: string): void;
  paused(topic: string, pause: Pause): void;
  /** @param pausedMs how long the topic took nothing, in milliseconds */
  resumed(topic: string, pausedMs: number): void;
}

/** Reports to several listeners in order; each implements only what it needs. */
export function reportTo(...reports: readonly Partial<Report>[]): Report {
  const each = <Name extends keyof Report>(name: Name): Report[Name] => {
    const handlers = reports.flatMap((report) => (report[name] ? [report[name].bind(report)] : []));
    return ((...values: Parameters<Report[Name]>) => {
      for (const handle of handlers) (handle as (...values: Parameters<Report[Name]>) => void)(...values);
    }) as Report[Name];
  };
  return {
    contact: each('contact'),
    batch: each('batch'),
    skipped: each('skipped'),
    request: each('request'),
    deadLetter: each('deadLetter'),
    replaying: each('replaying'),
    paused: each('paused'),
    resumed: each('resumed'),
  };
}
