/**
 * The port for dead letters: events and notifications that can't be published, kept until a person replays or deletes
 * them. It is separate from the outbox, because people search dead letters, and a queue can't be searched.
 */
import type { Notification } from '../notification/notification.ts';

/**
 * The content of a dead letter, kept for a replay:
 * - `raw`: the input that a tap refused as malformed;
 * - `event`: a valid event that could not be translated;
 * - `notification`: a notification that the sink refused.
 */
export type DeadContent =
  | { readonly kind: 'raw'; readonly event: unknown }
  | { readonly kind: 'event'; readonly event: unknown }
  | { readonly kind: 'notification'; readonly notification: Notification };

export interface NewDeadLetter {
  readonly eventId: string;
  readonly topic: string | undefined;
  /** A keyword to group by: `malformed`, `plugin`, `too-large`, `skipped`, or the sink's error code. */
  readonly reason: string;
  /** The exact mistake, for a person. */
  readonly detail: string;
  /** How often it was sent to the sink. */
  readonly attempts: number;
  readonly content: DeadContent;
}

export interface DeadLetter extends NewDeadLetter {
  /** Ascending, and never used twice. */
  readonly id: number;
  /** When it became a dead letter, in milliseconds since the Unix epoch. */
  readonly diedAt: number;
  readonly replayRequested: boolean;
}

/** A dead letter without its content, which may be long and private: for lists. */
export type DeadLetterSummary = Omit<DeadLetter, 'content'>;

/** Selects dead letters; without any condition, all. */
export interface DeadLetterFilter {
  readonly ids?: readonly number[] | undefined;
  readonly reason?: string | undefined;
  readonly topic?: string | undefined;
  /**
   * Text contained in its event's id, user, room, host, topic, reason or detail, ignoring the case of ASCII letters.
   * Details from a plugin's error are not searched: they may quote message texts.
   */
  readonly match?: string | undefined;
  /** Only up to this number: excludes letters that arrived after a person looked. */
  readonly upToId?: number | undefined;
}

/** Names to find a dead letter by. */
export interface Names {
  /** The virtual host, or the domain of the user. */
  readonly host: string | undefined;
  /** The user whose presence it is, or the sender. */
  readonly user: string | undefined;
  /** The room of a group message. */
  readonly room: string | undefined;
}

/** Sort keys for dead letters. */
export const DEAD_LETTER_SORTS = ['id', 'reason', 'topic', 'host', 'user', 'room', 'attempts'] as const;
export type DeadLetterSort = (typeof DEAD_LETTER_SORTS)[number];

/** A page of dead letters. */
export interface DeadLetterQuery {
  readonly filter: DeadLetterFilter;
  readonly sort: DeadLetterSort;
  readonly descending: boolean;
  /** How many to skip before the first one. */
  readonly offset: number;
  readonly limit: number;
}

export interface DeadLetterPage {
  readonly letters: readonly (DeadLetterSummary & Names)[];
  /** The number of all that match the filter. */
  readonly total: number;
}

export interface DeadLetterCount {
  readonly reason: string;
  readonly topic: string | undefined;
  readonly count: number;
  /** How many of them wait for their replay. */
  readonly replaying: number;
  /** The highest number among them. */
  readonly newestId: number;
}

/** Called at intervals with the number of dead letters changed so far. */
export type OnProgress = (count: number) => void;

export interface DeadLetterStore {
  /**
   * Keeps dead letters; resolves when they are safe. @throws PusherError OUTBOX_FULL, OUTBOX_UNUSABLE, OUTBOX_CLOSED
   */
  put(letters: readonly NewDeadLetter[]): Promise<void>;
  /**
   * Returns a page in any order, and the total. Equal ones are newest first in descending order, otherwise oldest
   * first.
   */
  browse(query: DeadLetterQuery): Promise<DeadLetterPage>;
  /** Returns at most `limit` with a number above `afterId`, oldest first, with their content. */
  find(filter: DeadLetterFilter, limit: number, afterId?: number): Promise<DeadLetter[]>;
  read(id: number): Promise<DeadLetter | undefined>;
  /** How many there are by reason and topic. */
  counts(): Promise<DeadLetterCount[]>;
  /** Those marked for replay, oldest first, at most `limit`. */
  toReplay(limit: number): Promise<DeadLetter[]>;
  /** Marks for replay; resolves to the number that weren't marked yet. */
  requestReplay(filter: DeadLetterFilter, onProgress?: OnProgress): Promise<number>;
  /** Deletes for good; resolves to the number deleted. */
  purge(filter: DeadLetterFilter, onProgress?: OnProgress): Promise<number>;
}
