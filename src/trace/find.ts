/** An event's outcome, from all sources: the outbox, the dead letters and the record. Pure. */
import type { Asked, InOutbox, InRecord, TraceState } from './messages.ts';

/** Most findings in one answer. */
export const MOST_FINDINGS = 1_000;

interface Common {
  readonly eventId: string;
  /** When the event happened, in milliseconds since the Unix epoch; undefined if it has no time. */
  readonly eventAt: number | undefined;
  /** The users, rooms and stanza id that it names. */
  readonly names: readonly string[];
  /** When it reached this outcome; for a waiting one, when it began to wait. */
  readonly at: number;
}

/** An outcome of an event. A replayed event has several. */
export type Finding = Common &
  (
    | {
        readonly what: 'delivered';
        readonly topic: string;
        readonly messageId: string | undefined;
        readonly requestId: string | undefined;
      }
    | {
        readonly what: 'waiting';
        readonly topic: string;
        /** Notifications of its topic that wait before it. */
        readonly before: number;
        /** The condition of its topic; undefined if no daemon runs. */
        readonly behind?: Behind | undefined;
      }
    | { readonly what: 'skipped'; readonly reason: string }
    | {
        readonly what: 'dead';
        readonly topic: string | undefined;
        readonly reason: string;
        /** Its number; undefined once it was replayed or deleted. */
        readonly deadLetter: number | undefined;
        readonly replaying: boolean;
      }
  );

/** Why a notification waits: the state of its topic. */
interface Behind {
  readonly state: string;
  readonly since: number;
  readonly reason: string;
  readonly advice: string;
}

export interface Found {
  readonly asked: Asked;
  /** Newest first. */
  readonly findings: readonly Finding[];
  /** Whether there are more results than requested. */
  readonly more: boolean;
  /** The extent of the search. */
  readonly record: Pick<TraceState, 'on' | 'keepMs' | 'since' | 'problem' | 'lost' | 'elsewhere'> &
    Pick<InRecord, 'unreadable'>;
  /** Waiting notifications searched. */
  readonly looked: number;
}

/** Most time between a dead letter and its line in the record. */
const SAME_MS = 5_000;

export function findAll(
  asked: Asked,
  outbox: InOutbox,
  { records, since, unreadable }: InRecord,
  state: TraceState,
): Found {
  const delivered = records.filter(({ outcome }) => outcome.kind === 'delivered');
  const findings: Finding[] = [];
  for (const { kind: _, messageId: __, ...waiting } of outbox.waiting) {
    // It left the outbox during the search.
    const gone = delivered.some(({ eventId, at }) => eventId === waiting.eventId && at >= waiting.at);
    if (!gone) findings.push({ what: 'waiting', ...waiting });
  }
  for (const { kind: _, messageId: __, id: deadLetter, replayRequested: replaying, ...letter } of outbox.letters)
    findings.push({ what: 'dead', ...letter, deadLetter, replaying });
  for (const { outcome, ...rest } of records) {
    if (outcome.kind === 'delivered') {
      const { topic, messageId, requestId } = outcome;
      findings.push({ what: 'delivered', ...rest, topic, messageId, requestId });
    } else if (outcome.kind === 'skipped') {
      findings.push({ what: 'skipped', ...rest, reason: outcome.reason });
    } else {
      const { topic, reason } = outcome;
      const kept = outbox.letters.some(
        (letter) =>
          letter.eventId === rest.eventId && letter.reason === reason && Math.abs(letter.at - rest.at) < SAME_MS,
      );
      if (!kept) findings.push({ what: 'dead', ...rest, topic, reason, deadLetter: undefined, replaying: false });
    }
  }
  findings.sort((a, b) => b.at - a.at);
  const { on, keepMs, problem, lost, elsewhere } = state;
  return {
    asked,
    findings: findings.slice(0, asked.limit),
    more:
      [outbox.waiting, outbox.letters, records].some(({ length }) => length >= asked.limit) ||
      findings.length > asked.limit,
    record: { on, keepMs, since, problem, lost, elsewhere, unreadable },
    looked: outbox.looked,
  };
}
