/**
 * The condition of each topic, and since when: samples every topic now and then, lets `conditionOf` decide, and logs
 * the begin and end of a condition.
 *
 * Maintained invariant: its memory is bounded by the topics that the daemon has, a minute of samples each.
 */
import { Gauge, type Registry } from 'prom-client';
import type { Log } from '../log.ts';
import type { Health } from '../outbox/outbox.ts';
import {
  CONDITIONS,
  type Condition,
  type ConditionName,
  conditionOf,
  type TopicSample,
} from '../pipeline/condition.ts';
import type { TopicState } from '../pipeline/publisher.ts';
import type { Flow } from './flow.ts';
import { type Trend, trendOf, type Volume } from './trend.ts';

export interface TopicCondition extends Condition {
  readonly arn: string;
  /** Since when, in milliseconds since the Unix epoch. */
  readonly since: number;
  readonly depth: number;
  /** Its publisher; undefined when it is orphaned. */
  readonly topic: TopicState | undefined;
}

export interface ConditionsSeen {
  readonly outbox: Pick<Health, 'topics' | 'bytes' | 'maxBytes'>;
  readonly topics: readonly TopicState[];
}

export interface Conditions {
  /** Takes a sample and logs changes. */
  sample(seen: ConditionsSeen, now: number): void;
  /** The current conditions. */
  of(seen: ConditionsSeen, now: number): TopicCondition[];
  /** The trend of the backlog. */
  trend(maxBytes: number): Trend;
}

interface Track {
  readonly history: TopicSample[];
  name: ConditionName;
  since: number;
}

/** How long samples are kept, in milliseconds: the span that `conditionOf` looks at, and one sample more. */
const KEPT_MS = 62_000;

/**
 * @param flow provides the rate at which the sink takes each topic
 * @param onChange called when a topic's condition changes
 */
export function createConditions(
  flow: Pick<Flow, 'topic'>,
  log: Log,
  onChange: (topic: string, condition: Condition, before: ConditionName) => void = () => {},
): Conditions {
  const tracks = new Map<string, Track>();
  const volumes: Volume[] = [];

  const decide = (seen: ConditionsSeen, now: number): TopicCondition[] =>
    topicsOf(seen).map(({ arn, depth, topic }) => {
      const track = tracks.get(arn);
      const condition = conditionOf({
        at: now,
        owned: topic !== undefined,
        pause: topic?.pause,
        throttled: topic?.throttled,
        poolSize: topic?.pool.size ?? 0,
        rate: flow.topic(arn)?.steady ?? 0,
        history: track?.history ?? [],
        before: track?.name ?? 'open',
      });
      const since = topic?.pause?.since ?? (track?.name === condition.name ? track.since : now);
      return { arn, depth, topic, ...condition, since };
    });

  const change = (track: Track, { arn, name, reason, advice, since, depth: waiting }: TopicCondition, now: number) => {
    // Pauses and orphaned topics are logged where they occur.
    if (track.name !== 'open' && track.name !== 'paused')
      log.info({ topic: arn, lastedMs: now - track.since, now: name }, `topic no longer ${track.name}`);
    if (name !== 'open' && name !== 'paused' && name !== 'orphaned')
      log.warn({ topic: arn, reason, advice, waiting }, `topic ${name}`);
    onChange(arn, { name, reason, advice }, track.name);
    track.name = name;
    track.since = since;
  };

  return {
    sample(seen, now) {
      for (const { arn, depth, topic } of topicsOf(seen)) {
        const { history } = trackOf(tracks, arn, now);
        history.push({ at: now, depth, full: topic !== undefined && topic.pool.inFlight >= topic.pool.size });
        forget(history, now - KEPT_MS);
      }
      const found = decide(seen, now);
      for (const condition of found) {
        const track = trackOf(tracks, condition.arn, now);
        if (track.name !== condition.name) change(track, condition, now);
      }
      const known = new Set(found.map(({ arn }) => arn));
      for (const [arn, track] of tracks) {
        if (known.has(arn)) continue;
        if (track.name === 'orphaned')
          log.info({ topic: arn }, 'nothing waits any more for a topic that was not configured');
        tracks.delete(arn);
      }
      volumes.push({ at: now, waiting: found.reduce((sum, { depth }) => sum + depth, 0), bytes: seen.outbox.bytes });
      forget(volumes, now - KEPT_MS);
    },
    of: decide,
    trend: (maxBytes) => trendOf(volumes, maxBytes),
  };
}

/** Adds the metric of conditions: 1 for a topic's current one, 0 for all others. */
export function addConditionMetric(registry: Registry, current: () => readonly TopicCondition[]): void {
  new Gauge({
    name: 'xmpp_event_pusher_topic_state',
    help: "1 for a topic's current state: open, throttled, slow, behind, paused or orphaned; 0 for the others.",
    labelNames: ['topic', 'state'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { arn: topic, name } of current())
        for (const state of CONDITIONS) this.set({ topic, state }, state === name ? 1 : 0);
    },
  });
}

/** The configured topics, and those that only the outbox still has notifications for. */
function topicsOf({ outbox, topics }: ConditionsSeen): { arn: string; depth: number; topic: TopicState | undefined }[] {
  const depths = new Map(outbox.topics.map(({ topic, depth }) => [topic, depth]));
  const served = topics.map((topic) => ({ arn: topic.topic, depth: depths.get(topic.topic) ?? 0, topic }));
  for (const { arn } of served) depths.delete(arn);
  const others = [...depths].filter(([, depth]) => depth > 0);
  return [...served, ...others.map(([arn, depth]) => ({ arn, depth, topic: undefined }))];
}

function trackOf(tracks: Map<string, Track>, arn: string, now: number): Track {
  const known = tracks.get(arn);
  if (known) return known;
  const fresh: Track = { history: [], name: 'open', since: now };
  tracks.set(arn, fresh);
  return fresh;
}

function forget(list: { readonly at: number }[], before: number): void {
  while ((list[0]?.at ?? before) < before) list.shift();
}
