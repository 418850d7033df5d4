/**
 * Takes the screenshots of the console in docs/images: a daemon with some minutes of traffic, a topic that was just
 * paused, dead letters, and a source that lost events.
 *
 * Usage: node scripts/screenshots.ts [seconds of traffic]
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { startChromium } from '../test/support/chromium.ts';
import { createDaemon, type Daemon } from '../test/support/daemon.ts';
import { startStubSns } from '../test/support/stub-sns.ts';

const IMAGES = fileURLToPath(new URL('../docs/images/', import.meta.url));
/** How long before the end the topic is paused. */
const PAUSED_S = 25;
const HOST = 'example.org';
const USERS = ['alice', 'bob', 'carol', 'dave', 'eve'];

const seconds = Number(process.argv[2] ?? 240);
const endsAt = Date.now() + seconds * 1_000;
const pauses = () => Date.now() > endsAt - PAUSED_S * 1_000;

let count = 0;
/** Deterministic: the same story each time. */
const pick = <T>(list: readonly T[]): T => list[(count++ * 7) % list.length] as T;

function event(): Record<string, unknown> {
  const at = Date.now() - (count % 15);
  const from = `${pick(USERS)}@${HOST}/phone`;
  if (count % 101 === 0) return { kind: 'message', at, host: HOST, type: 'chat', to: from, body: 'x' };
  if (count % 89 === 0) return { kind: 'message', at, host: HOST, type: 'chat', from, to: from, body: 'too strange' };
  if (count % 3 === 0) return { kind: 'presence', at, host: HOST, jid: from, present: count % 2 === 0 };
  const [type, to] =
    count % 4 === 0 ? ['groupchat', `teaparty@conference.${HOST}`] : ['chat', `${pick(USERS)}@${HOST}`];
  return { kind: 'message', at, host: HOST, type, from, to, body: 'Tea at four?' };
}

async function traffic(daemon: Daemon, goesOn: () => boolean): Promise<void> {
  let seq = 1;
  while (goesOn()) {
    const wave = 8 + 6 * Math.sin(Date.now() / 20_000);
    const events = Array.from({ length: Math.round(wave) }, event);
    await daemon.post({ source: 'prosody@chat1', epoch: '9f2c41d07a', first_seq: seq, events });
    seq += events.length;
    await sleep(250);
  }
}

await using stack = new AsyncDisposableStack();
const sns = stack.use(
  await startStubSns({
    fault: ({ topicArn }) => {
      if (pauses() && topicArn.includes('group'))
        return { kind: 'error', status: 404, code: 'NotFound', message: 'Topic does not exist' };
      return { kind: 'slow', ms: 12 + ((count * 13) % 40) };
    },
    refuses: ({ message }) => (message.includes('too strange') ? 'request' : undefined),
  }),
);
const daemon = stack.use(await createDaemon({ url: sns.url, region: 'eu-west-1', accountId: '123456789012' }));
await daemon.start();
const chromium = stack.use(await startChromium());
for (const first_seq of [1, 5])
  await daemon.post({ source: 'ejabberd@chat2', epoch: '51b07e', first_seq, events: [event()] });
let taken = false;
const flowing = traffic(daemon, () => !taken);
await sleep(endsAt - Date.now());

async function take(name: string, options: BrowserContextOptions, prepare: (page: Page) => Promise<unknown>) {
  await using visit = await chromium.visit(daemon.adminUrl, options);
  const { page } = visit;
  await page.locator('#letters tbody tr').first().waitFor();
  await prepare(page);
  // The next sample fills the empty places.
  await sleep(2_500);
  await page.screenshot({ path: `${IMAGES}${name}.png` });
}

await take('console', { viewport: { width: 1200, height: 1160 }, colorScheme: 'light' }, async () => undefined);
await take('console-dead-letter', { viewport: { width: 1000, height: 700 }, colorScheme: 'dark' }, async (page) => {
  await page
    .locator('.chips')
    .getByRole('button', { name: /^InvalidParameter/ })
    .click();
  await page.locator('#letters').scrollIntoViewIfNeeded();
  await page
    .getByRole('button', { name: /^Open dead letter/ })
    .first()
    .click();
  await page.getByRole('button', { name: 'Show content' }).click();
});
await take('console-phone', { viewport: { width: 390, height: 844 }, colorScheme: 'light' }, (page) =>
  page.locator('#topics').scrollIntoViewIfNeeded(),
);
taken = true;
await flowing;
