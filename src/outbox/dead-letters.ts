/**
 * The port for dead letters: events and notifications that can't be published, kept until a person replays or deletes
 * them. It is separate from the outbox, because people search dead letters, and a queue can't be searched.
 */
import type { Notification } from '../notification/notification.ts';

/**
 * What is kept of a dead letter so that it can be replayed:
 * - `raw`: what a tap refused as malformed, as it came;
 * - `event`: a valid event that could not be translated;
 * - `notification`: what the sink refused.
 */
export type DeadContent =
  | { readonly kind: 'raw'; readonly event: unknown }
  | { readonly kind: 'event'; readonly event: unknown }
  | { readonly kind: 'notification'; readonly notification: Notification };

export interface NewDeadLetter {
  readonly eventId: string;
  readonly topic: string | undefined;
  /** A word to group by: `malformed`, `plugin`, `too-large`, `skipped`, or the sink's error code. */
  readonly reason: string;
  /** The exact mistake, for a person. */
  readonly detail: string;
  /** How often the sink was asked. */
  readonly attempts: number;
  readonly content: DeadContent;
}

export interface DeadLetter extends NewDeadLetter {
  /** Ascending, and never used twice. */
  readonly id: number;
  /** When it became one, in milliseconds since the Unix epoch. */
  readonly diedAt: number;
  readonly replayRequested: boolean;
}

/** A dead letter without its content, which may be long and private: for lists. */
export type DeadLetterSummary = Omit<DeadLetter, 'content'>;

/** Which dead letters are meant; without any condition all of them. */
export interface DeadLetterFilter {
  readonly ids?: readonly number[] | undefined;
  readonly reason?: string | undefined;
  readonly topic?: string | undefined;
  /**
   * What its event's id, user, room, host, topic, reason or detail has to contain, whatever the case of ASCII letters.
   * Of what a plugin's error says nothing is searched: it may quote what people wrote.
   */
  readonly match?: string | undefined;
  /** Only those up to this number: what a person saw, and not what came since. */
  readonly upToId?: number | undefined;
}

/** Names to find a dead letter by. */
export interface Names {
  /** The virtual host, or the domain of the user. */
  readonly host: string | undefined;
  /** Whose presence, or who sent it. */
  readonly user: string | undefined;
  /** The room of a group message. */
  readonly room: string | undefined;
}

/** By what dead letters can be sorted. */
export const DEAD_LETTER_SORTS = ['id', 'reason', 'topic', 'host', 'user', 'room', 'attempts'] as const;
export type DeadLetterSort = (typeof DEAD_LETTER_SORTS)[number];

/** A page of dead letters, for a person who looks for some of them. */
export interface DeadLetterQuery {
  readonly filter: DeadLetterFilter;
  readonly sort: DeadLetterSort;
  readonly descending: boolean;
  /** How many are left out before the first one. */
  readonly offset: number;
  readonly limit: number;
}

export interface DeadLetterPage {
  readonly letters: readonly (DeadLetterSummary & Names)[];
  /** How many there are in all of the filter. */
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
   * In any order, from any place, and how many there are. Of equals the newest come first where descending, else last.
   */
  browse(query: DeadLetterQuery): Promise<DeadLetterPage>;
  /** Oldest first, those with a number above `afterId`, at most `limit`, with what they contain. */
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
