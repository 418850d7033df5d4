/** What the console shows of a real daemon, in a real browser. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Page } from 'playwright-core';
import type { State } from '../../src/ops/state.ts';
import type { Pause } from '../../src/pipeline/report.ts';
import { violationsOf } from '../support/axe.ts';
import { button, hasRows, malformed, rows, SECRET_TALK, says, shows, until, useConsole } from '../support/console.ts';

describe('the console', () => {
  const pusher = useConsole();

  it('the console plots the traffic, also after a reload', async () => {
    await pusher.start();
    const page = await pusher.open();
    const plot = page.getByRole('img', { name: /^Events per second/ });
    await plot.waitFor();
    const flat = Number(await page.evaluate(LINE_HEIGHT));
    await pusher.post(...Array.from({ length: 40 }, (_, n) => says(`${n}`)));
    const peak = /In: now [\d.]+\/s, at most (?!0\/s)([\d.]+)\/s; Out: now [\d.]+\/s, at most (?!0\/s)[\d.]+\/s/;
    const label = async () => String(await plot.getAttribute('aria-label'));
    await until('the plot to tell of events', async () => peak.test(await label()));
    await until('the line to rise', async () => Number(await page.evaluate(LINE_HEIGHT)) > flat + 20);
    const again = {
      source: 'test@chat1',
      epoch: 'e1',
      first_seq: 1,
      events: [{ at: 1, host: 'localhost', ...says('0') }],
    };
    await pusher.daemon.post(again);
    await shows(page.locator('#figures'), /not published: [\d.]+\/s came again/);
    await shows(page.locator('#figures'), /Event to SNS\s+[\d.]+ m?s/);
    await shows(page.locator('#sources'), 'test@chat1');
    await shows(page.locator('#sources .taps'), /^http: http:\/\/127\.0\.0\.1:\d+\/v1\/events$/);
    assert.match(
      String(await page.getByRole('img', { name: /^Event to SNS/ }).getAttribute('aria-label')),
      /Median: now/,
    );

    const before = peak.exec(await label())?.[1];
    await page.reload();
    await until('the peak to be there again', async () => peak.exec(await label())?.[1] === before);
    await page.getByText('15 min').click();
    assert.equal(await page.getByRole('radio', { name: '15 min' }).isChecked(), true);
  });

  it('the console shows a paused topic with reason and advice, and retries it on request', async () => {
    await pusher.start();
    pusher.fault = (arn) =>
      arn.endsWith('user_message_sent') ? { kind: 'error', status: 404, code: 'NotFound' } : undefined;
    const page = await pusher.open();
    await page.getByRole('status').getByText('Ready', { exact: true }).waitFor();
    await pusher.post(says('one'), says('two', 'groupchat'));
    const row = rows(page, '#topics').filter({ hasText: 'user_message_sent' });
    await shows(row, /Paused\s+NotFound: HTTP 404/);
    await shows(row, /What to do: .*xmpp-event-pusher topics create/);
    await shows(row.locator('td').nth(2), '1');
    await shows(rows(page, '#topics').filter({ hasText: 'user_messagegroup_sent' }), 'Open');
    await shows(page.locator('#problems'), /Not ready\s+topic arn:.*user_message_sent: paused: NotFound/);
    assert.match(await page.title(), /^1 problem – /);

    // The daemon retries by itself too, so wait for a retry that begins early. Pauses grow to half a minute.
    await until('a try before its time', async () => {
      const before = await pause();
      await button(page, 'Try now: user_message_sent').click();
      await shows(page.locator('#topics .result'), /user_message_sent/);
      await until('the next pause', async () => (await pause()).began > before.began);
      return (await pause()).began < before.until;
    });
    assert.match(pusher.daemon.output(), /"topic":"arn:.*:user_message_sent","msg":"admin: paused topic retried early/);
    await shows(page.locator('#topics .result'), 'user_message_sent was tried and is still paused: NotFound.');
    pusher.fault = undefined;
    await button(page, 'Try now: user_message_sent').click();
    await shows(row, 'Open');
    await shows(page.locator('#topics .result'), 'user_message_sent is open: SNS takes its notifications again.');
    await until('the problem to go', () => page.locator('#problems').isHidden());
    assert.deepEqual(pusher.accepted.filter((message) => message.includes('one')).length, 1);
  });

  it('the console shows many topics with one cause as one problem, and retries all of them', async () => {
    const hosts = Array.from({ length: 150 }, (_, n) => `h${n}.localhost`);
    const section = (host: string, n: number) => `
      [[host_config]]
      host = "${host}"
      [host_config.modules.mod_event_pusher.sns]
      pm_messages_topic = "topic-${n}"
      sns_host = "${pusher.snsUrl}"
      region = "eu-west-1"
      account_id = "123456789012"
      access_key_id = "AKIAIOSFODNN7EXAMPLE"
      secret_access_key = "x"`;
    await pusher.start(hosts.map(section).join(''));
    pusher.fault = () => ({ kind: 'error', status: 404, code: 'NotFound' });
    await pusher.post(...hosts.map((host) => ({ ...says('x'), host })));
    const page = await pusher.open({ bypassCSP: true });
    await shows(page.locator('#problems li'), /150 topics: paused: NotFound.*Try all 150/s);
    await shows(page.locator('#health'), '1 problem');
    await shows(rows(page, '#topics').first(), 'Paused');
    assert.ok((await page.locator('#topics').boundingBox())!.height < 900);
    const filter = page.getByLabel('Topic, host or state');
    for (const [text, number] of [
      ['topic-147', 1],
      ['h149.localhost', 1],
      ['paused', 150],
      ['open', 3],
    ] as const) {
      await filter.fill(text);
      await until(text, async () => (await rows(page, '#topics').filter({ visible: true }).count()) === number);
    }
    await filter.fill('');
    assert.deepEqual(await violationsOf(page), []);
    pusher.fault = undefined;
    await button(page, 'Try all 150').click();
    await until('the problem to go', () => page.locator('#problems').isHidden());
  });

  it('the console shows throttling with its start and advice, and does not present old latencies as current', async () => {
    await pusher.start();
    const page = await pusher.open();
    const figure = page.locator('#figures > div').filter({ hasText: 'Event to SNS' });
    await shows(figure, /—\s+none taken yet/);
    // One is slower, so that the two lines do not coincide.
    await pusher.post(says('one'), { ...says('two'), at: Date.now() - 900 });
    await shows(figure, /Event to SNS\s+[\d.]+ m?s\s+99 % within [\d.]+ m?s/);
    pusher.fault = () => ({ kind: 'error', status: 400, code: 'Throttling' });
    await pusher.post(...Array.from({ length: 50 }, (_, n) => says(`${n}`)));
    const row = rows(page, '#topics').filter({ hasText: 'user_message_sent' });
    await shows(row, /Throttled\s+Throttling: .*; it takes [\d.]+\/s\s+What to do: .*quota.*\s+For \d+ s/s);
    await shows(page.locator('#health'), '1 topic throttled');
    assert.equal(await page.locator('#health').getAttribute('data-state'), 'warn');
    assert.match(await page.title(), /^1 topic throttled – /);
    await shows(page.locator('#figures'), /Waiting\s+50\s+(steady; )?the oldest for/);
    const metrics = await (await fetch(`${pusher.daemon.adminUrl}/metrics`)).text();
    assert.match(metrics, /topic_state\{topic="[^"]*user_message_sent",state="throttled"\} 1/);
    await until('the log to say so', async () => pusher.daemon.output().includes('"msg":"topic throttled"'));
    await shows(figure, /Event to SNS\s+—\s+none taken since \d\d:\d\d:\d\d, when it was [\d.]+ m?s/);
    assert.ok(Number(await page.evaluate(LATENCY_PIXELS)) >= 4, 'a time without neighbours is drawn');
  });

  it('the console shows a hole in the numbers of a source', async () => {
    await pusher.start();
    await pusher.post(says('first'));
    pusher.seq += 3;
    await pusher.post(says('fifth'));
    const page = await pusher.open();
    await shows(
      rows(page, '#sources'),
      /test@chat1\s.*\s5\s+1 hole: 3 events lost; 1 not acknowledged, the last 2 to 4 of e1, .*\s+e1\s/s,
    );
  });

  it('the console shows notifications as they arrive, and message texts only on request', async () => {
    await pusher.start();
    const page = await pusher.open();
    const received: string[] = [];
    await page.route('**/api/live**', async (route) => {
      received.push(route.request().url() + (route.request().postData() ?? ''));
      await route.continue();
    });
    await shows(page.locator('#tail .empty'), 'Nothing was published');
    await pusher.post(says(SECRET_TALK), { kind: 'presence', jid: 'bob@localhost/laptop', present: true });
    await hasRows(page, '#tail', 2);
    await shows(rows(page, '#tail'), /user_message_sent\s+alice@localhost\s.*test@chat1\/e1\/1/);
    assert.ok(!(await page.content()).includes(SECRET_TALK));
    assert.ok(!(await feed('lines')).includes(SECRET_TALK), 'nor does the daemon tell the page');

    await page.getByLabel('Show message bodies').check();
    await shows(rows(page, '#tail'), SECRET_TALK);
    assert.match(received.join(), /"bodies":true/);
    await page.getByLabel('Only with').fill('bob@localhost');
    await shows(page.locator('#tail .missed'), '2 of 2 matched.');
    await page.getByLabel('Only with').fill('presence_updated');
    await shows(page.locator('#tail .missed'), '1 of 2 matched.');
    await hasRows(page, '#tail', 1);
    await page.getByLabel('Only with').fill('nobody@localhost');
    await shows(page.locator('#tail .missed'), 'None of 2 matched.');
    await page.getByLabel('Only with').fill('');
    await hasRows(page, '#tail', 2);
    await button(page, 'Pause').click();
    await pusher.post(says('later'));
    await shows(page.locator('#tail .missed'), '1 more wait for Resume.');
    assert.equal(await rows(page, '#tail').count(), 2);
    await button(page, 'Resume').click();
    await hasRows(page, '#tail', 3);
    await page.getByLabel('Show message bodies').uncheck();
    await until('bodies to go', async () => !(await page.content()).includes(SECRET_TALK));
  });

  it("the console uses the daemon's clock, whatever the browser's", async () => {
    await pusher.start();
    await pusher.post(malformed('x'));
    const page = await pusher.open();
    for (const hours of [2, -2]) {
      await page.clock.setSystemTime(Date.now() + hours * 3_600_000);
      await page.reload();
      await hasRows(page, '#letters', 1);
      assert.match(await rows(page, '#letters').innerText(), /just now|\d s ago/);
      const shortest = page.getByRole('radio', { name: '5 min', exact: true });
      await until('the range that fits', () => shortest.isChecked());
    }
  });

  /** Reads the live feed up to an event of this name. */
  const feed = async (tail: string, name = 'notifications'): Promise<string> => {
    const { body } = await fetch(`${pusher.daemon.adminUrl}/api/live?tail=${tail}`);
    let text = '';
    for await (const chunk of body as ReadableStream<Uint8Array>) {
      text += Buffer.from(chunk);
      if (new RegExp(`event: ${name}\n.*\n\n`).test(text)) break;
    }
    return text;
  };
  /** The pause of the only paused topic. */
  const pause = async (): Promise<Pause> => {
    const [, hello] = /event: hello\ndata: (.*)\n\n/.exec(await feed('off', 'hello')) ?? [];
    const { state } = JSON.parse(String(hello)) as { state: State };
    return state.topics.find(({ pause }) => pause)?.pause ?? assert.fail('no topic is paused');
  };

  it('the console marks its figures as old when the daemon is killed, until it is back', async () => {
    pusher.quietBut = /ERR_(CONNECTION|INCOMPLETE|EMPTY)/;
    await pusher.start('', '', false);
    const page = await pusher.open();
    await page.getByText('Ready', { exact: true }).waitFor();
    assert.equal(await page.locator('#old').isVisible(), false);
    await pusher.daemon.kill();
    await page.getByText('Connection lost', { exact: true }).waitFor();
    await isOld(page);
    await pusher.daemon.start();
    await page.getByText('Ready', { exact: true }).waitFor();
    assert.deepEqual([await page.locator('#old').isVisible(), await page.evaluate(OLD)], [false, []]);
  });

  it('the console marks its figures as old when the daemon hangs, and while hidden', async () => {
    await pusher.start('', '', false);
    const page = await pusher.open();
    await page.getByText('Ready', { exact: true }).waitFor();
    process.kill(pusher.daemon.pid, 'SIGSTOP');
    try {
      await page.getByText('No answer', { exact: true }).waitFor();
      await isOld(page);
    } finally {
      process.kill(pusher.daemon.pid, 'SIGCONT');
    }
    await page.getByText('Ready', { exact: true }).waitFor();
    // Background pages follow nothing, so any number of them leave the browser's six connections free.
    let following = 0;
    page.on('request', (request) => {
      if (request.url().includes('/api/live')) following += 1;
    });
    const ended = page.waitForEvent('requestfailed', (request) => request.url().includes('/api/live'));
    await page.evaluate(`(${HIDE})(true)`);
    await page.getByText('Asleep', { exact: true }).waitFor();
    await Promise.all([ended, isOld(page)]);
    assert.equal(following, 0);
    await page.evaluate(`(${HIDE})(false)`);
    await page.getByText('Ready', { exact: true }).waitFor();
  });

  const isOld = async (page: Page) => {
    await shows(page.locator('#old'), /the daemon was last heard at \d\d:\d\d:\d\d, .* ago/);
    for (const title of ['Topics', 'In', 'Dead letters', 'Waiting in the outbox'])
      await until(`${title} to be marked`, async () => ((await page.evaluate(OLD)) as string[]).includes(title));
  };
});

/** The height in pixels of the first plot's blue line: small while it is flat. */
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

/** How many pixels of the latency plot have the colour of its first line. */
const LATENCY_PIXELS = `(() => {
  const canvas = document.querySelectorAll('#plots canvas')[2];
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200 && data[at + 2] - data[at] > 100) found += 1;
  return found;
})()`;

/** The titles of the parts marked as old. */
const OLD = `[...document.querySelectorAll('.old [data-old]')].map((e) => e.textContent)`;

/** Makes the page believe that it is in the background, or not. */
const HIDE = `(hidden) => {
  Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
  document.dispatchEvent(new Event('visibilitychange'));
}`;
