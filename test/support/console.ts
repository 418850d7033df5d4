/** For tests of the console in a real browser: a daemon for each test, a controllable SNS, and what a user sees. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';
import type { BrowserContextOptions, Locator, Page } from 'playwright-core';
import { type Chromium, startChromium, type Visit } from './chromium.ts';
import { createDaemon, type Daemon } from './daemon.ts';
import { until as poll } from './process.ts';
import { type Fault, type StubSns, startStubSns } from './stub-sns.ts';

export const TOKEN = 'a-token-for-the-console';
export const SECRET_TALK = 'meet me at the old mill';

/** This machine may be busy with other tests. */
const PATIENCE_MS = 60_000;

/** Prepares each test of the calling suite, and cleans up after it. */
export function useConsole() {
  let chromium: Chromium;
  let sns: StubSns;
  let visits: Visit[];
  const it = {
    // Each test's `start` sets it before anything reads it.
    daemon: undefined as unknown as Daemon,
    fault: undefined as ((topicArn: string) => Fault | undefined) | undefined,
    get snsUrl(): string {
      return sns.url;
    },
    /** SNS refuses messages that contain this. */
    refused: undefined as string | undefined,
    /** Messages accepted by SNS. */
    accepted: [] as string[],
    /** Browser errors that the test provokes; any other fails it. */
    quietBut: undefined as RegExp | undefined,
    /** The number of the next event; a test can raise it to leave a hole. */
    seq: 1,

    /** @param here whether it runs in this process, where nothing can kill it */
    async start(rest = '', outbox = '', here = true): Promise<void> {
      const account = { url: sns.url, region: 'eu-west-1', accountId: '123456789012' };
      it.daemon = await createDaemon(account, { rest, outbox, here: true });
      await it.daemon.start({ here });
    },
    async open(options?: BrowserContextOptions): Promise<Page> {
      const visit = await chromium.visit(it.daemon.adminUrl, options);
      visits.push(visit);
      return visit.page;
    },
    async post(...events: Record<string, unknown>[]): Promise<void> {
      const complete = events.map((event) => ({ at: Date.now(), host: 'localhost', ...event }));
      const batch = { source: 'test@chat1', epoch: 'e1', first_seq: it.seq, events: complete };
      assert.equal((await it.daemon.post(batch)).status, 200);
      it.seq += events.length;
    },
    /** The reasons of all dead letters, newest first. */
    async listed(): Promise<string[]> {
      const answer = await fetch(`${it.daemon.adminUrl}/api/dead-letters`);
      const { letters } = (await answer.json()) as { letters: { reason: string }[] };
      return letters.map(({ reason }) => reason);
    },
  };
  before(async () => {
    chromium = await startChromium();
    sns = await startStubSns({
      fault: ({ topicArn }) => it.fault?.(topicArn),
      refuses: ({ message }) => (it.refused !== undefined && message.includes(it.refused) ? 'entry' : undefined),
      accepted: ({ message }) => it.accepted.push(message),
    });
  });
  after(async () => {
    await chromium[Symbol.asyncDispose]();
    await sns[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    visits = [];
    Object.assign(it, { fault: undefined, refused: undefined, accepted: [], quietBut: undefined, seq: 1 });
  });
  afterEach(async () => {
    try {
      for (const visit of visits) visit.assertQuiet(it.quietBut);
    } finally {
      for (const visit of visits) await visit[Symbol.asyncDispose]();
      await it.daemon[Symbol.asyncDispose]();
    }
  });
  return it;
}

export const says = (body: string, type = 'chat') => ({
  kind: 'message',
  type,
  from: 'alice@localhost/phone',
  to: type === 'chat' ? 'bob@localhost' : 'room@conference.localhost',
  body,
});

/** Becomes a dead letter at once. */
export const malformed = (body: string) => ({ ...says(body), from: 17 });

/** Polls a page less often than other things: looking at one takes the browser some CPU time. */
export const until = (what: string, condition: () => boolean | Promise<boolean>, ms = PATIENCE_MS): Promise<void> =>
  poll(what, condition, ms, 50);

export const shows = (locator: Locator, text: string | RegExp): Promise<void> =>
  until(`${locator} to show ${text}`, async () => {
    const shown = (await locator.allInnerTexts()).join('\n');
    return typeof text === 'string' ? shown.includes(text) : text.test(shown);
  });

export const rows = (page: Page, section: string): Locator => page.locator(`${section} tbody tr`);

export const hasRows = (page: Page, section: string, count: number): Promise<void> =>
  until(`${count} rows in ${section}`, async () => (await rows(page, section).count()) === count);

export const button = (page: Page, name: string | RegExp): Locator => page.getByRole('button', { name });

/** Confirms the page's question. */
export const confirm = (page: Page, name: string): Promise<void> =>
  page.locator('#confirm').getByRole('button', { name }).click();
