/**
 * Decides a topic's condition: one pure function for the log, the metrics, the console and the command line.
 *
 * If several apply, the first counts: orphaned, paused, throttled, slow, behind, open.
 */
import { rate as rateText } from '../format.js';
import type { Pause } from './report.ts';

export const CONDITIONS = ['open', 'throttled', 'slow', 'behind', 'paused', 'orphaned'] as const;
export type ConditionName = (typeof CONDITIONS)[number];

/** When the sink last asked for a lower rate, in milliseconds since the Unix epoch, with explanation. */
export interface Throttling {
  readonly at: number;
  readonly reason: string;
  readonly detail: string;
  readonly advice: string;
}

/** A topic's state, sampled every few seconds. */
export interface TopicSample {
  readonly at: number;
  /** Notifications that the sink has not accepted yet. */
  readonly depth: number;
  /** Whether all slots for requests were in use. */
  readonly full: boolean;
}

export interface TopicFacts {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  /** Whether any destination owns the topic. */
  readonly owned: boolean;
  readonly pause: Pause | undefined;
  readonly throttled: Throttling | undefined;
  readonly poolSize: number;
  /** Notifications accepted per second. */
  readonly rate: number;
  /** The last minute, oldest first. */
  readonly history: readonly TopicSample[];
  /** The previous condition: a condition ends later than it begins, so that it does not flicker. */
  readonly before: ConditionName;
}

export interface Condition {
  readonly name: ConditionName;
  /** Why, and what to do; empty while it is open. */
  readonly reason: string;
  readonly advice: string;
}

/** How long the sink must accept everything before a topic stops being throttled: longer than the rate's recovery. */
const THROTTLED_MS = 30_000;
/** How long all slots have to be in use. */
const SLOW_MS = 10_000;
/** How long, and by how much at least, the incoming rate has to exceed the outgoing one. */
const BEHIND_MS = 60_000;
const BEHIND_BY = 20;

const OPEN: Condition = { name: 'open', reason: '', advice: '' };
const ORPHANED: Condition = {
  name: 'orphaned',
  reason: 'no configured account owns this topic, so its notifications wait',
  advice: "configure a section with the topic's region and account_id, and reload",
};

/** Decides a topic's condition and the reason. */
export function conditionOf(facts: TopicFacts): Condition {
  const { at, owned, pause, throttled, poolSize, rate, history } = facts;
  if (!owned) return ORPHANED;
  if (pause) return { name: 'paused', reason: `${pause.reason}: ${pause.detail}`, advice: pause.advice };
  if (throttled && at - throttled.at < THROTTLED_MS)
    return {
      name: 'throttled',
      reason: `${throttled.reason}: ${throttled.detail}; it takes ${perSecond(rate)}`,
      advice: throttled.advice,
    };
  if (isSlow(facts))
    return {
      name: 'slow',
      reason: `as many requests are under way as pool_size allows, ${poolSize}; the sink takes ${perSecond(rate)}`,
      advice: 'check how long requests take (publish_request_duration_seconds); raise pool_size if the network is slow',
    };
  const growth = growthOf(history, facts.before === 'behind');
  if (growth > 0)
    return {
      name: 'behind',
      reason: `more notifications come in than go out: ${perSecond(growth)} more, for a minute or longer`,
      advice:
        'compare the rate of events with the rate that the sink accepts; raise max_messages_per_second if it is set',
    };
  return OPEN;
}

/** Whether all slots have been in use for a while; it ends once they were not for as long. */
function isSlow({ at, history, before }: TopicFacts): boolean {
  const recent = history.filter((sample) => at - sample.at <= SLOW_MS);
  const covered = (history[0]?.at ?? at) <= at - SLOW_MS;
  const isFull = ({ full, depth }: TopicSample) => full && depth > 0;
  return before === 'slow' ? recent.some(isFull) : covered && recent.length > 1 && recent.every(isFull);
}

/** By how many per second the topic fell behind in the last minute; 0 if it caught up in between. */
function growthOf(history: readonly TopicSample[], already: boolean): number {
  const last = history.at(-1);
  const first = history.find(({ at }) => at >= (last?.at ?? 0) - BEHIND_MS);
  if (!last || !first || last.at - first.at < BEHIND_MS * 0.9) return 0;
  const third = (last.at - first.at) / 3;
  // Uses the minimum of each third, to ignore bursts that are worked off in between.
  const least = [0, 1, 2].map((n) => {
    const within = history.filter(({ at }) => at >= first.at + n * third && at <= first.at + (n + 1) * third);
    return Math.min(...within.map(({ depth }) => depth));
  });
  const [begin = 0, middle = 0, end = 0] = least;
  const grown = end - begin;
  const steady = already || (middle > begin && end > middle && grown >= BEHIND_BY);
  return steady && grown > 0 ? (grown * 1_500) / (last.at - first.at) : 0;
}

const perSecond = (value: number): string => `${rateText(value)}/s`;
