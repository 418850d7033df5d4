/**
 * The cost of the console with much to show: 150 topics, 20,000 dead letters and 4,000 events per second, with and
 * without a page open in Chromium.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import type { NewDeadLetter } from '../src/outbox/dead-letters.ts';
import { sqliteOutbox } from '../src/outbox/sqlite/sqlite.ts';
import { startChromium } from '../test/support/chromium.ts';
import { clock, cpuOf, median, type Result, type Size } from './measure.ts';
import { createDaemon, startEndpoint } from './rig.ts';

const RATE = 4_000;
const HOSTS = 147;
const LETTERS = 20_000;
const ROUNDS = 3;
/** Limits for the page's CPU time and for the daemon's extra CPU time, as shares of a core. */
const MOST_PAGE = 1 / 3;
const MOST_DAEMON = 0.05;

export async function consoleCost({ seconds }: Size): Promise<Result> {
  const each = Math.max(Math.floor(seconds / ROUNDS / 2), 5);
  await using endpoint = await startEndpoint();
  await using daemon = await createDaemon({ snsUrl: endpoint.url, rest: sections(endpoint.url) });
  await fill(path.join(daemon.folder, 'outbox.db'));
  await daemon.start();
  const load = await daemon.load({ rate: RATE, batch: 50, hosts: HOSTS + 1, seconds: 2 * ROUNDS * (each + 10) });
  await using chromium = await startChromium();
  const found = { with: [] as number[], without: [] as number[], page: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    found.without.push((await shareOf(() => cpuOf(daemon.pid), each)) / 1e6);
    await using visit = await chromium.visit(daemon.adminUrl);
    await visit.page.locator('#plots canvas').first().waitFor();
    await sleep(3_000);
    let daemonShare = 0;
    const pageShare = await shareOf(
      () => pageCpu(visit.page),
      each,
      async (wait) => {
        daemonShare = await shareOf(
          () => cpuOf(daemon.pid),
          each,
          () => wait,
        );
      },
    );
    found.with.push(daemonShare / 1e6);
    found.page.push(pageShare);
  }
  process.kill(load.pid, 'SIGTERM');
  await load.done.catch(() => undefined);
  const [page, withPage, without] = [median(found.page), median(found.with), median(found.without)];
  const figures = [
    { what: 'of a core that the page takes', value: 100 * page, unit: '%', target: { atMost: 100 * MOST_PAGE } },
    {
      what: 'more that the daemon takes for it',
      value: 100 * (withPage / without - 1),
      unit: '%',
      target: { atMost: 100 * MOST_DAEMON },
    },
    { what: 'daemon CPU with a page', value: withPage, unit: 'cores' },
    { what: 'daemon CPU without one', value: without, unit: 'cores' },
  ];
  return { benchmark: 'console', figures, more: { rounds: found } };
}

/** How much a counter grows per second; `during` may run something meanwhile. */
async function shareOf(
  read: () => number | Promise<number>,
  seconds: number,
  during: (wait: Promise<unknown>) => Promise<unknown> = (wait) => wait,
): Promise<number> {
  const [before, begin] = [await read(), clock()];
  await during(sleep(seconds * 1_000));
  return (((await read()) - before) * 1_000) / (clock() - begin);
}

/** CPU time of the page's process and the GPU process, in seconds. */
async function pageCpu(page: Page): Promise<number> {
  const session = await page.context().browser()?.newBrowserCDPSession();
  const { processInfo } = (await session?.send('SystemInfo.getProcessInfo')) ?? { processInfo: [] };
  await session?.detach();
  return processInfo.filter(({ type }) => type !== 'browser').reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

const sections = (snsUrl: string): string =>
  Array.from(
    { length: HOSTS },
    (_, n) => `
[[host_config]]
host = "h${n + 1}.example.org"
[host_config.modules.mod_event_pusher.sns]
presence_updates_topic = "topic-${n + 1}"
pm_messages_topic = "topic-${n + 1}"
muc_messages_topic = "topic-${n + 1}"
sns_host = "${snsUrl}"
region = "eu-west-1"
account_id = "123456789012"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
`,
  ).join('');

/** Adds dead letters to an outbox that no daemon has open. */
async function fill(file: string): Promise<void> {
  const outbox = sqliteOutbox({ file, maxBytes: 1e9 });
  for (let first = 0; first < LETTERS; first += 1_000) {
    const letters = Array.from({ length: 1_000 }, (_, n): NewDeadLetter => {
      const event = { kind: 'message', from: `user${n}@h${n % HOSTS}.example.org/x`, body: 'x'.repeat(200) };
      const reason = n % 3 === 0 ? 'malformed' : 'plugin';
      return {
        eventId: `s/e/${first + n}`,
        topic: undefined,
        reason,
        detail: 'to: missing',
        attempts: 0,
        content: { kind: 'event', event },
      };
    });
    await outbox.deadLetters.put(letters);
  }
  await outbox.close();
}
