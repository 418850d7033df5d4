/** What the console shows of the daemon at a moment: made from what the parts say of themselves. */
import type { Health } from '../outbox/outbox.ts';
import type { Hole, SourceState } from '../outbox/sources.ts';
import type { ConditionName } from '../pipeline/condition.ts';
import type { TopicState } from '../pipeline/publisher.ts';
import type { Pause } from '../pipeline/report.ts';
import type { NotReady } from '../readiness.ts';
import type { TraceState } from '../trace/messages.ts';
import type { Conditions } from './conditions.ts';
import type { Flow } from './flow.ts';
import type { ReplayCounter, ReplayCounts } from './replays.ts';
import type { Trend } from './trend.ts';

/** All times are milliseconds since the Unix epoch. */
export interface State {
  readonly at: number;
  readonly notReady: readonly NotReady[];
  readonly topics: readonly TopicView[];
  /** Those with holes that nobody acknowledged first, then those that were heard last: at most a hundred. */
  readonly sources: readonly SourceView[];
  /** What the others come to. */
  readonly otherSources: { readonly count: number; readonly holes: number; readonly missing: number };
  readonly outbox: Pick<Health, 'bytes' | 'maxBytes' | 'oldestAt' | 'fault' | 'deadLetters'>;
  /** Where what waits is going. */
  readonly trend: Trend;
  /** How the last replay of dead letters gets on; undefined when there was none. */
  readonly replay: ReplayCounts | undefined;
  /** The record of what became of events; undefined where there is none, as in a dry run. */
  readonly trace: TraceState | undefined;
  /** What of the events that come is not published, and why, per second. */
  readonly notPublished: ReturnType<Flow['notPublished']>;
}

interface TopicView {
  readonly arn: string;
  /** `orphaned`: notifications wait for it, and no configured account owns it. */
  readonly state: ConditionName;
  readonly since: number;
  /** Why it is in that state, and what to do about it; empty while it is open. */
  readonly reason: string;
  readonly advice: string;
  readonly pause: Pause | undefined;
  /** Notifications that SNS does not have yet. */
  readonly depth: number;
  /** Requests under way. */
  readonly inFlight: number;
  /** Notifications per second that SNS takes. */
  readonly rate: number;
  readonly lastAt: number | undefined;
}

/** A source, whose queue may have been made anew: then position and time are the newest queue's, holes those of all. */
interface SourceView extends SourceState {
  /** Earlier queues of the same source that are remembered. */
  readonly earlier: number;
  /** How many holes of it nobody acknowledged, and the newest of them. */
  readonly newHoles: number;
  readonly newestHole: Hole | undefined;
}

/** How many sources are shown: a source names itself, so there may be any number. */
const MOST_SOURCES = 100;

export interface Seen {
  readonly pusher: {
    readonly outbox: Health;
    readonly topics: readonly TopicState[];
    readonly notReady: readonly NotReady[];
  };
  readonly flow: Pick<Flow, 'topic' | 'notPublished'>;
  readonly conditions: Pick<Conditions, 'of' | 'trend'>;
  readonly replays: Pick<ReplayCounter, 'counts'>;
  readonly trace?: TraceState | undefined;
  readonly now: number;
}

export function stateOf({ pusher, flow, conditions, replays, trace, now }: Seen): State {
  const { outbox, notReady } = pusher;
  const { bytes, maxBytes, oldestAt, fault, deadLetters } = outbox;
  return {
    at: now,
    notReady,
    topics: conditions.of(pusher, now).map(({ arn, name: state, depth, topic, since, reason, advice }) => {
      const { rate = 0, lastAt } = flow.topic(arn) ?? {};
      const inFlight = topic?.inFlight ?? 0;
      return { arn, state, since, reason, advice, pause: topic?.pause, depth, inFlight, rate, lastAt };
    }),
    ...sourceViews(outbox),
    outbox: { bytes, maxBytes, oldestAt, fault, deadLetters },
    trend: conditions.trend(maxBytes),
    replay: replays.counts(),
    trace,
    notPublished: flow.notPublished(),
  };
}

function sourceViews({ sources, holes }: Health): Pick<State, 'sources' | 'otherSources'> {
  const bySource = Map.groupBy(holes, ({ source }) => source);
  const views = new Map<string, SourceView>();
  for (const state of sources.toSorted((a, b) => b.heardAt - a.heardAt)) {
    const newest = views.get(state.source);
    if (newest) {
      const sums = {
        holes: newest.holes + state.holes,
        missing: newest.missing + state.missing,
        earlier: newest.earlier + 1,
      };
      views.set(state.source, { ...newest, ...sums });
    } else {
      const of = bySource.get(state.source) ?? [];
      views.set(state.source, { ...state, earlier: 0, newHoles: of.length, newestHole: of[0] });
    }
  }
  // Sorted by when they were heard already.
  const all = [...views.values()].toSorted((a, b) => Number(b.newHoles > 0) - Number(a.newHoles > 0));
  const others = all.slice(MOST_SOURCES);
  const sum = (key: 'holes' | 'missing') => others.reduce((total, view) => total + view[key], 0);
  return {
    sources: all.slice(0, MOST_SOURCES).toSorted((a, b) => a.source.localeCompare(b.source)),
    otherSources: { count: others.length, holes: sum('holes'), missing: sum('missing') },
  };
}
