/** The daemon's current state for the console, collected from its parts. */
import type { Health } from '../outbox/outbox.ts';
import type { ConditionName } from '../pipeline/condition.ts';
import type { TopicState } from '../pipeline/publisher.ts';
import type { Pause } from '../pipeline/report.ts';
import type { NotReady } from '../readiness.ts';
import type { TapState } from '../taps/tap.ts';
import type { TraceState } from '../trace/messages.ts';
import type { Conditions } from './conditions.ts';
import type { Contacts } from './contacts.ts';
import type { Flow } from './flow.ts';
import type { ReplayCounter, ReplayCounts } from './replays.ts';
import { type SourceViews, sourceViews } from './source-views.ts';
import type { Trend } from './trend.ts';

/** All times are milliseconds since the Unix epoch. */
export interface State extends SourceViews {
  readonly at: number;
  readonly notReady: readonly NotReady[];
  readonly topics: readonly TopicView[];
  /** Where events come in. */
  readonly taps: readonly TapView[];
  readonly outbox: Pick<Health, 'bytes' | 'maxBytes' | 'oldestAt' | 'fault' | 'deadLetters'>;
  /** How several daemons share the outbox; undefined if this daemon has it alone. */
  readonly shared?: Health['shared'];
  /** The trend of the backlog. */
  readonly trend: Trend;
  /** The progress of the last replay of dead letters; undefined when there was none. */
  readonly replay: ReplayCounts | undefined;
  /** The record of events' outcomes; undefined where there is none, as in a dry run. */
  readonly trace: TraceState | undefined;
  /** Events per second that aren't published, by reason. */
  readonly notPublished: ReturnType<Flow['notPublished']>;
}

interface TapView extends TapState {
  readonly name: string;
}

interface TopicView {
  readonly arn: string;
  /** The virtual hosts configured for it: at most fifty. */
  readonly hosts: readonly string[];
  /** `orphaned`: notifications wait for it, but no configured account owns it. */
  readonly state: ConditionName;
  readonly since: number;
  /** The cause of that state and the remedy; empty while it is open. */
  readonly reason: string;
  readonly advice: string;
  readonly pause: Pause | undefined;
  /** Notifications that SNS has not accepted yet. */
  readonly depth: number;
  /** Requests under way. */
  readonly inFlight: number;
  /** Notifications per second that SNS accepts. */
  readonly rate: number;
  readonly lastAt: number | undefined;
}

/** Most virtual hosts listed of a topic. */
const MOST_HOSTS = 50;

export interface Seen {
  readonly pusher: {
    readonly outbox: Health;
    readonly topics: readonly TopicState[];
    readonly taps: readonly TapView[];
    readonly notReady: readonly NotReady[];
  };
  readonly flow: Pick<Flow, 'topic' | 'notPublished'>;
  readonly conditions: Pick<Conditions, 'of' | 'trend'>;
  readonly replays: Pick<ReplayCounter, 'counts'>;
  /** The virtual hosts that a topic is configured for. */
  readonly hosts: ReadonlyMap<string, readonly string[]>;
  readonly trace?: TraceState | undefined;
  readonly contacts?: Pick<Contacts, 'all'>;
  /** How long a source may be silent, in milliseconds; 0: no limit. */
  readonly silentMs?: number;
  readonly now: number;
}

export function stateOf(seen: Seen): State {
  const { pusher, flow, conditions, replays, hosts: hostsOf, trace, contacts, silentMs = 0, now } = seen;
  const { outbox, notReady } = pusher;
  const { bytes, maxBytes, oldestAt, fault, deadLetters, shared } = outbox;
  return {
    at: now,
    notReady,
    topics: conditions.of(pusher, now).map(({ arn, name: state, depth, topic, since, reason, advice }) => {
      // The steadier mean, as in the reasons.
      const { steady: rate = 0, lastAt } = flow.topic(arn) ?? {};
      const inFlight = topic?.inFlight ?? 0;
      const hosts = (hostsOf.get(arn) ?? []).slice(0, MOST_HOSTS);
      return { arn, hosts, state, since, reason, advice, pause: topic?.pause, depth, inFlight, rate, lastAt };
    }),
    taps: pusher.taps,
    ...sourceViews(outbox, contacts?.all(now) ?? new Map(), silentMs, now),
    outbox: { bytes, maxBytes, oldestAt, fault, deadLetters },
    shared,
    trend: conditions.trend(maxBytes),
    replay: replays.counts(),
    trace,
    notPublished: flow.notPublished(),
  };
}
