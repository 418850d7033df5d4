/** The cost of the record: medians under the same load with and without it, in turn. */
import { underLoad } from './end-to-end.ts';
import { type Figure, median, type Result, type Size } from './measure.ts';
import type { Watch } from './rig.ts';

const ROUNDS = 3;
const SIDES = { with: '', without: '[trace]\nkeep = "off"' } as const;
/** Limit for the lost share of the rate. */
const MOST_COST = 0.05;

export async function trace({ seconds }: Size): Promise<Result> {
  const each = Math.max(Math.floor(seconds / ROUNDS), 5);
  const found: Record<keyof typeof SIDES, Watch[]> = { with: [], without: [] };
  for (let round = 0; round < ROUNDS; round++)
    // Reverses the order each time, because the machine's speed drifts.
    for (const side of round % 2 === 0 ? (['with', 'without'] as const) : (['without', 'with'] as const))
      found[side].push(await underLoad({ seconds: each }, { rate: 0, rest: SIDES[side] }));
  const of = (side: keyof typeof SIDES, what: (watch: Watch) => number) => median(found[side].map(what));
  const rate = ({ accepted, seconds: took }: Watch) => accepted / took;
  // Relative to the load's CPU time: the speed of a shared machine changes within seconds for all processes.
  const cpu = ({ cpuUs, accepted }: Watch) => cpuUs / accepted;
  const relative = ({ cpuUs, loadCpuUs }: Watch) => cpuUs / loadCpuUs;
  const resident = ({ samples }: Watch) => Math.max(...samples.map(({ residentMb }) => residentMb));
  const figures: Figure[] = [
    { what: 'rate with the record', value: of('with', rate), unit: 'events/s' },
    { what: 'rate without it', value: of('without', rate), unit: 'events/s' },
    {
      what: 'what it costs of the rate',
      value: 100 * (1 - of('with', rate) / of('without', rate)),
      unit: '%',
      target: { atMost: 100 * MOST_COST },
    },
    { what: 'daemon CPU with it', value: of('with', cpu), unit: 'µs/event' },
    { what: 'daemon CPU without it', value: of('without', cpu), unit: 'µs/event' },
    {
      what: "daemon CPU in units of the load's, with : without",
      value: of('with', relative) / of('without', relative),
      unit: '×',
    },
    { what: 'largest RSS with it', value: of('with', resident), unit: 'MB' },
    { what: 'largest RSS without it', value: of('without', resident), unit: 'MB' },
  ];
  return { benchmark: 'trace', figures, more: { rounds: found } };
}
