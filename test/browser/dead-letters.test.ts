/** Dead letters in the console, in a real browser: finding, opening, replaying and deleting them. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import type { Page } from 'playwright-core';
import {
  button,
  confirm,
  hasRows,
  malformed,
  rows,
  SECRET_TALK,
  says,
  shows,
  until,
  useConsole,
} from '../support/console.ts';
import { launch } from '../support/process.ts';

const result = (page: Page) => page.locator('#letters .result');

/** The button that filters by a reason or a topic. */
const chip = (page: Page, name: RegExp) => page.locator('.chips').getByRole('button', { name });

describe('dead letters in the console', () => {
  const pusher = useConsole();

  it('opens a dead letter, shows its content only on request, and replays it', async () => {
    await pusher.start();
    pusher.refused = SECRET_TALK;
    await pusher.post(says(SECRET_TALK), malformed('x'));
    const page = await pusher.open();
    await hasRows(page, '#letters', 2);
    await chip(page, /^InvalidParameter/).click();
    await hasRows(page, '#letters', 1);
    await button(page, /^Open dead letter/).click();
    const dialog = page.locator('#letter');
    await shows(dialog, 'user_message_sent');
    assert.ok(!(await page.content()).includes(SECRET_TALK));
    await button(page, 'Show content').click();
    await shows(dialog.locator('pre'), SECRET_TALK);

    pusher.refused = undefined;
    await dialog.getByRole('button', { name: 'Replay' }).click();
    await shows(page.locator('#confirm'), 'Replay dead letter');
    assert.deepEqual(pusher.accepted, []);
    await confirm(page, 'Replay');
    await shows(result(page), '1 dead letter taken up for replay.');
    await until('SNS to have it', () => pusher.accepted.length === 1);
    await hasRows(page, '#letters', 0);
    await chip(page, /^InvalidParameter/).click();
    await hasRows(page, '#letters', 1);
    await shows(rows(page, '#letters'), 'malformed');
    assert.match(
      pusher.daemon.output(),
      /"by":"local","from":"127.0.0.1","deadLetter":\d+,"msg":"admin: content of a dead letter shown"/,
    );
    assert.match(pusher.daemon.output(), /"ids":\[\d+\],"count":1,"msg":"admin: replay of dead letters requested"/);
    assert.ok(!pusher.daemon.output().includes(SECRET_TALK));
  });

  it('filters by topic, and replays several, and all of a topic', async () => {
    await pusher.start();
    pusher.refused = 'no';
    await pusher.post(says('no 1'), says('no 2'), says('no 3'), says('no 4', 'groupchat'), malformed('x'));
    const page = await pusher.open();
    await hasRows(page, '#letters', 5);
    const [one, group] = [chip(page, /^user_message_sent/), chip(page, /^user_messagegroup_sent/)];
    await shows(one, 'user_message_sent 3');
    await shows(group, 'user_messagegroup_sent 1');
    await group.click();
    await hasRows(page, '#letters', 1);
    await shows(chip(page, /^malformed/), 'malformed 0');
    await one.click();
    await hasRows(page, '#letters', 3);
    await chip(page, /^malformed/).click();
    await hasRows(page, '#letters', 0);
    await shows(page.locator('#letters .empty'), 'None of these.');
    await chip(page, /^InvalidParameter/).click();
    await hasRows(page, '#letters', 3);

    pusher.refused = undefined;
    const boxes = page.getByRole('checkbox', { name: /^Select dead letter/ });
    await boxes.nth(1).check();
    await boxes.nth(2).check();
    await button(page, 'Replay selected (2)').click();
    await confirm(page, 'Replay');
    await shows(result(page), '2 dead letters taken up for replay.');
    await hasRows(page, '#letters', 1);
    await chip(page, /^InvalidParameter/).click();
    await button(page, 'Replay all 1 that match').click();
    await shows(page.locator('#confirm'), 'Replay 1 dead letter of topic user_message_sent?');
    await confirm(page, 'Replay');
    await until('SNS to have them', () => pusher.accepted.length === 3);
    await one.click();
    await hasRows(page, '#letters', 2);
    assert.deepEqual((await pusher.listed()).toSorted(), ['InvalidParameter', 'malformed']);
    assert.ok(!pusher.accepted.some((message) => message.includes('no 4')));
  });

  it('reports a replay that fails again', async () => {
    await pusher.start();
    pusher.refused = 'never';
    await pusher.post(says('never'));
    const page = await pusher.open();
    await hasRows(page, '#letters', 1);
    await button(page, 'Replay all 1').click();
    await confirm(page, 'Replay');
    await shows(result(page), '1 dead letter taken up for replay.');
    const counted = 'SNS took 0, 1 dead again, 0 waiting.';
    await shows(page.locator('#letters .replay'), counted);
    await page.reload();
    await shows(page.locator('#letters .replay'), counted);
    assert.match((await pusher.daemon.command('status')).output, /^Replay +1 +0 taken, 1 dead again, 0 waiting$/m);
    await hasRows(page, '#letters', 1);
  });

  it('asks for confirmation before deleting one, several, or all of a reason', async () => {
    await pusher.start();
    pusher.refused = 'never';
    await pusher.post(says('never'), malformed('1'), malformed('2'), malformed('3'), malformed('4'));
    const page = await pusher.open();
    await hasRows(page, '#letters', 5);
    const boxes = page.getByRole('checkbox', { name: /^Select dead letter/ });
    // The newest one was refused by SNS.
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

    await chip(page, /^malformed/).click();
    await hasRows(page, '#letters', 2);
    await button(page, 'Delete all 2 that match').click();
    await shows(page.locator('#confirm'), 'Delete all 2 dead letters of reason malformed?');
    // A dead letter that arrives while the question is shown is not included.
    await pusher.post(malformed('5'));
    await until('it to be kept', async () => (await pusher.listed()).length === 4);
    await confirm(page, 'Delete');
    await shows(result(page), 'Deleted 2 dead letters.');
    await until('the others to be left', async () => (await pusher.listed()).join() === 'malformed,InvalidParameter');
  });

  it('replays all of a reason, and no others', async () => {
    await pusher.start();
    pusher.refused = 'no';
    await pusher.post(says('no 1'), malformed('x'), says('no 2', 'groupchat'));
    const page = await pusher.open();
    await hasRows(page, '#letters', 3);
    await chip(page, /^InvalidParameter/).click();
    pusher.refused = undefined;
    await button(page, 'Replay all 2 that match').click();
    await shows(page.locator('#confirm'), 'Replay all 2 dead letters of reason InvalidParameter?');
    await confirm(page, 'Replay');
    await shows(result(page), '2 dead letters taken up for replay.');
    await until('SNS to have them', () => pusher.accepted.length === 2);
    assert.deepEqual(await pusher.listed(), ['malformed']);
  });

  it("deletes an opened one, and reports when the list can't be loaded", async () => {
    await pusher.start();
    await pusher.post(malformed('1'), malformed('2'));
    const page = await pusher.open();
    await hasRows(page, '#letters', 2);
    await button(page, /^Open dead letter/)
      .first()
      .click();
    await page.locator('#letter').getByRole('button', { name: 'Delete' }).click();
    await shows(page.locator('#confirm'), 'Delete dead letter 2?');
    await confirm(page, 'Delete');
    await shows(result(page), 'Deleted 1 dead letter.');
    await hasRows(page, '#letters', 1);
    assert.deepEqual(await pusher.listed(), ['malformed']);

    pusher.quietBut = /status of 500/;
    await page.route('**/api/dead-letters?*', (route) => route.fulfill({ status: 500, body: '{}' }));
    await chip(page, /^malformed/).click();
    await shows(result(page), 'Not loaded: the daemon answered 500');
    await page.unroute('**/api/dead-letters?*');
    await chip(page, /^malformed/).click();
    await until('that to be over', async () => (await result(page).innerText()) === '');
  });

  it('searches, sorts and exports dead letters with the users concerned, and acts on the matches', async () => {
    await pusher.start();
    pusher.refused = 'no';
    await pusher.post(
      says('no 1'),
      { ...says('no 2'), from: 'zoe@localhost/x' },
      { ...says('no 3', 'groupchat'), from: 'dave@localhost/x' },
      malformed(SECRET_TALK),
    );
    const page = await pusher.open();
    await hasRows(page, '#letters', 4);
    await shows(
      rows(page, '#letters'),
      /user_messagegroup_sent\s+dave@localhost\s+room@conference\.localhost\s+localhost/,
    );
    const user = page.getByRole('button', { name: 'User', exact: true });
    const search = page.locator('#letters').getByRole('searchbox', { name: 'Search' });
    const users = () => rows(page, '#letters').locator('td:nth-child(5)').allInnerTexts();
    await user.click();
    await until(
      'them to be sorted',
      async () => (await users()).join() === 'zoe@localhost,dave@localhost,alice@localhost,—',
    );
    assert.equal(await page.locator('[data-sort="user"]').getAttribute('aria-sort'), 'descending');
    await user.click();
    await until('the other way round', async () => (await users())[0] === '—');

    await search.fill('ZOE@');
    await hasRows(page, '#letters', 1);
    const download = page.waitForEvent('download');
    await page.getByRole('link', { name: 'Export' }).click();
    const lines = (await readFile(await (await download).path(), 'utf8')).trim().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line).content.notification.orderKey),
      ['zoe@localhost'],
    );
    const exported = /"match":"ZOE@","count":1,"msg":"admin: contents of dead letters exported"/;
    await until('the log to say so', () => exported.test(pusher.daemon.output()));
    await button(page, 'Delete all 1 that match').click();
    await shows(page.locator('#confirm'), 'Delete 1 dead letter with “ZOE@”?');
    await confirm(page, 'Delete');
    await search.fill('');
    await hasRows(page, '#letters', 3);
    const { bin, configFile } = pusher.daemon;
    const args = [bin, 'dead-letters', 'export', '--match', 'dave', '--config', configFile];
    const exporting = await launch(process.execPath, args);
    await exporting.exited;
    assert.equal(JSON.parse(exporting.output()).eventId, 'test@chat1/e1/3');
  });

  it('pages through many dead letters', async () => {
    await pusher.start();
    await pusher.post(...Array.from({ length: 45 }, (_, n) => malformed(`${n}`)));
    const page = await pusher.open();
    await hasRows(page, '#letters', 20);
    const first = () => rows(page, '#letters').first().locator('td').nth(7).innerText();
    const place = page.locator('#letters .place');
    const newest = await first();
    assert.match(newest, /e1\/45$/);
    await shows(place, '1–20 of 45');
    assert.equal(await button(page, 'Previous page').isDisabled(), true);
    await button(page, 'Next page').click();
    await shows(place, '21–40 of 45');
    assert.match(await first(), /e1\/25$/);
    // New dead letters do not shift this page.
    await pusher.post(malformed('later'));
    await shows(page.locator('#figures'), /Dead letters\s+46/);
    await button(page, 'Next page').click();
    await shows(place, '41–45 of 45');
    assert.equal(await button(page, 'Next page').isDisabled(), true);
    await page.getByLabel('Select all on this page').check();
    await button(page, 'Delete selected (5)').click();
    await confirm(page, 'Delete');
    await shows(result(page), 'Deleted 5 dead letters.');
    // The page is empty now: the console returns to the first.
    await shows(place, '1–20 of 41');
    assert.match(await first(), /e1\/46$/);
  });
});
