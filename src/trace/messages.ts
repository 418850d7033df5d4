/** What the daemon and the thread that keeps the record say to each other. */
import type { FoundLetter, FoundWaiting } from '../outbox/sqlite/find.ts';
import type { Coverage, Portion, TraceLimits } from './file.ts';
import type { Moment, Span } from './history-file.ts';
import type { TraceRecord } from './record.ts';

/** Where the record of an outbox is: beside its file. */
export const traceBeside = (outboxFile: string): string => `${outboxFile}.trace`;

/** What the thread is started with. */
export interface KeeperOptions extends TraceLimits {
  readonly file: string;
  /** When the daemon began to hand records over, in milliseconds since the Unix epoch. */
  readonly startedAt: number;
  /** The outbox's file, which it looks into too. */
  readonly outboxFile: string;
}

export interface TraceState {
  /** Whether deliveries are recorded. */
  readonly on: boolean;
  readonly keepMs: number;
  readonly maxBytes: number;
  /** Since when the record goes back; undefined where there is none. */
  readonly since: number | undefined;
  readonly bytes: number;
  /** Why nothing can be written at the moment. */
  readonly problem: string | undefined;
  /** Records that could not be written since the start. */
  readonly lost: number;
  /** Whether what waits is where it can't be looked through, and other daemons deliver it too. */
  readonly elsewhere: boolean;
}

/** What is asked for: see {@link import('../outbox/sqlite/find.ts').Search}. */
export interface Asked {
  readonly text: string;
  readonly limit: number;
  readonly from: number;
  readonly until: number;
}

/** What is in the outbox of what was asked for. */
export interface InOutbox {
  readonly waiting: readonly FoundWaiting[];
  readonly letters: readonly FoundLetter[];
  /** How many notifications that wait were looked at. */
  readonly looked: number;
}

/** What is in the record. */
export interface InRecord extends Coverage {
  readonly records: readonly TraceRecord[];
  /** How many blocks of some thousand records could not be read. */
  readonly unreadable: number;
}

export type ToKeeper =
  | { readonly kind: 'append'; readonly portion: Portion }
  | { readonly kind: 'span'; readonly span: Span }
  | { readonly kind: 'moments'; readonly moments: readonly Moment[] }
  | { readonly kind: 'outbox' | 'record'; readonly id: number; readonly asked: Asked }
  | { readonly kind: 'history' | 'close'; readonly id: number };

export type FromKeeper =
  /** What was handed over is written, or lost; its memory goes back, to be used again. */
  | { readonly kind: 'done'; readonly bytes: number; readonly lost: number; readonly memory: ArrayBuffer }
  /** Why nothing can be written; undefined: it can. */
  | { readonly kind: 'state'; readonly problem: string | undefined; readonly coverage: Coverage | undefined }
  /** A file that was no use was put aside there, and a new one begun. */
  | { readonly kind: 'aside'; readonly problem: string; readonly to: string }
  | { readonly kind: 'answer'; readonly id: number; readonly value?: unknown; readonly error?: string };
