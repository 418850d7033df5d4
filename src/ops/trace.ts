/** Searches for events' outcomes over the admin address, and the state of their record. */
import type { FastifyInstance } from 'fastify';
import { Counter, Gauge, type Registry } from 'prom-client';
import { z } from 'zod';
import { messageOf } from '../errors.ts';
import { type Finding, type Found, MOST_FINDINGS } from '../trace/find.ts';
import type { TraceState } from '../trace/messages.ts';
import type { Trace } from '../trace/trace.ts';
import { refuse } from './access.ts';
import type { State } from './state.ts';

interface TraceSetup {
  readonly trace: Pick<Trace, 'find'> | undefined;
  readonly state: () => Pick<State, 'topics'>;
}

const time = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const query = z.strictObject({
  what: z.string().trim().min(1).max(3_100),
  from: time.default(0),
  until: time.default(Number.MAX_SAFE_INTEGER),
  limit: z.coerce.number().int().min(1).max(MOST_FINDINGS).default(50),
});

export function serveTrace(server: FastifyInstance, { trace, state }: TraceSetup): void {
  server.get('/api/find', async (request, reply): Promise<Found | undefined> => {
    const parsed = query.safeParse(request.query);
    if (!parsed.success)
      return refuse(reply, 400, 'malformed', 'what (a user, a room or an id), from, until (ms), limit (1 to 1,000)');
    if (!trace) return refuse(reply, 404, 'not_found', 'a dry run keeps no record');
    const { what: text, ...rest } = parsed.data;
    try {
      return withTopics(await trace.find({ text, ...rest }), state());
    } catch (error) {
      return refuse(reply, 503, 'unavailable', messageOf(error));
    }
  });
}

/** Adds the metrics of the record. */
export function addTraceMetrics(registry: Registry, state: () => TraceState): void {
  const registers = [registry];
  const gauge = (name: string, help: string, of: (state: TraceState) => number) =>
    new Gauge({
      name: `xmpp_event_pusher_trace_${name}`,
      help,
      registers,
      collect() {
        this.set(of(state()));
      },
    });
  gauge('bytes', 'Size of the record of events and the history.', ({ bytes }) => bytes);
  gauge('writable', "0 while the record can't be written; publishing continues.", ({ problem }) =>
    problem === undefined ? 1 : 0,
  );
  new Counter({
    name: 'xmpp_event_pusher_trace_records_lost_total',
    help: 'Records that could not be written.',
    registers,
    collect() {
      this.reset();
      this.inc(state().lost);
    },
  });
}

/** Adds its topic's condition to each waiting notification. */
function withTopics(found: Found, { topics }: Pick<State, 'topics'>): Found {
  const behindOf = (finding: Finding): Finding => {
    const topic = finding.what === 'waiting' && topics.find(({ arn }) => arn === finding.topic);
    if (!topic) return finding;
    const { state, since, reason, advice } = topic;
    return { ...finding, behind: { state, since, reason, advice } };
  };
  return { ...found, findings: found.findings.map(behindOf) };
}
