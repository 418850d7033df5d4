/**
 * SNS's faults. The seed decides in advance which events meet which fault, and each event brings its fault to its first
 * request: so a seed gives the same faults, however the daemon packs, whatever is killed, on fast and slow machines.
 * Denials are not drawn; a test begins and ends them.
 */
import type { Fault, StubRequest } from '../support/stub-sns.ts';
import { eventId } from './adapters.ts';
import type { Source } from './ledger.ts';
import { pick, type Random, randomOf, whole } from './random.ts';

interface Way {
  /** Of a thousand events, how many bring it. */
  readonly perMille: number;
  readonly draw: (random: Random) => Fault;
}

/** Every kind of failed request. */
const WAYS: Readonly<Record<string, Way>> = {
  'error 500': { perMille: 1.5, draw: () => ({ kind: 'error', status: 500, code: 'InternalFailure' }) },
  'error 503': { perMille: 1, draw: () => ({ kind: 'error', status: 503, code: 'ServiceUnavailable' }) },
  "a proxy's 503": { perMille: 0.5, draw: () => ({ kind: 'error', status: 503 }) },
  // Only a few: SNS throttles senders that are too fast; one throttled at any rate slows down ever more, rightly.
  Throttling: { perMille: 0.01, draw: () => ({ kind: 'error', status: 400, code: 'Throttling' }) },
  Throttled: { perMille: 0.01, draw: () => ({ kind: 'error', status: 429, code: 'Throttled' }) },
  'reset before accepting': { perMille: 1.5, draw: () => ({ kind: 'reset', accepts: false }) },
  'reset after accepting': { perMille: 1.5, draw: () => ({ kind: 'reset', accepts: true }) },
  // Few, because each occupies a slot and up to ten users until the daemon's timeout.
  'hangs before accepting': { perMille: 0.06, draw: () => ({ kind: 'hang', accepts: false }) },
  'hangs after accepting': { perMille: 0.06, draw: () => ({ kind: 'hang', accepts: true }) },
  'answer cut short': { perMille: 0.8, draw: () => ({ kind: 'truncated', connection: false }) },
  'answer cut with its connection': { perMille: 0.8, draw: () => ({ kind: 'truncated', connection: true }) },
  'some entries fail': { perMille: 4, draw: (random) => ({ kind: 'some-fail', positions: positions(random) }) },
  'an id that was not sent': { perMille: 0.5, draw: () => ({ kind: 'ids', lie: 'unknown' }) },
  'an id left out': { perMille: 0.5, draw: () => ({ kind: 'ids', lie: 'missing' }) },
  'an id twice': { perMille: 0.5, draw: () => ({ kind: 'ids', lie: 'twice' }) },
  'an id as taken and as failed': { perMille: 0.5, draw: () => ({ kind: 'ids', lie: 'both' }) },
  slow: { perMille: 3, draw: (random) => ({ kind: 'slow', ms: 10 + whole(random, 300) }) },
};
/** Each kind comes at least this often, unless there are too few events. */
const LEAST_OF_EACH = 2;
const LEAST_EVENTS = 100;

const DENIED: Fault = { kind: 'error', status: 403, code: 'AuthorizationError' };

interface Planned {
  readonly way: string;
  readonly fault: Fault;
}

/** The faults by event id. Not for planted events, because some of them never reach SNS. */
export function planFaults(seed: number, sources: readonly Source[]): Map<string, Planned> {
  const events = sources.reduce((sum, { total }) => sum + total, 0);
  const plan = new Map<string, Planned>();
  if (events < LEAST_EVENTS) return plan;
  for (const [way, { perMille, draw }] of Object.entries(WAYS)) {
    const random = randomOf(seed, way);
    const count = Math.max(LEAST_OF_EACH, Math.round((events * perMille) / 1_000));
    for (let drawn = 0; drawn < count; ) {
      const { source, total, flaws } = pick(random, sources);
      const seq = 1 + whole(random, total);
      const id = eventId(source, seq);
      if (flaws.has(seq) || plan.has(id)) continue;
      plan.set(id, { way, fault: draw(random) });
      drawn += 1;
    }
  }
  return plan;
}

export interface Faults {
  /** Called by the endpoint. */
  readonly draw: (request: StubRequest) => Fault | undefined;
  /** How often each kind came, and how many planned faults have not come yet. */
  readonly met: ReadonlyMap<string, number>;
  readonly left: number;
  /** From now on denies publishing to topics whose ARN has this ending; '' denies all. */
  deny(ending: string): void;
  allow(): void;
}

/** @param plan gets used up */
export function createFaults(plan: Map<string, Planned>): Faults {
  const met = new Map<string, number>();
  let denied: string | undefined;

  const count = (id: string, { way }: Planned) => {
    plan.delete(id);
    met.set(way, (met.get(way) ?? 0) + 1);
  };

  return {
    draw(request) {
      if (denied !== undefined && request.topicArn.endsWith(denied)) return DENIED;
      const ids = request.entries.map(({ attributes }) => attributes.get('event_id') ?? '');
      const planned = ids.flatMap((id) => {
        const one = plan.get(id);
        return one ? [{ id, one }] : [];
      });
      // If several faults meet, one that accepts nothing goes first: the other events are resent and bring their faults
      // then.
      const first = planned.find(({ one }) => !maySettle(one.fault)) ?? planned[0];
      if (!first) return undefined;
      count(first.id, first.one);
      // The accepted part is never resent, so count the faults of its other events too.
      if (maySettle(first.one.fault)) for (const { id, one } of planned) if (plan.has(id)) count(id, one);
      return first.one.fault;
    },
    met,
    get left() {
      return plan.size;
    },
    deny(ending) {
      denied = ending;
    },
    allow() {
      denied = undefined;
    },
  };
}

/** Whether the sender learns that an entry was accepted. */
const maySettle = ({ kind }: Fault): boolean => kind === 'some-fail' || kind === 'ids' || kind === 'slow';

function positions(random: Random): Set<number> {
  const share = random();
  return new Set(Array.from({ length: 10 }, (_, position) => position).filter(() => random() < share));
}
