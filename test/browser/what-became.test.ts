/** The console in a real browser: what became of an event, the history, and the sources' contact. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Page } from 'playwright-core';
import { violationsOf } from '../support/axe.ts';
import { button, confirm, malformed, rows, SECRET_TALK, says, shows, until, useConsole } from '../support/console.ts';

describe('the console', () => {
  const pusher = useConsole();

  const find = async (page: Page, what: string) => {
    await page.getByLabel('User, room or id').fill(what);
    await button(page, 'Find').click();
  };
  const found = (page: Page) => page.locator('#find .found > li');
  const accepted = (count: number) => until(`${count} deliveries`, () => pusher.accepted.length === count);

  it("the console shows what became of a user's events, with links, and opens the dead letter", async () => {
    await pusher.start();
    pusher.refused = 'unacceptable';
    await pusher.post(
      { ...says(SECRET_TALK), stanza_id: 'm"<b>1' },
      says('this is unacceptable'),
      { kind: 'presence', jid: 'alice@localhost/desk', present: true, sessions: 2 },
      says('hi all', 'groupchat'),
    );
    await accepted(2);
    await until('the dead letter', async () => (await pusher.listed()).length === 1);
    pusher.fault = () => ({ kind: 'error', status: 403, code: 'AuthorizationError' });
    await pusher.post({ ...says('later'), from: 'carol@localhost/x' }, says('too'));
    const page = await pusher.open({ bypassCSP: true });
    await shows(rows(page, '#topics'), 'Paused');

    await find(page, 'Alice@localhost');
    await shows(page.locator('#find .result'), '5 events of Alice@localhost.');
    await shows(found(page), /Delivered .*\s+to user_message_sent\s+MessageId 94f20ce6-[\w-]+\s+request 2d6a1b5c-/);
    await shows(found(page), /Delivered .*\s+to user_messagegroup_sent/);
    await shows(found(page), /Skipped .*\s+the user had a session already/);
    await shows(
      found(page),
      /Waiting .*\s+for user_message_sent, \d+ s so far, 1 before it\s+the topic is paused: Auth.*\s+What to do: /,
    );
    await shows(found(page), /Dead .*\s+InvalidParameter, for user_message_sent/);
    await shows(page.locator('#find .covers'), /^Searched 2 notifications that wait, the dead letters, and what was/);
    assert.ok(!(await page.content()).includes(SECRET_TALK));
    assert.deepEqual(await violationsOf(page), []);

    await page.locator('#find').getByRole('button', { name: 'Open dead letter 1' }).click();
    await shows(page.locator('#letter'), /Event\s+test@chat1\/e1\/2/);
    await page.keyboard.press('Escape');

    // A link to an event, which can be shared.
    await find(page, 'm"<b>1');
    await shows(page.locator('#find .result'), '1 event of m"<b>1.');
    await page.locator('#find').getByRole('link', { name: 'test@chat1/e1/1' }).click();
    await shows(page.locator('#find .result'), '1 event of test@chat1/e1/1.');
    await page.reload();
    await shows(page.locator('#find .result'), '1 event of test@chat1/e1/1.');
    assert.equal(await page.getByLabel('User, room or id').inputValue(), 'test@chat1/e1/1');

    await find(page, 'nobody@localhost');
    await shows(page.locator('#find .result'), 'Found nothing about nobody@localhost.');
    assert.equal(await found(page).count(), 0);
  });

  it('the console shows incidents across a kill, as marks on the plots and as a list', async () => {
    await pusher.start('', '', false);
    await pusher.post(malformed('1'));
    // The thread that writes it starts a little after the daemon.
    await until('the start to be kept', async () => {
      const answer = await fetch(`${pusher.daemon.adminUrl}/api/history`);
      return ((await answer.json()) as { moments: unknown[] }).moments.length > 0;
    });
    await pusher.daemon.kill();
    await pusher.daemon.start();
    await pusher.daemon.reload();
    await pusher.post(malformed('2'));
    await pusher.daemon.command('dead-letters', 'purge', '1');
    const page = await pusher.open({ bypassCSP: true });
    await page.getByRole('link', { name: 'History' }).click();
    const history = page.locator('#history');
    const plot = history.getByRole('img', { name: /^Waiting in the outbox over the last 24 hours/ });
    await plot.waitFor();
    await until(
      'all that happened',
      async () => {
        await page.reload();
        await page.getByRole('link', { name: 'History' }).click();
        await shows(history, 'Killed');
        return /Deleted\s+1 dead letter/.test(await history.innerText());
      },
      30_000,
    );
    await shows(history, /Deleted\s+1 dead letter\s[\s\S]*Reloaded[\s\S]*Started[\s\S]*Killed[\s\S]*Started/);
    await until('the marks', async () => /Marked: .*Killed: 1/.test(String(await plot.getAttribute('aria-label'))));
    await page.getByText('30 days').click();
    await history.getByRole('img', { name: /^Waiting in the outbox over the last 30 days/ }).waitFor();
    assert.deepEqual(await violationsOf(page), []);
  });

  it('the console shows a refused source, one whose clock is ahead, and one without numbers; acknowledges and retires', async () => {
    await pusher.start('source_silent_after = "1s"');
    await pusher.post(says('first'));
    pusher.seq += 3;
    await pusher.post({ ...says('from the future'), at: Date.now() + 3_600_000 });
    const single = { source: 'script@cron', events: [{ at: Date.now(), host: 'localhost', ...says('single') }] };
    assert.equal((await pusher.daemon.post(single)).status, 200);
    const page = await pusher.open({ bypassCSP: true });
    const source = rows(page, '#sources').filter({ hasText: 'test@chat1' });
    await shows(source, /its clock is 60 min ahead of the daemon's/);
    await shows(source, /silent for \d+ s/);
    await shows(rows(page, '#sources').filter({ hasText: 'script@cron' }), /does not number its events/);
    await shows(source, /1 hole: 3 events lost; 1 not acknowledged/);
    assert.deepEqual(await violationsOf(page), []);
    await button(page, 'Acknowledge test@chat1').click();
    await shows(page.locator('#sources .result'), 'test@chat1: 1 hole acknowledged.');
    await until('the hole to be known', async () => !/not acknowledged/.test(await source.innerText()));
    await button(page, 'Retire script@cron').click();
    await confirm(page, 'Retire');
    await shows(page.locator('#sources .result'), 'script@cron is forgotten.');
    await until('one source', async () => (await rows(page, '#sources').count()) === 1);
  });
});
