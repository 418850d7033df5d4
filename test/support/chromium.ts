/** A real Chromium for tests of the console; watches for things that a page must never do. */
import assert from 'node:assert/strict';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { install } from '../../scripts/install-servers.ts';

/** A new page without other pages' cookies. */
export interface Visit extends AsyncDisposable {
  readonly page: Page;
  /**
   * Fails if the page sent a request to another host, violated its content security policy, or logged an error.
   * @param expected errors that the test provokes
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
    executablePath: '/usr/bin/chromium-headless-shell',
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
  // This machine may be busy with other tests.
  page.setDefaultTimeout(60_000);
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
