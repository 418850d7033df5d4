/** Shared by all benchmarks: CPU time and memory of a process (from Linux's /proc), figures, percentiles. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** One measured figure and its target. */
export interface Figure {
  readonly what: string;
  readonly value: number;
  /** `×` for a ratio; ratios come first in the table. */
  readonly unit: string;
  readonly target?: { readonly atLeast: number } | { readonly atMost: number };
}

/** The extent of a benchmark. */
export interface Size {
  /** Length of a measurement under load. */
  readonly seconds: number;
  /** Size of the backlog to drain, in events. */
  readonly backlog: number;
  /** Folder for profiles. */
  readonly folder: string;
}

/** The figures of one benchmark. */
export interface Result {
  readonly benchmark: string;
  readonly figures: readonly Figure[];
  /** Other data worth keeping, such as time series or what was left out. */
  readonly more?: Readonly<Record<string, unknown>>;
}

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
const PAGE_BYTES = Number(execFileSync('getconf', ['PAGESIZE'], { encoding: 'utf8' }));

/** CPU time used by all threads of a process, user and system, in microseconds. */
export function cpuOf(pid: number): number {
  // Count the fields after the command's name, which may contain anything: utime is the 14th, stime the 15th (proc(5)).
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1_000_000;
}

/** Resident memory of a process, in MB (10^6 bytes). */
export function residentOf(pid: number): number {
  return (Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES) / 1_000_000;
}

/** The p-quantile of sorted values, p in [0, 1]. */
export function quantile(sorted: ArrayLike<number>, p: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? Number.NaN;
}

/** The median of values in any order. */
export const median = (values: readonly number[]): number => quantile(Float64Array.from(values).sort(), 0.5);

/**
 * The present time in milliseconds since the Unix epoch, with fractions; comparable between processes of this machine.
 */
export const clock = (): number => performance.timeOrigin + performance.now();

/** The growth of y per unit of x: the slope of the least-squares line. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (axis: 0 | 1) => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
  const [mx, my] = [mean(0), mean(1)];
  const over = points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
  return over === 0 ? 0 : points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) / over;
}

/** Writes time series and single runs beside the figures, where git ignores them. */
export function writeSeries(folder: string, name: string, series: unknown): void {
  mkdirSync(path.join(folder, 'series'), { recursive: true });
  writeFileSync(path.join(folder, 'series', `${name}.json`), `${JSON.stringify(series)}\n`);
}

/** Whether a figure meets its target; undefined without a target. */
export function met({ value, target }: Figure): boolean | undefined {
  if (!target) return undefined;
  return 'atLeast' in target ? value >= target.atLeast : value <= target.atMost;
}
