/** From POST until SNS accepts: single events at 500 per second, and batches at 10,000 events per second. */

import type { Figure, Result, Size } from './measure.ts';
import { createDaemon, type DaemonSetup, startEndpoint } from './rig.ts';

/** A rate, events per POST, and limits for p50 and p99 in milliseconds. */
interface Case {
  readonly rate: number;
  readonly batch: number;
  readonly p50?: number;
  readonly p99: number;
}

const CASES: readonly Case[] = [
  { rate: 500, batch: 1, p50: 5, p99: 25 },
  { rate: 10_000, batch: 20, p99: 100 },
];
const WARM_UP_SECONDS = 3;

export async function latency({ seconds }: Size): Promise<Result> {
  const figures: Figure[] = [];
  for (const one of CASES) figures.push(...(await latencyOf(one, seconds)));
  return { benchmark: 'latency', figures };
}

export async function latencyOf(
  { rate, batch, p50, p99 }: Case,
  seconds: number,
  setup: Omit<DaemonSetup, 'snsUrl'> = {},
): Promise<Figure[]> {
  await using endpoint = await startEndpoint();
  await using daemon = await createDaemon({ snsUrl: endpoint.url, ...setup });
  await daemon.start();
  // Enough sources that a batch rarely waits for the previous one of its source.
  const load = await daemon.load({ rate, batch, sources: 32, seconds: WARM_UP_SECONDS + seconds });
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_SECONDS * 1_000));
  await endpoint.timeLatencies();
  await load.done;
  const found = await endpoint.latencies();
  await daemon.stop();
  const at = `at ${rate.toLocaleString('en')} events/s in POSTs of ${batch}`;
  return [
    { what: `p50 ${at}`, value: found.p50, unit: 'ms', ...(p50 !== undefined && { target: { atMost: p50 } }) },
    { what: `p99 ${at}`, value: found.p99, unit: 'ms', target: { atMost: p99 } },
    { what: `most ${at}`, value: found.max, unit: 'ms' },
  ];
}
