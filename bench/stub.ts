/**
 * The SNS endpoint of the benchmarks, a process of its own: counts messages and answers like SNS, with minimal parsing,
 * so that the endpoint is not what is measured.
 *
 * `GET /stats` returns {@link StubStats}. `POST /latencies` starts recording latencies, `GET /latencies` returns them
 * as {@link Latencies}. Prints its port once it listens.
 */
import { publishAnswer, publishBatchAnswer } from '../test/support/stub-sns.ts';
import { listen } from './listen.ts';
import { clock, quantile } from './measure.ts';

export interface StubStats {
  /** Notifications accepted. */
  readonly accepted: number;
  readonly requests: number;
}

/** From the time written in a message until its arrival, in milliseconds; only messages with a time. */
export interface Latencies {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** The load's time in a message: `t=1763820191120.123 `, form-encoded as `t%3D…%20`. */
const STAMP = /t%3D(\d+\.\d+)%20/g;

let accepted = 0;
let requests = 0;
/** Undefined: not recording. Millions of latencies take time to record and sort. */
let taken: number[] | undefined;

/** The ids of a batch's entries, in order. */
function idsOf(form: string): string[] {
  const ids: string[] = [];
  for (let at = form.indexOf('.Id='); at >= 0; at = form.indexOf('.Id=', at + 4)) {
    const end = form.indexOf('&', at);
    ids.push(form.slice(at + 4, end < 0 ? undefined : end));
  }
  return ids;
}

function take(form: string): string {
  requests += 1;
  const now = clock();
  if (taken) for (const match of form.matchAll(STAMP)) taken.push(now - Number(match[1]));
  if (form.startsWith('Action=Publish&') || form.includes('&Action=Publish&')) {
    accepted += 1;
    return publishAnswer;
  }
  const ids = idsOf(form);
  accepted += ids.length;
  return publishBatchAnswer(ids.map((id) => ({ id })));
}

function latencies(): Latencies {
  const sorted = Float64Array.from(taken ?? []).sort();
  const at = (p: number) => quantile(sorted, p);
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

const json = (value: object) => ({ type: 'application/json', text: JSON.stringify(value) });

listen(Number(process.argv[2] ?? 0), (head, body) => {
  if (head.startsWith('GET /stats ')) return json({ accepted, requests } satisfies StubStats);
  if (head.startsWith('GET /latencies ')) return json(latencies());
  if (!head.startsWith('POST /latencies ')) return { type: 'text/xml', text: take(body.toString('latin1')) };
  taken = [];
  return json({});
});
