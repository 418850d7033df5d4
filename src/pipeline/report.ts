/** The pipeline's reports, the source of metrics, the console and a host program's listeners. */
import type { ErrorCode } from '../errors.ts';
import type { XmppEvent } from '../event.ts';
import type { EventKind } from '../notification/kind.ts';
import type { Notification, SkipReason } from '../notification/notification.ts';
import type { NewDeadLetter } from '../outbox/dead-letters.ts';
import type { SinkReceipt, Verdict } from './sink.ts';

/** Why a topic waits, and until when at least. */
export interface Pause {
  readonly reason: string;
  readonly detail: string;
  readonly advice: string;
  /** When it stopped accepting, when this pause began and when it ends; milliseconds since the Unix epoch. */
  readonly since: number;
  readonly began: number;
  readonly until: number;
}

/** The outcome of a source's batch; reported once it is committed. */
export interface BatchReport {
  readonly tap: string;
  readonly source: string;
  /** New, well-formed events by kind. */
  readonly kinds: ReadonlyMap<EventKind, number>;
  readonly duplicates: number;
  readonly rejected: number;
  /** How many events are missing between the previous batch and this one. */
  readonly missing: number;
  /** How many duplicates are other events than those that had their numbers before: the source used numbers twice. */
  readonly conflicts: number;
}

/** A source's contact, whatever the answer; reported once that is known. */
export interface ContactReport {
  readonly tap: string;
  readonly source: string;
  /** Whether it numbers its events. */
  readonly numbered: boolean;
  /** How many events it sent; an empty batch only tests the connection. */
  readonly events: number;
  /** When the newest event happened, in milliseconds since the Unix epoch; undefined if none has a time. */
  readonly newestAt: number | undefined;
  /** The error with which it was refused; undefined if its events are kept. */
  readonly refused: ErrorCode | undefined;
}

/** The outcome of one request to the sink. */
export interface RequestReport {
  readonly topic: string;
  readonly entries: readonly Notification[];
  /** For each entry, in order, `undefined` if the sink has it; `'split'` if one entry made it refuse all. */
  readonly verdicts: readonly (Verdict | undefined)[] | 'split';
  /** The sink's receipt; undefined if it gives none or did not answer. */
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
  /** A dead letter's event is about to be committed again, as a notification or as a new dead letter. */
  replaying(eventId: string): void;
  paused(topic: string, pause: Pause): void;
  /** @param pausedMs how long the topic accepted nothing, in milliseconds */
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
