/** What became of an event, from all that is known: what waits, what died, and what the record has. Pure. */
import type { Asked, InOutbox, InRecord, TraceState } from './messages.ts';

interface Common {
  readonly eventId: string;
  /** When the event happened, in milliseconds since the Unix epoch; undefined where it never said. */
  readonly eventAt: number | undefined;
  /** Whom and what it names: users, rooms, the stanza's id. */
  readonly names: readonly string[];
  /** When it became this; of what waits, since when it waits. */
  readonly at: number;
}

/** What became of an event. One that was replayed has several of these. */
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
        /** How many of its topic wait before it. */
        readonly before: number;
        /** How its topic does; undefined where no daemon runs. */
        readonly behind?: Behind | undefined;
      }
    | { readonly what: 'skipped'; readonly reason: string }
    | {
        readonly what: 'dead';
        readonly topic: string | undefined;
        readonly reason: string;
        /** Its number; undefined when it is no longer kept: replayed or deleted. */
        readonly deadLetter: number | undefined;
        readonly replaying: boolean;
      }
  );

/** What a notification waits for: the state of its topic. */
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
  /** Whether there is more than was asked for. */
  readonly more: boolean;
  /** What can be said at all. */
  readonly record: Pick<TraceState, 'on' | 'keepMs' | 'since' | 'problem' | 'lost' | 'elsewhere'> &
    Pick<InRecord, 'unreadable'>;
  /** How many notifications that wait were looked at. */
  readonly looked: number;
}

/** A letter and the line of the record that says so are of one moment, or nearly. */
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
    // It was on its way out while the outbox was looked through.
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
