/**
 * `npm run bench -- compare --before FOLDER`: compares the medians of this checkout and another one, in turn, round by
 * round.
 *
 * The speed of a shared or virtual machine changes within seconds for all processes. So CPU time is divided by that of
 * the load in the same window; both sides use this checkout's load.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { drainOf } from './drain.ts';
import { loopDelayOf, underLoad } from './end-to-end.ts';
import { type Figure, median, type Result } from './measure.ts';
import type { Watch } from './rig.ts';

export interface Comparison {
  /** A checkout of the commit to compare with, including node_modules. */
  readonly before: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly backlog: number;
}

const PACED = 30_300;
const SIDES = ['before', 'after'] as const;

/** One side's figures in one round, by name. */
type Round = Readonly<Record<string, { readonly value: number; readonly unit: string }>>;

export async function compare({ before, rounds, seconds, backlog }: Comparison): Promise<Result> {
  const roots = { before: path.resolve(before), after: fileURLToPath(new URL('..', import.meta.url)) };
  const found: Record<(typeof SIDES)[number], Round[]> = { before: [], after: [] };
  for (let round = 0; round < rounds; round++) {
    for (const side of SIDES) {
      const bin = path.join(roots[side], 'bin/xmpp-event-pusher.js');
      found[side].push(await measure(bin, seconds, backlog));
      process.stderr.write(`round ${round + 1}, ${side}: ${JSON.stringify(found[side].at(-1))}\n`);
    }
  }
  const figures: Figure[] = [];
  for (const [what, { unit }] of Object.entries(found.after[0] ?? {})) {
    const of = (side: (typeof SIDES)[number]) => median(found[side].map((round) => round[what]?.value ?? Number.NaN));
    const [was, is] = [of('before'), of('after')];
    figures.push({ what: `${what}, after : before`, value: is / was, unit: '×' });
    figures.push({ what: `${what} before`, value: was, unit }, { what: `${what} after`, value: is, unit });
  }
  return { benchmark: 'compare', figures, more: { before, rounds: found } };
}

async function measure(bin: string, seconds: number, backlog: number): Promise<Round> {
  const paced = await underLoad({ seconds }, { rate: PACED, bin });
  const fast = await underLoad({ seconds }, { rate: 0, bin });
  const drained = backlog > 0 ? await drainOf(backlog, { bin }) : undefined;
  return {
    ...cpuFigures('paced', paced),
    'loop delay p99 paced': { value: loopDelayOf(paced.samples), unit: 'ms' },
    'RSS paced': { value: residentOf(paced), unit: 'MB' },
    'rate flat out': { value: fast.accepted / fast.seconds, unit: 'events/s' },
    ...cpuFigures('flat out', fast),
    'RSS flat out': { value: residentOf(fast), unit: 'MB' },
    ...(drained && {
      'rate of draining': { value: drained.accepted / drained.seconds, unit: 'events/s' },
      'CPU of draining': { value: drained.cpuUs / drained.accepted, unit: 'µs/event' },
      'start with a backlog': { value: drained.startedMs, unit: 'ms' },
    }),
  };
}

const cpuFigures = (how: string, { cpuUs, loadCpuUs, accepted }: Watch): Round => ({
  [`CPU ${how}`]: { value: cpuUs / accepted, unit: 'µs/event' },
  [`CPU ${how} in units of the load's`]: { value: cpuUs / loadCpuUs, unit: 'µs/µs' },
});

const residentOf = ({ samples }: Watch): number => Math.max(...samples.map(({ residentMb }) => residentMb));
