/** `npm run bench`: runs the benchmarks one after another and writes the results. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cluster } from './cluster.ts';
import { compare } from './compare.ts';
import { consoleCost } from './console.ts';
import { drain } from './drain.ts';
import { endToEnd } from './end-to-end.ts';
import { latency } from './latency.ts';
import { type Result, type Size, writeSeries } from './measure.ts';
import { peers } from './peers/peers.ts';
import { profile } from './profile.ts';
import { publisherAlone } from './publisher.ts';
import { slowDisk } from './slow-disk.ts';
import { table } from './table.ts';
import { templates } from './templates.ts';
import { trace } from './trace.ts';

const BENCHMARKS: Record<string, (size: Size) => Promise<Result>> = {
  publisher: publisherAlone,
  'end-to-end': endToEnd,
  latency,
  drain,
  'slow-disk': slowDisk,
  profile,
  templates,
  trace,
  console: consoleCost,
  peers,
  cluster,
};

const HELP = `npm run bench -- [benchmark…] [options]

Benchmarks (without a name all but \`cluster\`, which needs RabbitMQ): ${Object.keys(BENCHMARKS).join(', ')}

  --seconds <n>  length of each measurement under load (60)
  --backlog <n>  events of the backlog that is drained (1000000)
  --before <dir> for \`compare\`, which only runs when it is named: a checkout of the commit to compare this one with
  --rounds <n>   how often \`compare\` measures each side (5)
  --quick        5 seconds and 100,000 events, written to bench/results/quick
  --help         this
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string' },
    backlog: { type: 'string' },
    before: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    quick: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.before !== undefined) {
  const { before } = values;
  const rounds = Number(values.rounds);
  BENCHMARKS.compare = ({ seconds, backlog }) => compare({ before, rounds, seconds, backlog });
}
const unknown = positionals.filter((name) => !BENCHMARKS[name]);
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) process.stderr.write(`no such benchmark: ${unknown.join(', ')}\n`);
  process.stdout.write(HELP);
  process.exit(unknown.length > 0 ? 2 : 0);
}

const here = path.dirname(fileURLToPath(import.meta.url));
const folder = path.join(here, 'results', values.quick ? 'quick' : '');
mkdirSync(folder, { recursive: true });
const size: Size = {
  seconds: Number(values.seconds ?? (values.quick ? 5 : 60)),
  backlog: Number(values.backlog ?? (values.quick ? 100_000 : 1_000_000)),
  folder,
};
// `compare` needs another checkout, `cluster` needs RabbitMQ.
const whole = Object.keys(BENCHMARKS).filter((name) => name !== 'compare' && name !== 'cluster');
for (const name of positionals.length > 0 ? positionals : whole) {
  process.stderr.write(`${name} …\n`);
  const result = await (BENCHMARKS[name] as (size: Size) => Promise<Result>)(size);
  const machine = {
    processor: cpus()[0]?.model,
    cores: availableParallelism(),
    memoryMb: Math.round(totalmem() / 1e6),
    node: process.version,
    // A value well above the number of cores means that something else was running.
    loadAverage: loadavg(),
  };
  const kept = {
    at: new Date().toISOString(),
    size: { seconds: size.seconds, backlog: size.backlog },
    machine,
    benchmark: result.benchmark,
    figures: result.figures,
  };
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(kept, null, 2)}\n`);
  if (result.more) writeSeries(folder, name, result.more);
  process.stdout.write(`${table([result])}\n`);
  if (result.more?.skipped) process.stderr.write(`${name} skipped: ${result.more.skipped}\n`);
}

// The table includes earlier results, so that one benchmark can be repeated alone.
const files = Object.keys(BENCHMARKS).map((name) => path.join(folder, `${name}.json`));
const kept = files.filter((file) => existsSync(file)).map((file) => JSON.parse(readFileSync(file, 'utf8')) as Result);
writeFileSync(path.join(folder, 'table.md'), table(kept));
