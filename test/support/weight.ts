/** The cost of a page until its first figures, over a slow connection with high latency. */
import type { Page } from 'playwright-core';
import { until } from './process.ts';

export interface Weight {
  /** Bytes transferred until then. */
  readonly bytes: number;
  /** Length of the chain of requests that wait for each other. */
  readonly roundTrips: number;
  readonly ms: number;
  /** The loaded files, by the ends of their URLs. */
  readonly files: readonly string[];
}

interface Timing {
  readonly name: string;
  readonly startTime: number;
  readonly responseStart: number;
  readonly transferSize: number;
}

/** Notes the time of the first figure, and what was loaded until then. */
const WATCH = `new MutationObserver((_, observer) => {
  if (!document.querySelector('#figures .value')?.textContent) return;
  observer.disconnect();
  const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  const done = all.filter(({ responseEnd }) => responseEnd > 0 || all.length === 1);
  window.firstFigures = { ms: performance.now(), timings: done.map((each) => each.toJSON()) };
}).observe(document, { subtree: true, childList: true, characterData: true });`;

/** Opens an address with 400 ms round-trip time and 50 kB per second, as on a train. */
export async function weigh(page: Page, url: string): Promise<Weight> {
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Network.setCacheDisabled', { cacheDisabled: true });
  const line = { latency: 400, downloadThroughput: 50_000, uploadThroughput: 50_000 };
  await session.send('Network.emulateNetworkConditions', { offline: false, ...line });
  await page.addInitScript(WATCH);
  await page.goto(url, { waitUntil: 'commit' });
  // Not with waitForFunction, which the page's content security policy forbids.
  await until('the first figures', async () => Boolean(await page.evaluate('window.firstFigures')), 60_000);
  const { ms, timings } = (await page.evaluate('window.firstFigures')) as { ms: number; timings: Timing[] };
  return {
    bytes: timings.reduce((sum, { transferSize }) => sum + transferSize, 0),
    roundTrips: roundTripsOf(timings),
    ms: Math.round(ms),
    files: timings.map(({ name }) => name.split('/').at(-1) ?? name),
  };
}

/** The longest chain of requests, each sent after the previous one was answered. */
function roundTripsOf(timings: readonly Timing[]): number {
  const depths: { readonly answered: number; readonly depth: number }[] = [];
  for (const { startTime, responseStart } of timings.toSorted((a, b) => a.startTime - b.startTime)) {
    const before = depths.filter(({ answered }) => answered <= startTime).map(({ depth }) => depth);
    depths.push({ answered: responseStart, depth: 1 + Math.max(0, ...before) });
  }
  return Math.max(...depths.map(({ depth }) => depth));
}
