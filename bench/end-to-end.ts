/**
 * End to end: tap POSTs of 100 events → committed → published → settled, at SNS's largest quota and at maximum speed.
 */
import { until } from '../test/support/process.ts';
import { type Figure, median, type Result, type Size, slope } from './measure.ts';
import { createDaemon, type DaemonSetup, startEndpoint, type Watch, watch } from './rig.ts';

/** SNS's largest regional quota, in events per second. */
const QUOTA = 30_000;
/** Slightly above the quota, so that a daemon that keeps up is measured above it. */
const OFFERED = 30_300;
/** The events in transit of a tenth of a second; only a daemon that falls behind has more. */
const LARGEST_FINAL_BACKLOG = 3_000;
const WARM_UP_SECONDS = 5;

export async function endToEnd(size: Size): Promise<Result> {
  const paced = await underLoad(size, { rate: OFFERED });
  const fast = await underLoad(size, { rate: 0 });
  return {
    benchmark: 'end to end',
    figures: [
      ...figuresOf(`at ${OFFERED.toLocaleString('en')} events/s`, paced),
      ...figuresOf('as fast as it goes', fast).filter(({ what }) => !what.includes('backlog')),
    ],
    more: { paced: paced.samples, fast: fast.samples },
  };
}

/** Measures a daemon under load for `size.seconds`, after a warm-up; afterwards waits until the outbox is empty. */
export async function underLoad(
  { seconds }: Pick<Size, 'seconds'>,
  { rate, ...setup }: { rate: number } & Omit<DaemonSetup, 'snsUrl'>,
): Promise<Watch> {
  await using endpoint = await startEndpoint();
  await using daemon = await createDaemon({ snsUrl: endpoint.url, ...setup });
  await daemon.start();
  const load = await daemon.load({ rate, seconds: WARM_UP_SECONDS + seconds + 5 });
  await watch(daemon, endpoint, ({ second }) => second >= WARM_UP_SECONDS);
  const measured = await watch(daemon, endpoint, ({ second }) => second >= seconds, { load });
  const { acknowledged } = await load.done;
  await until(
    `all ${acknowledged} events to be published`,
    async () => (await endpoint.stats()).accepted >= acknowledged,
    120_000,
  );
  await daemon.stop();
  return measured;
}

/** The median of the event loop's 99th percentile in each second; skips the first sample, from before the load. */
export const loopDelayOf = (samples: Watch['samples']): number =>
  median(samples.slice(1).map(({ loopDelayMs }) => loopDelayMs));

function figuresOf(how: string, { accepted, seconds, cpuUs, loadCpuUs, samples }: Watch): Figure[] {
  const growth = slope(samples.map(({ second, backlog }) => [second, backlog]));
  return [
    { what: `rate ${how}`, value: accepted / seconds, unit: 'events/s', target: { atLeast: QUOTA } },
    { what: `daemon CPU ${how}`, value: cpuUs / accepted, unit: 'µs/event', target: { atMost: 30 } },
    { what: `the load's CPU ${how}`, value: loadCpuUs / accepted, unit: 'µs/event' },
    { what: `p99 of the loop's delay ${how}`, value: loopDelayOf(samples), unit: 'ms' },
    {
      what: `largest RSS ${how}`,
      value: Math.max(...samples.map(({ residentMb }) => residentMb)),
      unit: 'MB',
      target: { atMost: 300 },
    },
    { what: `growth of the backlog ${how}`, value: growth, unit: 'events/s' },
    {
      what: `backlog at the end ${how}`,
      value: samples.at(-1)?.backlog ?? Number.NaN,
      unit: 'events',
      target: { atMost: LARGEST_FINAL_BACKLOG },
    },
  ];
}
