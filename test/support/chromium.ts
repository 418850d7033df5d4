/** A real Chromium for tests of the console, and an eye on what a page must never do. */
import assert from 'node:assert/strict';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { install } from '../../scripts/install-servers.ts';

/** A page of its own, without cookies of others. */
export interface Visit extends AsyncDisposable {
  readonly page: Page;
  /**
   * Fails when the page asked another host for anything, broke its content security policy, or wrote an error.
   * @param expected errors that the test itself provoked
   */
  assertQuiet(expected?: RegExp): void;
}

export interface Chromium extends AsyncDisposable {
  visit(url: string, options?: BrowserContextOptions): Promise<Visit>;
}

export async function startChromium(): Promise<Chromium> {
  const { missing, why } = install(['chromium'], (text) => process.stderr.write(`${text}\n`));
  assert.deepEqual(missing, [], why);
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
  return {
    visit: (url, options) => visit(browser, url, options),
    [Symbol.asyncDispose]: () => browser.close(),
  };
}

async function visit(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Visit> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  // Others may be using this machine at the same time.
  page.setDefaultTimeout(20_000);
  const noises: string[] = [];
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(url).origin) noises.push(`asked elsewhere: ${request.url()}`);
  });
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) noises.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => noises.push(`uncaught: ${error.message}`));
  await page.goto(url);
  return {
    page,
    assertQuiet(expected) {
      assert.deepEqual(
        noises.filter((noise) => !expected?.test(noise)),
        [],
      );
    },
    [Symbol.asyncDispose]: () => context.close(),
  };
}
