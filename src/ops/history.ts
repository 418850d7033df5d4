/**
 * The history: throughput by the minute, and notable moments, for the plots of a day and of a month. The thread that
 * writes the record stores it, so it survives restarts.
 *
 * Maintained invariants:
 * - An event that hits many topics at once makes one line, and there are never more than a few for two seconds.
 * - It adds no cost to an event's path.
 */
import type { FastifyInstance } from 'fastify';
import { messageOf } from '../errors.ts';
import { countOf } from '../format.js';
import type { DeadLetterStore } from '../outbox/dead-letters.ts';
import type { SourceStore } from '../outbox/sources.ts';
import type { Condition, ConditionName } from '../pipeline/condition.ts';
import type { Report } from '../pipeline/report.ts';
import type { NotReady } from '../readiness.ts';
import type { Span } from '../trace/history-file.ts';
import type { Trace } from '../trace/trace.ts';
import { refuse } from './access.ts';
import type { Sample } from './flow.ts';

/** Kinds of moments; the thread itself adds `start`, `stop` and `killed`. */
type Kind =
  | 'reload'
  | 'reload-failed'
  | 'paused'
  | 'resumed'
  | Exclude<ConditionName, 'open' | 'paused'>
  | 'open'
  | 'not-ready'
  | 'ready'
  | 'hole'
  | 'replay'
  | 'delete'
  | 'acknowledge'
  | 'retire'
  | 'try';

export interface HistoryKeeper {
  readonly report: Pick<Report, 'paused' | 'resumed' | 'batch'>;
  /** A topic's condition changed. */
  changed(topic: string, condition: Condition, before: ConditionName): void;
  /** Notes a moment of a topic, a source or another part. */
  note(kind: Kind, subject: string, text: string): void;
  /** Takes a sample of the throughput, and why the daemon is not ready. */
  sample(sample: Sample, notReady: readonly NotReady[]): void;
  /** Sends the unfinished minute. */
  close(): void;
}

/** A moment that several topics or sources share. */
interface Group {
  readonly at: number;
  readonly first: string;
  readonly text: string;
  readonly subjects: Set<string>;
  count: number;
}

const MINUTE_MS = 60_000;
/** Most subjects counted of one kind per sample. */
const MOST_SUBJECTS = 1_000;

/** @param now milliseconds since the Unix epoch */
export function createHistory(trace: Pick<Trace, 'span' | 'moment'>, now: () => number = Date.now): HistoryKeeper {
  const groups = new Map<string, Group>();
  let minute: Sample[] = [];
  let notReadyBefore = new Map<string, string>();

  const note = (kind: Kind, subject: string, text: string) => {
    const group = groups.get(kind) ?? { at: now(), first: subject, text, subjects: new Set(), count: 0 };
    groups.set(kind, group);
    group.count += 1;
    if (group.subjects.size < MOST_SUBJECTS) group.subjects.add(subject);
  };
  const tell = () => {
    for (const [kind, { at, first, text, subjects }] of groups) {
      const others = subjects.size - 1;
      const more = others === 0 ? '' : ` (and ${countOf(others, 'other')} at the same time)`;
      trace.moment({ at, kind, text: `${first}${text === '' ? '' : `: ${text}`}${more}` });
    }
    groups.clear();
  };
  const end = () => {
    const span = spanOf(minute);
    minute = [];
    if (span) trace.span(span);
  };

  return {
    report: {
      paused(topic, { since, began, reason, detail }) {
        // Not again after each failed retry.
        if (since === began) note('paused', nameOf(topic), `${reason}: ${detail}`);
      },
      resumed: (topic) => note('resumed', nameOf(topic), 'the sink takes notifications again'),
      batch({ source, missing }) {
        if (missing > 0) note('hole', source, `${countOf(missing, 'event')} never came`);
      },
    },
    changed(topic, { name, reason }, before) {
      // `paused` and `resumed` note pauses as they happen, not at the next sample.
      if (name === 'paused' || (name === 'open' && before === 'paused')) return;
      note(name, nameOf(topic), name === 'open' ? `no longer ${before}` : reason);
    },
    note,
    sample(sample, notReady) {
      // Paused topics are noted by `paused`.
      const reasons = new Map(notReady.flatMap(({ what, reason }) => (/^topic /.test(what) ? [] : [[what, reason]])));
      for (const [what, reason] of reasons) if (!notReadyBefore.has(what)) note('not-ready', what, reason);
      for (const what of notReadyBefore.keys()) if (!reasons.has(what)) note('ready', what, 'all right again');
      notReadyBefore = reasons;
      tell();
      const [first] = minute;
      if (first && minuteOf(first.at) !== minuteOf(sample.at)) end();
      minute.push(sample);
    },
    close() {
      tell();
      end();
    },
  };
}

const nameOf = (arn: string): string => arn.split(':').at(-1) ?? arn;
const minuteOf = (at: number): number => Math.floor(at / MINUTE_MS);

/** Merges the samples of a minute; undefined where there is none. */
function spanOf(samples: readonly Sample[]): Span | undefined {
  const [first] = samples;
  if (!first) return undefined;
  const of = (pick: (sample: Sample) => number | null) => samples.map(pick).filter((value) => value !== null);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const latencies = of(({ p50 }) => p50);
  const worst = of(({ p99 }) => p99);
  return {
    at: (minuteOf(first.at) + 1) * MINUTE_MS,
    in: mean(of((sample) => sample.in)),
    out: mean(of(({ out }) => out)),
    backlog: Math.max(...of(({ backlog }) => backlog)),
    p50: latencies.length === 0 ? null : mean(latencies),
    p99: worst.length === 0 ? null : Math.max(...worst),
  };
}

/** Notes people's actions on dead letters, sources and topics. */
export function noting(
  { deadLetters, sources, tryTopic }: PeoplesActions,
  note: HistoryKeeper['note'],
): PeoplesActions {
  const counted = (kind: Kind, noun: string, count: number) => {
    if (count > 0) note(kind, countOf(count, noun), '');
    return count;
  };
  return {
    deadLetters: {
      ...deadLetters,
      requestReplay: async (...asked) => counted('replay', 'dead letter', await deadLetters.requestReplay(...asked)),
      purge: async (...asked) => counted('delete', 'dead letter', await deadLetters.purge(...asked)),
    },
    sources: {
      ...sources,
      acknowledge: async (source) => counted('acknowledge', 'hole', await sources.acknowledge(source)),
      async retire(source) {
        const retired = await sources.retire(source);
        if (retired) note('retire', source, '');
        return retired;
      },
    },
    tryTopic(topic) {
      const tried = tryTopic(topic);
      if (tried) note('try', nameOf(topic), '');
      return tried;
    },
  };
}

interface PeoplesActions {
  readonly deadLetters: DeadLetterStore;
  readonly sources: SourceStore;
  readonly tryTopic: (topic: string) => boolean;
}

export function serveHistory(server: FastifyInstance, trace: Pick<Trace, 'history'> | undefined): void {
  server.get('/api/history', async (_, reply) => {
    if (!trace) return refuse(reply, 404, 'not_found', 'a dry run keeps no history');
    try {
      return await trace.history();
    } catch (error) {
      return refuse(reply, 503, 'unavailable', messageOf(error));
    }
  });
}
