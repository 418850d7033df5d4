/**
 * Decides a topic's condition: one pure function for the log, the metrics, the console and the command line.
 *
 * Of what is true at once, the first counts: orphaned, paused, throttled, slow, behind, open.
 */
import { rate as rateText } from '../format.js';
import type { Pause } from './report.ts';

export const CONDITIONS = ['open', 'throttled', 'slow', 'behind', 'paused', 'orphaned'] as const;
export type ConditionName = (typeof CONDITIONS)[number];

/** When the sink last asked for a lower rate, in milliseconds since the Unix epoch, and what that means. */
export interface Throttling {
  readonly at: number;
  readonly reason: string;
  readonly detail: string;
  readonly advice: string;
}

/** A topic at a moment; taken every few seconds. */
export interface TopicSample {
  readonly at: number;
  /** Notifications that the sink does not have yet. */
  readonly depth: number;
  /** Whether all requests that may be under way at once were. */
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
  /** Notifications a second that the sink takes. */
  readonly rate: number;
  /** What it was in the last minute, oldest first. */
  readonly history: readonly TopicSample[];
  /** What it was found to be before: a condition ends later than it begins, so that it does not flicker. */
  readonly before: ConditionName;
}

export interface Condition {
  readonly name: ConditionName;
  /** Why, and what to do about it; empty while it is open. */
  readonly reason: string;
  readonly advice: string;
}

/** How long the sink must accept everything before a topic stops being throttled: longer than the rate's recovery. */
const THROTTLED_MS = 30_000;
/** How long all requests have to be under way. */
const SLOW_MS = 10_000;
/** How long more has to come in than goes out, and how much more at least. */
const BEHIND_MS = 60_000;
const BEHIND_BY = 20;

const OPEN: Condition = { name: 'open', reason: '', advice: '' };
const ORPHANED: Condition = {
  name: 'orphaned',
  reason: 'no configured account owns this topic, so what waits for it stays',
  advice: 'configure a section with its region and account_id again, and reload',
};

/** Decides what a topic's condition is, and why. */
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
      advice: 'look at how long requests take (publish_request_duration_seconds); raise pool_size if the way is long',
    };
  const growth = growthOf(history, facts.before === 'behind');
  if (growth > 0)
    return {
      name: 'behind',
      reason: `more comes in than goes out: ${perSecond(growth)} more, for a minute or longer`,
      advice: 'look at the rate of events and at what the sink takes; raise max_messages_per_second if it is set',
    };
  return OPEN;
}

/** All requests have been running for a while; it ends when for as long not all were. */
function isSlow({ at, history, before }: TopicFacts): boolean {
  const recent = history.filter((sample) => at - sample.at <= SLOW_MS);
  const covered = (history[0]?.at ?? at) <= at - SLOW_MS;
  const isFull = ({ full, depth }: TopicSample) => full && depth > 0;
  return before === 'slow' ? recent.some(isFull) : covered && recent.length > 1 && recent.every(isFull);
}

/** By how many a second the topic has fallen behind over the last minute; 0 where it caught up in between. */
function growthOf(history: readonly TopicSample[], already: boolean): number {
  const last = history.at(-1);
  const first = history.find(({ at }) => at >= (last?.at ?? 0) - BEHIND_MS);
  if (!last || !first || last.at - first.at < BEHIND_MS * 0.9) return 0;
  const third = (last.at - first.at) / 3;
  // The least of each third: bursts that are worked off in between say nothing.
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
