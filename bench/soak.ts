/**
 * `npm run soak`: a daemon under a long steady load with regular reloads. Memory, open files and the files in its
 * folder must not grow.
 *
 * Usage: npm run soak [-- --minutes 30 --rate 5000 --reload 10]
 */
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { until } from '../test/support/process.ts';
import { clock, residentOf } from './measure.ts';
import { createDaemon, startEndpoint } from './rig.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    rate: { type: 'string', default: '5000' },
    reload: { type: 'string', default: '10' },
  },
});
const seconds = Number(values.minutes) * 60;
const reloadSeconds = Number(values.reload);

await using endpoint = await startEndpoint();
await using daemon = await createDaemon({ snsUrl: endpoint.url });
await daemon.start();
const load = await daemon.load({ rate: Number(values.rate), seconds });
const begin = clock();
let reloads = 0;
process.stdout.write('minute\tRSS MB\topen files\tfiles in folder\tbacklog\taccepted\n');
for (let minute = 1; minute <= seconds / 60; minute++) {
  while (clock() - begin < minute * 60_000) {
    await sleep(Math.min(reloadSeconds * 1_000, minute * 60_000 - (clock() - begin)));
    process.kill(daemon.pid, 'SIGHUP');
    reloads += 1;
  }
  const { accepted } = await endpoint.stats();
  const figures = [
    minute,
    Math.round(residentOf(daemon.pid)),
    readdirSync(`/proc/${daemon.pid}/fd`).length,
    readdirSync(daemon.folder).length,
    (await daemon.gauges()).backlog,
    accepted,
  ];
  process.stdout.write(`${figures.join('\t')}\n`);
}
const { acknowledged } = await load.done;
await until(
  'all to be published',
  async () => (await endpoint.stats()).accepted >= acknowledged && (await daemon.gauges()).backlog === 0,
  120_000,
);
const { accepted } = await endpoint.stats();
process.stdout.write(`${reloads} reloads; ${acknowledged} acknowledged, ${accepted} accepted by SNS\n`);
await daemon.stop();
