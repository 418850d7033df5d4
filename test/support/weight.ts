/** What a page costs until its first figures are there, over a line that is slow in both ways. */
import type { Page } from 'playwright-core';
import { until } from './process.ts';

export interface Weight {
  /** Of all that was loaded until then, as it came over the line, in bytes. */
  readonly bytes: number;
  /** How many answers had to be waited for, one after the other. */
  readonly roundTrips: number;
  readonly ms: number;
  /** What was loaded, by the ends of the addresses. */
  readonly files: readonly string[];
}

interface Timing {
  readonly name: string;
  readonly startTime: number;
  readonly responseStart: number;
  readonly transferSize: number;
}

/** Notes when the first figure is there, and what was loaded until then. */
const WATCH = `new MutationObserver((_, observer) => {
  if (!document.querySelector('#figures .value')?.textContent) return;
  observer.disconnect();
  const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  const done = all.filter(({ responseEnd }) => responseEnd > 0 || all.length === 1);
  window.firstFigures = { ms: performance.now(), timings: done.map((each) => each.toJSON()) };
}).observe(document, { subtree: true, childList: true, characterData: true });`;

/** Opens an address at 400 ms to and fro and 50 kB a second, as on a train. */
export async function weigh(page: Page, url: string): Promise<Weight> {
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Network.setCacheDisabled', { cacheDisabled: true });
  const line = { latency: 400, downloadThroughput: 50_000, uploadThroughput: 50_000 };
  await session.send('Network.emulateNetworkConditions', { offline: false, ...line });
  await page.addInitScript(WATCH);
  await page.goto(url, { waitUntil: 'commit' });
  // Not by waitForFunction, which the page's policy forbids.
  await until('the first figures', async () => Boolean(await page.evaluate('window.firstFigures')), 60_000);
  const { ms, timings } = (await page.evaluate('window.firstFigures')) as { ms: number; timings: Timing[] };
  return {
    bytes: timings.reduce((sum, { transferSize }) => sum + transferSize, 0),
    roundTrips: roundTripsOf(timings),
    ms: Math.round(ms),
    files: timings.map(({ name }) => name.split('/').at(-1) ?? name),
  };
}

/** The longest chain of requests of which each was sent when the one before was being answered. */
function roundTripsOf(timings: readonly Timing[]): number {
  const depths: { readonly answered: number; readonly depth: number }[] = [];
  for (const { startTime, responseStart } of timings.toSorted((a, b) => a.startTime - b.startTime)) {
    const before = depths.filter(({ answered }) => answered <= startTime).map(({ depth }) => depth);
    depths.push({ answered: responseStart, depth: 1 + Math.max(0, ...before) });
  }
  return Math.max(...depths.map(({ depth }) => depth));
}
