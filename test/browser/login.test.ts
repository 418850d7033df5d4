/** Access to the console, in a real browser. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { button, hasRows, malformed, rows, SECRET_TALK, says, shows, TOKEN, useConsole } from '../support/console.ts';

describe('the console is used', () => {
  const pusher = useConsole();

  it('the console requires the token', async () => {
    pusher.quietBut = /status of 401/;
    await pusher.start(`token = "${TOKEN}"`);
    const page = await pusher.open();
    const token = page.getByLabel(/^Token/);
    await token.waitFor();
    assert.equal(await page.locator('#main').isHidden(), true);
    await token.fill('a-token-that-is-wrong');
    await page.keyboard.press('Enter');
    await shows(page.locator('#login-result'), 'Not logged in: wrong token');
    await token.fill(TOKEN);
    await button(page, 'Log in').click();
    await page.locator('#main').waitFor();
    await hasRows(page, '#topics', 3);
    assert.equal(await page.evaluate('document.cookie'), '', 'scripts do not get the session');
    await page.reload();
    await hasRows(page, '#topics', 3);

    await button(page, 'Log out').click();
    await token.waitFor();
    assert.equal(await page.locator('#main').isHidden(), true);
    await page.reload();
    await token.waitFor();
  });

  it('a logout removes everything shown from the page', async () => {
    await pusher.start(`token = "${TOKEN}"`);
    const page = await pusher.open();
    const logIn = async () => {
      await page.getByLabel(/^Token/).fill(TOKEN);
      await page.keyboard.press('Enter');
      await hasRows(page, '#topics', 3);
    };
    await logIn();
    await pusher.post(says(SECRET_TALK), malformed(SECRET_TALK));
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

  it('the console asks for the token again after the session ends', async () => {
    pusher.quietBut = /status of 401|ERR_(CONNECTION|INCOMPLETE|EMPTY)/;
    await pusher.start(`token = "${TOKEN}"`);
    const page = await pusher.open();
    await page.getByLabel(/^Token/).fill(TOKEN);
    await page.keyboard.press('Enter');
    await hasRows(page, '#topics', 3);
    await pusher.daemon.stop();
    await page.getByText('Connection lost', { exact: true }).waitFor();
    await pusher.daemon.start();
    await page.getByLabel(/^Token/).waitFor();
  });

  it("another site's page can't use the console, even without a token", async () => {
    pusher.quietBut = /asked elsewhere|CORS policy|Failed to load resource/;
    await pusher.start();
    await pusher.post(malformed('x'));
    const site = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<p>evil</p>'));
    site.listen(0, '127.0.0.1');
    await once(site, 'listening');
    try {
      const page = await pusher.open();
      await page.goto(`http://localhost:${(site.address() as AddressInfo).port}`);
      const answers = await page.evaluate(`(${DRIVE})(${JSON.stringify(pusher.daemon.adminUrl)})`);
      assert.deepEqual(answers, Array(5).fill('refused'));
      assert.deepEqual(await pusher.listed(), ['malformed']);
      const log = pusher.daemon.output();
      assert.match(log, /"path":"\/api\/dead-letters\/delete","problem":"wrong_origin","msg":"admin request refused"/);
      assert.doesNotMatch(log, /dead letters (deleted|begins)/);
    } finally {
      site.close();
    }
  });
});

/** Every request that another site's page can make a browser send, with and without CORS, and what it can read. */
const DRIVE = `async (admin) => {
  const body = JSON.stringify({ all: true });
  const send = (headers, mode = 'no-cors') =>
    fetch(admin + '/api/dead-letters/delete', { method: 'POST', credentials: 'include', mode, headers, body });
  const tries = [
    () => send({ 'content-type': 'application/json' }, 'cors'),
    () => send({ 'content-type': 'text/plain' }),
    () => send({ 'content-type': 'application/x-www-form-urlencoded' }),
    () => fetch(admin + '/api/dead-letters'),
    () => new Promise((resolve, reject) => {
      const live = new EventSource(admin + '/api/live?tail=bodies');
      live.addEventListener('hello', resolve);
      live.addEventListener('error', reject);
    }),
  ];
  const answers = [];
  for (const attempt of tries) answers.push(await attempt().then(({ type }) => type, () => 'refused'));
  return answers;
}`;
