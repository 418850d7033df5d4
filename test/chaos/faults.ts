/** What SNS does wrong: for each request at random from the seed, and denials that a test begins and ends. */
import type { Fault, StubRequest } from '../support/stub-sns.ts';
import { pick, type Random, randomOf, whole } from './random.ts';

type Draw = (random: Random, request: StubRequest) => Fault;

/** How often each happens, in a thousand requests. */
const FAULTS: readonly (readonly [perMille: number, Draw])[] = [
  [10, () => ({ kind: 'error', status: 500, code: 'InternalFailure' })],
  [10, () => ({ kind: 'error', status: 503 })],
  // Fewer still: SNS throttles what is too fast, and one who is throttled whatever the rate goes ever slower, rightly.
  [0.2, () => ({ kind: 'error', status: 400, code: 'Throttling' })],
  [0.2, () => ({ kind: 'error', status: 429, code: 'Throttled' })],
  [20, (random) => ({ kind: 'reset', accepts: random() < 0.5 })],
  // Few, for each holds a slot and up to ten users until the daemon gives it up.
  [1, (random) => ({ kind: 'hang', accepts: random() < 0.5 })],
  [10, (random) => ({ kind: 'truncated', connection: random() < 0.5 })],
  [30, (random, { entries }) => ({ kind: 'some-fail', positions: positions(random, entries.length) })],
  [15, (random) => ({ kind: 'ids', lie: pick(random, ['unknown', 'missing', 'twice', 'both'] as const) })],
  [20, (random) => ({ kind: 'slow', ms: 10 + whole(random, 300) })],
];

const DENIED: Fault = { kind: 'error', status: 403, code: 'AuthorizationError' };

export interface Faults {
  /** For the endpoint. */
  readonly draw: (request: StubRequest) => Fault | undefined;
  /** From now on publishing to topics whose ARN ends so is denied; '' denies all. */
  deny(ending: string): void;
  allow(): void;
}

/** @param weight multiplies how often faults happen; 0: only denials */
export function createFaults(seed: number, weight = 1): Faults {
  // By what is sent and how often it was, not by when: so a run that is a little faster draws the same.
  const asked = new Map<string, number>();
  let denied: string | undefined;
  return {
    draw(request) {
      if (denied !== undefined && request.topicArn.endsWith(denied)) return DENIED;
      if (weight === 0) return undefined;
      const name = request.entries[0]?.attributes.get('event_id') ?? '';
      const times = asked.get(name) ?? 0;
      asked.set(name, times + 1);
      const random = randomOf(seed, `${name} ${times}`);
      let at = random() * 1_000;
      for (const [perMille, make] of FAULTS) {
        at -= perMille * weight;
        if (at < 0) return make(random, request);
      }
      return undefined;
    },
    deny(ending) {
      denied = ending;
    },
    allow() {
      denied = undefined;
    },
  };
}

function positions(random: Random, entries: number): Set<number> {
  const share = random();
  return new Set(Array.from({ length: entries }, (_, position) => position).filter(() => random() < share));
}
