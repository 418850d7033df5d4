/** The console in a real browser, of a real daemon: what a person on call sees and does. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { BrowserContextOptions, Locator, Page } from 'playwright-core';
import { type Chromium, startChromium, type Visit } from '../support/chromium.ts';
import { createDaemon, type Daemon } from '../support/daemon.ts';
import { until } from '../support/process.ts';
import { type Fault, type StubSns, startStubSns } from '../support/stub-sns.ts';

const TOKEN = 'a-token-for-the-console';
const SECRET_TALK = 'meet me at the old mill';

describe('the console', () => {
  let chromium: Chromium;
  let sns: StubSns;
  let daemon: Daemon;
  let fault: ((topicArn: string) => Fault | undefined) | undefined;
  /** Messages with this in them are refused for good. */
  let refused: string | undefined;
  let accepted: string[];
  let visits: Visit[];
  let quietBut: RegExp | undefined;
  let seq = 1;

  before(async () => {
    chromium = await startChromium();
    sns = await startStubSns({
      fault: ({ topicArn }) => fault?.(topicArn),
      refuses: ({ message }) => (refused !== undefined && message.includes(refused) ? 'entry' : undefined),
      accepted: ({ message }) => accepted.push(message),
    });
  });
  after(async () => {
    await chromium[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    fault = undefined;
    refused = undefined;
    accepted = [];
    visits = [];
    quietBut = undefined;
    seq = 1;
  });
  afterEach(async () => {
    try {
      for (const visit of visits) visit.assertQuiet(quietBut);
    } finally {
      for (const visit of visits) await visit[Symbol.asyncDispose]();
      await daemon[Symbol.asyncDispose]();
    }
  });

  const start = async (rest = '') => {
    daemon = await createDaemon({ url: sns.url, region: 'eu-west-1', accountId: '123456789012' }, { rest });
    await daemon.start();
  };
  const open = async (options?: BrowserContextOptions): Promise<Page> => {
    const visit = await chromium.visit(daemon.adminUrl, options);
    visits.push(visit);
    return visit.page;
  };
  const post = async (...events: Record<string, unknown>[]) => {
    const complete = events.map((event) => ({ at: Date.now(), host: 'localhost', ...event }));
    const { status } = await daemon.post({ source: 'test@chat1', epoch: 'e1', first_seq: seq, events: complete });
    assert.equal(status, 200);
    seq += events.length;
  };
  const says = (body: string, type = 'chat') => ({
    kind: 'message',
    type,
    from: 'alice@localhost/phone',
    to: type === 'chat' ? 'bob@localhost' : 'room@conference.localhost',
    body,
  });
  /** Malformed: it becomes a dead letter at once. */
  const malformed = (body: string) => ({ ...says(body), from: 17 });

  const shows = (locator: Locator, text: string | RegExp) =>
    until(
      `${locator} to show ${text}`,
      async () => {
        const shown = (await locator.allInnerTexts()).join('\n');
        return typeof text === 'string' ? shown.includes(text) : text.test(shown);
      },
      30_000,
    );
  const rows = (page: Page, section: string) => page.locator(`${section} tbody tr`);
  const hasRows = (page: Page, section: string, count: number) =>
    until(`${count} rows in ${section}`, async () => (await rows(page, section).count()) === count, 30_000);
  const button = (page: Page, name: string | RegExp) => page.getByRole('button', { name });
  const confirm = (page: Page, name: string) => page.locator('#confirm').getByRole('button', { name }).click();
  const result = (page: Page) => page.locator('#letters .result');

  it('draws what flows, and still has it after a reload', async () => {
    await start();
    const page = await open();
    const plot = page.getByRole('img', { name: /^Events per second/ });
    await plot.waitFor();
    const flat = Number(await page.evaluate(LINE_HEIGHT));
    await post(...Array.from({ length: 40 }, (_, n) => says(`${n}`)));
    const peak = /In: now [\d.]+\/s, at most (?!0\/s)([\d.]+)\/s; Out: now [\d.]+\/s, at most (?!0\/s)[\d.]+\/s/;
    const label = async () => String(await plot.getAttribute('aria-label'));
    await until('the plot to tell of events', async () => peak.test(await label()), 30_000);
    await until('the line to rise', async () => Number(await page.evaluate(LINE_HEIGHT)) > flat + 20);
    await shows(page.locator('#figures'), /Event to SNS\s+[\d.]+ m?s/);
    await shows(page.locator('#sources'), 'test@chat1');
    assert.match(
      String(await page.getByRole('img', { name: /^Event to SNS/ }).getAttribute('aria-label')),
      /Median: now/,
    );

    const before = peak.exec(await label())?.[1];
    await page.reload();
    await until('the peak to be there again', async () => peak.exec(await label())?.[1] === before, 30_000);
    await page.getByText('15 min').click();
    assert.equal(await page.getByRole('radio', { name: '15 min' }).isChecked(), true);
  });

  it('shows a paused topic, why it is and what to do, and tries it when told to', async () => {
    await start();
    fault = (arn) => (arn.endsWith('user_message_sent') ? { kind: 'error', status: 404, code: 'NotFound' } : undefined);
    const page = await open();
    await page.getByRole('status').getByText('Ready', { exact: true }).waitFor();
    await post(says('one'), says('two', 'groupchat'));
    const row = rows(page, '#topics').filter({ hasText: 'user_message_sent' });
    await shows(row, /Paused\s+NotFound: HTTP 404/);
    await shows(row, 'What to do: create the topic, or correct its name, region or account_id');
    await shows(row.locator('td').nth(2), '1');
    await shows(rows(page, '#topics').filter({ hasText: 'user_messagegroup_sent' }), 'Open');
    await shows(page.locator('#problems'), /Not ready\s+topic arn:.*user_message_sent: paused: NotFound/);
    assert.match(await page.title(), /^1 problem – /);

    fault = undefined;
    // It may come back by itself at the same moment, and say so.
    quietBut = /status of 409/;
    await button(page, 'Try user_message_sent now')
      .click({ timeout: 2_000 })
      .catch(() => undefined);
    await shows(row, 'Open');
    await until('the problem to go', () => page.locator('#problems').isHidden(), 30_000);
    assert.deepEqual(accepted.filter((message) => message.includes('one')).length, 1);
  });

  it('shows a hole in the numbers of a source', async () => {
    await start();
    await post(says('first'));
    seq += 3;
    await post(says('fifth'));
    const page = await open();
    await shows(rows(page, '#sources'), /test@chat1\s.*\s5\s+1 hole: 3 events lost\s+e1/s);
  });

  it('opens a dead letter, shows what it holds only when asked, and replays it', async () => {
    await start();
    refused = SECRET_TALK;
    await post(says(SECRET_TALK), malformed('x'));
    const page = await open();
    await hasRows(page, '#letters', 2);
    await page.getByLabel('Reason').selectOption('InvalidParameter');
    await hasRows(page, '#letters', 1);
    await button(page, /^Open dead letter/).click();
    const dialog = page.locator('#letter');
    await shows(dialog, 'user_message_sent');
    assert.ok(!(await page.content()).includes(SECRET_TALK));
    await button(page, 'Show content').click();
    await shows(dialog.locator('pre'), SECRET_TALK);

    refused = undefined;
    await dialog.getByRole('button', { name: 'Replay' }).click();
    await shows(page.locator('#confirm'), 'Replay dead letter');
    assert.deepEqual(accepted, []);
    await confirm(page, 'Replay');
    await shows(result(page), 'Replayed 1 dead letter: on the way to SNS again.');
    await until('SNS to have it', () => accepted.length === 1);
    await hasRows(page, '#letters', 0);
    await page.getByLabel('Reason').selectOption('');
    await hasRows(page, '#letters', 1);
    await shows(rows(page, '#letters'), 'malformed');
    assert.match(
      daemon.output(),
      /"by":"local","from":"127.0.0.1","deadLetter":\d+,"msg":"admin: content of a dead letter shown"/,
    );
    assert.match(daemon.output(), /"ids":\[\d+\],"count":1,"msg":"admin: replay of dead letters asked for"/);
    assert.ok(!daemon.output().includes(SECRET_TALK));
  });

  it('says when a replay only made new dead letters', async () => {
    await start();
    refused = 'never';
    await post(says('never'));
    const page = await open();
    await hasRows(page, '#letters', 1);
    await button(page, 'Replay all 1').click();
    await confirm(page, 'Replay');
    await shows(result(page), 'Replayed 1 dead letter: on the way to SNS again. 1 dead letter is new since then.');
    await hasRows(page, '#letters', 1);
  });

  it('asks before it deletes one, several, or all of a reason', async () => {
    await start();
    refused = 'never';
    await post(says('never'), malformed('1'), malformed('2'), malformed('3'), malformed('4'));
    const page = await open();
    await hasRows(page, '#letters', 5);
    const boxes = page.getByRole('checkbox', { name: /^Select dead letter/ });
    // The newest is what SNS refused.
    await boxes.nth(1).check();
    await boxes.nth(2).check();
    await button(page, 'Delete selected (2)').click();
    await shows(page.locator('#confirm'), 'Delete 2 dead letters?');
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Cancel');
    await page.keyboard.press('Escape');
    await button(page, 'Delete selected (2)').click();
    await confirm(page, 'Cancel');
    assert.equal(await rows(page, '#letters').count(), 5);
    await button(page, 'Delete selected (2)').click();
    await confirm(page, 'Delete');
    await shows(result(page), 'Deleted 2 dead letters.');
    await hasRows(page, '#letters', 3);

    await page.getByLabel('Reason').selectOption('malformed');
    await hasRows(page, '#letters', 2);
    await button(page, 'Delete all 2 that match').click();
    await shows(page.locator('#confirm'), 'Delete all 2 dead letters of reason malformed?');
    // What comes while the question stands was not in it.
    await post(malformed('5'));
    await until('it to be kept', async () => (await listed()).length === 4);
    await confirm(page, 'Delete');
    await shows(result(page), 'Deleted 2 dead letters.');
    await until('the others to be left', async () => (await listed()).join() === 'malformed,InvalidParameter');
  });

  const listed = async (): Promise<string[]> => {
    const { letters } = (await (await fetch(`${daemon.adminUrl}/api/dead-letters`)).json()) as {
      letters: { reason: string }[];
    };
    return letters.map(({ reason }) => reason);
  };

  it('turns the pages of many dead letters', async () => {
    await start();
    await post(...Array.from({ length: 45 }, (_, n) => malformed(`${n}`)));
    const page = await open();
    await hasRows(page, '#letters', 20);
    const first = () => rows(page, '#letters').first().locator('td').nth(4).innerText();
    const newest = await first();
    assert.match(newest, /e1\/45$/);
    assert.equal(await button(page, 'Newer').isDisabled(), true);
    await button(page, 'Older').click();
    await until('the second page', async () => /e1\/25$/.test(await first()));
    await button(page, 'Older').click();
    await hasRows(page, '#letters', 5);
    assert.equal(await button(page, 'Older').isDisabled(), true);
    await page.getByLabel('Select all on this page').check();
    await button(page, 'Delete selected (5)').click();
    await confirm(page, 'Delete');
    await shows(result(page), 'Deleted 5 dead letters.');
    // The page is empty now: it goes back to the first.
    await until('the first page', async () => (await first()) === newest);
  });

  it('shows notifications as they go, and what people wrote only when asked', async () => {
    await start();
    const page = await open();
    const received: string[] = [];
    await page.route('**/api/live**', async (route) => {
      received.push(route.request().url());
      await route.continue();
    });
    await shows(page.locator('#tail .empty'), 'Nothing was published');
    await post(says(SECRET_TALK), { kind: 'presence', jid: 'bob@localhost/laptop', present: true });
    await hasRows(page, '#tail', 2);
    await shows(rows(page, '#tail'), /user_message_sent\s+alice@localhost\s.*test@chat1\/e1\/1/);
    assert.ok(!(await page.content()).includes(SECRET_TALK));
    assert.ok(!(await feed('lines')).includes(SECRET_TALK), 'nor does the daemon tell the page');

    await page.getByLabel('Show message bodies').check();
    await shows(rows(page, '#tail'), SECRET_TALK);
    assert.match(received.join(), /tail=bodies/);
    await page.getByLabel('Only with').fill('bob@localhost');
    await until('the filter to work', async () => (await rows(page, '#tail').filter({ visible: true }).count()) === 2);
    await page.getByLabel('Only with').fill('presence_updated');
    await until('the filter to work', async () => (await rows(page, '#tail').filter({ visible: true }).count()) === 1);
    await button(page, 'Pause').click();
    await post(says('later'));
    await shows(page.locator('#tail .missed'), '1 more passed');
    assert.equal(await rows(page, '#tail').count(), 2);
    await page.getByLabel('Show message bodies').uncheck();
    await until('bodies to go', async () => !(await page.content()).includes(SECRET_TALK), 30_000);
  });

  /** What the live feed says first. */
  const feed = async (tail: string): Promise<string> => {
    const { body } = await fetch(`${daemon.adminUrl}/api/live?tail=${tail}`);
    let text = '';
    for await (const chunk of body as ReadableStream<Uint8Array>) {
      text += Buffer.from(chunk);
      if (/event: notifications\n.*\n\n/.test(text)) break;
    }
    return text;
  };

  it('lets in who has the token, and nobody else', async () => {
    quietBut = /status of 401/;
    await start(`token = "${TOKEN}"`);
    const page = await open();
    const token = page.getByLabel(/^Token/);
    await token.waitFor();
    assert.equal(await page.locator('main').isHidden(), true);
    await token.fill('a-token-that-is-wrong');
    await page.keyboard.press('Enter');
    await shows(page.locator('#login-result'), 'Not logged in: this is not the token');
    await token.fill(TOKEN);
    await button(page, 'Log in').click();
    await page.locator('main').waitFor();
    await hasRows(page, '#topics', 3);
    assert.equal(await page.evaluate('document.cookie'), '', 'scripts do not get the session');
    await page.reload();
    await hasRows(page, '#topics', 3);

    await button(page, 'Log out').click();
    await token.waitFor();
    assert.equal(await page.locator('main').isHidden(), true);
    await page.reload();
    await token.waitFor();
  });

  it('leaves nothing of what was seen in the page after a logout', async () => {
    await start(`token = "${TOKEN}"`);
    const page = await open();
    const logIn = async () => {
      await page.getByLabel(/^Token/).fill(TOKEN);
      await page.keyboard.press('Enter');
      await hasRows(page, '#topics', 3);
    };
    await logIn();
    await post(says(SECRET_TALK), malformed(SECRET_TALK));
    await hasRows(page, '#letters', 1);
    const bodies = page.getByLabel('Show message bodies');
    await bodies.check();
    await shows(rows(page, '#tail'), SECRET_TALK);
    await button(page, 'Open dead letter 1').click();
    await button(page, 'Show content').click();
    await shows(page.locator('#letter pre'), SECRET_TALK);
    await page.keyboard.press('Escape');
    assert.ok((await page.content()).includes(SECRET_TALK));

    await button(page, 'Log out').click();
    await page.getByLabel(/^Token/).waitFor();
    assert.ok(!(await page.content()).includes(SECRET_TALK));
    assert.deepEqual([await rows(page, '#tail').count(), await rows(page, '#letters').count()], [0, 0]);
    await logIn();
    await hasRows(page, '#letters', 1);
    await hasRows(page, '#tail', 1);
    assert.equal(await bodies.isChecked(), false);
    assert.ok(!(await page.content()).includes(SECRET_TALK));
  });

  it('asks for the token again when the session has ended', async () => {
    quietBut = /status of 401|ERR_(CONNECTION|INCOMPLETE|EMPTY)/;
    await start(`token = "${TOKEN}"`);
    const page = await open();
    await page.getByLabel(/^Token/).fill(TOKEN);
    await page.keyboard.press('Enter');
    await hasRows(page, '#topics', 3);
    await daemon.stop();
    await page.getByText('Connection lost').waitFor();
    await daemon.start();
    await page.getByLabel(/^Token/).waitFor();
  });

  it('connects again after a restart of the daemon', async () => {
    quietBut = /ERR_(CONNECTION|INCOMPLETE|EMPTY)/;
    await start();
    const page = await open();
    await page.getByText('Ready', { exact: true }).waitFor();
    await daemon.kill();
    await page.getByText('Connection lost').waitFor();
    await daemon.start();
    await page.getByText('Ready', { exact: true }).waitFor();
  });

  it('can be used with the keyboard alone', async () => {
    await start();
    await post(malformed('1'));
    const page = await open();
    await hasRows(page, '#letters', 1);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the content');
    await page.keyboard.press('Enter');
    const names: string[] = [];
    const opener = await button(page, /^Open dead letter/).getAttribute('aria-label');
    for (let step = 0; step < 40 && names.at(-1) !== opener; step++) {
      await page.keyboard.press('Tab');
      names.push(String(await page.evaluate('document.activeElement.ariaLabel ?? document.activeElement.name ?? ""')));
      const outline = await page.evaluate(
        '[document.activeElement, document.activeElement.nextElementSibling].some((e) => e && getComputedStyle(e).outlineStyle !== "none")',
      );
      assert.ok(outline, `the focus is seen on ${names.at(-1)}`);
    }
    assert.deepEqual(names, ['range', 'reason', 'topic', 'replay-all', 'delete-all', 'select-page', '', opener]);
    await page.keyboard.press('Enter');
    await page.locator('#letter').waitFor();
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate('document.activeElement.ariaLabel'), opener, 'the focus is back where it was');
  });

  for (const colorScheme of ['light', 'dark'] as const)
    it(`can be read in ${colorScheme} colours, on a phone and at 400 %`, async () => {
      await start();
      fault = (arn) => (arn.endsWith('message_sent') ? { kind: 'error', status: 404, code: 'NotFound' } : undefined);
      await post(says('one'), malformed('1'), { kind: 'presence', jid: 'bob@localhost/laptop', present: true });
      seq += 2;
      await post(says('two', 'groupchat'));
      const page = await open({ colorScheme, viewport: { width: 1280, height: 900 } });
      await shows(rows(page, '#topics'), 'Paused');
      await hasRows(page, '#letters', 1);
      await hasRows(page, '#tail', 2);
      assert.deepEqual(await page.evaluate(FAINT), []);
      // 1280 px at 400 % are 320 (WCAG 2.2, 1.4.10).
      for (const width of [1_280, 375, 320]) {
        await page.setViewportSize({ width, height: 700 });
        assert.ok(Number(await page.evaluate('document.documentElement.scrollWidth')) <= width, `sideways at ${width}`);
      }
    });
});

/** How many rows of pixels the blue line of the first plot takes: few while it is flat. */
const LINE_HEIGHT = `(() => {
  const canvas = document.querySelector('#plots canvas');
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  const rows = new Set();
  for (let at = 0; at < data.length; at += 4)
    if (data[at + 3] > 200 && data[at + 2] - data[at] > 100) rows.add(Math.floor(at / 4 / canvas.width));
  return rows.size;
})()`;

/** Texts with less contrast to what is behind them than 4.5 to 1 (WCAG 2.2, 1.4.3), those of disabled controls apart. */
const FAINT = `(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour).slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const faint = [];
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== '');
    if (!own || !element.checkVisibility() || element.closest(':disabled')) continue;
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(element.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return faint;
})()`;
