/** Many tabs of one browser with the same console share one stream, even if one closes or hangs. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Page } from 'playwright-core';
import { button, confirm, malformed, says, shows, TOKEN, until, useConsole } from '../support/console.ts';

describe('tabs of a browser', () => {
  const pusher = useConsole();

  /** Opens tabs in the same browser context. */
  const openTabs = async (first: Page, count: number): Promise<Page[]> => {
    const tabs = [first];
    while (tabs.length < count) {
      const page = await first.context().newPage();
      page.setDefaultTimeout(60_000);
      await page.goto(first.url());
      tabs.push(page);
    }
    return tabs;
  };
  const eachShows = async (tabs: readonly Page[], text: RegExp) => {
    await Promise.all(tabs.map((page) => shows(page.locator('#figures'), text)));
  };
  /** How many of the tabs have an open stream. */
  const leaders = async (tabs: readonly Page[]): Promise<number> => {
    const each = await Promise.all(tabs.map((page) => page.evaluate(STREAMS)));
    return each.filter((open) => open === true).length;
  };

  it('ten tabs show live figures and react to clicks with one stream', async () => {
    await pusher.start();
    await pusher.post(malformed('1'));
    const first = await pusher.open();
    await first.context().addInitScript(COUNT_STREAMS);
    await first.reload();
    const tabs = await openTabs(first, 10);
    await pusher.post(malformed('2'), says('one'));
    await eachShows(tabs, /Dead letters\s+2\s/);
    assert.equal(await leaders(tabs), 1);
    const click = async (page: Page) => {
      await button(page, 'Open dead letter 1').click();
      await page.getByRole('button', { name: 'Show content' }).click();
      await shows(page.locator('#letter pre'), '"from": 17');
      await page.keyboard.press('Escape');
    };
    await Promise.all(tabs.map(click));

    // Each has its own filter, and changing it breaks no stream.
    const [, second, third] = tabs as [Page, Page, Page];
    await second.getByLabel('Only with').fill('nobody@localhost');
    await shows(second.locator('#tail .missed'), /None of \d+ matched/);
    await third.getByLabel('Show message bodies').check();
    await shows(third.locator('#tail tbody'), '"message":"one"');
    assert.ok(!(await first.content()).includes('"message":"one"'));
    assert.equal(await leaders(tabs), 1);

    await button(tabs[9] as Page, 'Delete all 2').click();
    await confirm(tabs[9] as Page, 'Delete');
    await eachShows(tabs, /Dead letters\s+0\s/);
  });

  it('another tab leads when the leading one is closed, hidden or frozen', async () => {
    await pusher.start();
    const first = await pusher.open();
    await first.context().addInitScript(COUNT_STREAMS);
    await first.reload();
    let tabs = await openTabs(first, 4);
    let letters = 0;
    const goesOn = async () => {
      await pusher.post(malformed('x'));
      letters += 1;
      await eachShows(tabs, new RegExp(`Dead letters\\s+${letters}\\s`));
      await until('one to lead', async () => (await leaders(tabs)) === 1);
    };
    const takeLeader = async (): Promise<Page> => {
      for (const page of tabs)
        if (await page.evaluate(STREAMS)) {
          tabs = tabs.filter((other) => other !== page);
          return page;
        }
      return assert.fail('no tab leads');
    };
    await goesOn();
    await (await takeLeader()).close();
    await goesOn();
    const hidden = await takeLeader();
    await hidden.evaluate(`(${HIDE})(true)`);
    await shows(hidden.locator('#health'), 'Asleep');
    await goesOn();
    const frozen = await takeLeader();
    const session = await frozen.context().newCDPSession(frozen);
    await session.send('Debugger.enable');
    await session.send('Debugger.pause');
    void frozen.evaluate('1').catch(() => undefined);
    await goesOn();
    await session.send('Debugger.disable');
    // It notices that another tab leads now, and follows that one.
    tabs.push(frozen);
    await hidden.evaluate(`(${HIDE})(false)`);
    tabs.push(hidden);
    await goesOn();
  });

  it('tabs log in and out independently, and none leads without a session', async () => {
    pusher.quietBut = /status of 401/;
    await pusher.start(`token = "${TOKEN}"`);
    const first = await pusher.open();
    await first.getByLabel(/^Token/).fill(TOKEN);
    await first.keyboard.press('Enter');
    await shows(first.locator('#health'), 'Ready');
    const second = await first.context().newPage();
    await second.goto(first.url());
    await shows(second.locator('#health'), 'Ready');
    await button(first, 'Log out').click();
    await second.getByLabel(/^Token/).waitFor();
    await shows(second.locator('#health'), 'Not logged in');
  });
});

/** Counts the page's open streams. */
const COUNT_STREAMS = `(() => {
  const open = new Set();
  const Real = EventSource;
  window.EventSource = class extends Real {
    constructor(...parameters) { super(...parameters); open.add(this); }
    close() { open.delete(this); super.close(); }
  };
  window.hasStream = () => open.size > 0;
})()`;
const STREAMS = 'window.hasStream()';

/** Makes the page believe that it is in the background, or not. */
const HIDE = `(hidden) => {
  Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
  document.dispatchEvent(new Event('visibilitychange'));
}`;
