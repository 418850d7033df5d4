/** The same load and latency on this disk and on one with 2 ms more for each fsync, in one run. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { underLoad } from './end-to-end.ts';
import { latencyOf } from './latency.ts';
import { type Figure, type Result, type Size, slope } from './measure.ts';

const SOURCE = fileURLToPath(new URL('./slow-fsync.c', import.meta.url));
const RATE = 30_000;

export async function slowDisk(size: Size): Promise<Result> {
  const folder = mkdtempSync(path.join(tmpdir(), 'pusher-slow-'));
  try {
    const library = path.join(folder, 'slow-fsync.so');
    try {
      execFileSync('cc', ['-shared', '-fPIC', '-O2', '-o', library, SOURCE, '-ldl']);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return {
        benchmark: 'slow disk',
        figures: [],
        more: { skipped: 'there is no C compiler (cc) to make the slow disk with' },
      };
    }
    const here = await measure('on this disk', size, {});
    const slow = await measure('with 2 ms more a sync', size, { LD_PRELOAD: library });
    const ratio = (slow[0] as Figure).value / (here[0] as Figure).value;
    return {
      benchmark: 'slow disk',
      figures: [{ what: 'rate, slow : fast', value: ratio, unit: '×' }, ...here, ...slow],
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measure(how: string, size: Size, env: Record<string, string>): Promise<Figure[]> {
  const fast = await underLoad(size, { rate: 0, env });
  const paced = await underLoad(size, { rate: RATE, env });
  const growth = slope(paced.samples.map(({ second, backlog }) => [second, backlog]));
  const latencies = await latencyOf({ rate: 500, batch: 1, p50: 5, p99: 25 }, size.seconds, { env });
  return [
    { what: `rate as fast as it goes ${how}`, value: fast.accepted / fast.seconds, unit: 'events/s' },
    { what: `daemon CPU ${how}`, value: fast.cpuUs / fast.accepted, unit: 'µs/event' },
    { what: `growth of the backlog at ${RATE.toLocaleString('en')} events/s ${how}`, value: growth, unit: 'events/s' },
    // No targets: those are for an unmodified disk.
    ...latencies.map(({ target: _, what, ...figure }) => ({ ...figure, what: `${what} ${how}` })),
  ];
}
