import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Moment, Span } from '../trace/history-file.ts';
import { createHistory } from './history.ts';

const START = 1_763_820_000_000;
const ARN = 'arn:aws:sns:eu-west-1:123456789012';
const pause = (since: number, began = since) => ({
  ...{ reason: 'AuthorizationError', detail: 'not authorized', advice: 'allow it' },
  ...{ since, began, until: began + 1_000 },
});
const batch = { tap: 'http', source: 's', kinds: new Map(), duplicates: 0, rejected: 0, conflicts: 0 };

function setUp() {
  const spans: Span[] = [];
  const moments: Moment[] = [];
  let now = START;
  const keeping = { span: (span: Span) => spans.push(span), moment: (moment: Moment) => moments.push(moment) };
  const history = createHistory(keeping, () => now);
  const sample = (fields: { in?: number; p50?: number | null; p99?: number | null; backlog?: number } = {}) => {
    now += 2_000;
    history.sample({ at: now, in: 0, out: 1, backlog: 0, p50: null, p99: null, ...fields }, []);
  };
  return { history, spans, moments, sample, recorded: () => moments.map(({ kind, text }) => `${kind} ${text}`) };
}

describe('the history', () => {
  it('has a span for each minute: mean rates, largest backlog, worst latency', () => {
    const { spans, sample, history } = setUp();
    sample({ in: 10, p50: 20, p99: 50, backlog: 7 });
    sample({ in: 20, p50: 40, p99: 900, backlog: 3 });
    for (let n = 0; n < 28; n++) sample({ in: 15 });
    assert.deepEqual(spans, [{ at: START + 60_000, in: 15, out: 1, backlog: 7, p50: 30, p99: 900 }]);
    history.close();
    assert.deepEqual(spans.at(-1), { at: START + 120_000, in: 15, out: 1, backlog: 0, p50: null, p99: null });
  });

  it('writes nothing without samples', () => {
    const { history, spans, moments } = setUp();
    history.close();
    assert.deepEqual([spans, moments], [[], []]);
  });

  it('records a pause and its end once, however many retries fail', () => {
    const { history, recorded, sample } = setUp();
    history.report.paused(`${ARN}:a`, pause(START));
    history.report.paused(`${ARN}:a`, pause(START, START + 1_000));
    sample();
    history.report.resumed(`${ARN}:a`, 5_000);
    sample();
    assert.deepEqual(recorded(), [
      'paused a: AuthorizationError: not authorized',
      'resumed a: the sink takes notifications again',
    ]);
  });

  it('records one line for an incident of many topics', () => {
    const { history, recorded, sample } = setUp();
    for (let n = 0; n < 150; n++) history.report.paused(`${ARN}:t${n}`, pause(START));
    sample();
    assert.deepEqual(recorded(), ['paused t0: AuthorizationError: not authorized (and 149 others at the same time)']);
  });

  it('records holes and conditions of topics, except pauses, which are reported separately', () => {
    const { history, recorded, sample } = setUp();
    history.report.batch({ ...batch, missing: 0 });
    history.report.batch({ ...batch, missing: 3 });
    history.changed(`${ARN}:a`, { name: 'throttled', reason: 'Throttling', advice: '' }, 'open');
    history.changed(`${ARN}:b`, { name: 'paused', reason: 'x', advice: '' }, 'open');
    history.changed(`${ARN}:b`, { name: 'open', reason: '', advice: '' }, 'paused');
    sample();
    history.changed(`${ARN}:a`, { name: 'open', reason: '', advice: '' }, 'throttled');
    sample();
    assert.deepEqual(recorded(), [
      'hole s: 3 events never came',
      'throttled a: Throttling',
      'open a: no longer throttled',
    ]);
  });

  it('records when readiness changes, except for topics', () => {
    const { history, recorded } = setUp();
    const [full, topic] = [
      { what: 'outbox', reason: 'is full' },
      { what: `topic ${ARN}:a`, reason: 'paused' },
    ];
    const plain = { in: 0, out: 0, backlog: 0, p50: null, p99: null };
    history.sample({ at: 1, ...plain }, [full, topic]);
    history.sample({ at: 2, ...plain }, [full]);
    history.sample({ at: 3, ...plain }, []);
    assert.deepEqual(recorded(), ['not-ready outbox: is full', 'ready outbox: all right again']);
  });
});
