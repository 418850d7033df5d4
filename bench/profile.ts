/** The daemon's CPU time under the end-to-end load: a flame graph and the most expensive functions. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { underLoad } from './end-to-end.ts';
import { type CpuProfile, dearest, flameGraph } from './flame.ts';
import type { Result, Size } from './measure.ts';

const RATE = 30_000;
const LISTED = 40;

export async function profile(size: Size): Promise<Result> {
  const folder = mkdtempSync(path.join(tmpdir(), 'pusher-profile-'));
  try {
    const nodeOptions = ['--cpu-prof', `--cpu-prof-dir=${folder}`, '--cpu-prof-interval=500'];
    // A longer profile shows nothing new and is slow to read.
    const seconds = Math.min(size.seconds, 20);
    await underLoad({ ...size, seconds }, { rate: RATE, nodeOptions });
    const [file] = readdirSync(folder);
    if (!file) throw new Error('the daemon left no profile');
    const read = JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as CpuProfile;
    writeFileSync(path.join(size.folder, 'flame.svg'), flameGraph(read, `the daemon at ${RATE} events/s`));
    const functions = dearest(read);
    const lines = functions.slice(0, LISTED).map(({ share, name, at }) => `${percent(share)}  ${name}  ${at}`);
    writeFileSync(path.join(size.folder, 'dearest.txt'), `share of busy time, by itself\n${lines.join('\n')}\n`);
    const figures = functions.slice(0, 10).map(({ share, name }) => ({ what: name, value: share * 100, unit: '%' }));
    return { benchmark: 'profile', figures };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const percent = (share: number): string => `${(share * 100).toFixed(1).padStart(5)} %`;
