/** Messages between the daemon and the thread that writes the record. */
import type { FoundLetter, FoundWaiting } from '../outbox/sqlite/find.ts';
import type { Coverage, Portion, TraceLimits } from './file.ts';
import type { Moment, Span } from './history-file.ts';
import type { TraceRecord } from './record.ts';

/** The path of an outbox's record: beside the outbox's file. */
export const traceBeside = (outboxFile: string): string => `${outboxFile}.trace`;

/** The thread's initial data. */
export interface KeeperOptions extends TraceLimits {
  readonly file: string;
  /** When the daemon began to send records, in milliseconds since the Unix epoch. */
  readonly startedAt: number;
  /** The outbox's file, which the thread searches too. */
  readonly outboxFile: string;
}

export interface TraceState {
  /** Whether deliveries are recorded. */
  readonly on: boolean;
  readonly keepMs: number;
  readonly maxBytes: number;
  /** Start of the record; undefined if there is none. */
  readonly since: number | undefined;
  readonly bytes: number;
  /** Why writing fails now. */
  readonly problem: string | undefined;
  /** Records lost since the start. */
  readonly lost: number;
  /** Whether the outbox can't be searched, and other daemons deliver from it too. */
  readonly elsewhere: boolean;
}

/** The query: see {@link import('../outbox/sqlite/find.ts').Search}. */
export interface Asked {
  readonly text: string;
  readonly limit: number;
  readonly from: number;
  readonly until: number;
}

/** Matches in the outbox. */
export interface InOutbox {
  readonly waiting: readonly FoundWaiting[];
  readonly letters: readonly FoundLetter[];
  /** Waiting notifications searched. */
  readonly looked: number;
}

/** Matches in the record. */
export interface InRecord extends Coverage {
  readonly records: readonly TraceRecord[];
  /** Unreadable blocks, of some thousand records each. */
  readonly unreadable: number;
}

export type ToKeeper =
  | { readonly kind: 'append'; readonly portion: Portion }
  | { readonly kind: 'span'; readonly span: Span }
  | { readonly kind: 'moments'; readonly moments: readonly Moment[] }
  | { readonly kind: 'outbox' | 'record'; readonly id: number; readonly asked: Asked }
  | { readonly kind: 'history' | 'close'; readonly id: number };

export type FromKeeper =
  /** A batch is written or lost; its buffer returns for reuse. */
  | { readonly kind: 'done'; readonly bytes: number; readonly lost: number; readonly memory: ArrayBuffer }
  /** Why writing fails; undefined if it works. */
  | { readonly kind: 'state'; readonly problem: string | undefined; readonly coverage: Coverage | undefined }
  /** An unusable file was renamed to this path, and a new one created. */
  | { readonly kind: 'aside'; readonly problem: string; readonly to: string }
  | { readonly kind: 'answer'; readonly id: number; readonly value?: unknown; readonly error?: string };
