/**
 * Two hundred people log in, write and log out in every possible way, while the daemon is repeatedly killed and the tap
 * answers 503 at random; some servers are killed in turn. Afterwards each session has exactly one online and one
 * offline event, and every message has arrived, in order.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createDaemon, type Daemon, SECRET, TOPICS } from '../support/daemon.ts';
import { type MoodyProxy, startMoodyProxy } from '../support/moody-proxy.ts';
import { until } from '../support/process.ts';
import type { StartServer } from '../support/server.ts';
import { type Received, type Sns, startSns } from '../support/sns.ts';
import { connect, message } from '../support/xmpp.ts';

const PEOPLE = 200;

/** A person's session. */
export interface Guest {
  /** False if the session had ended before, and nothing was sent. */
  message(to: string, body: string): Promise<boolean>;
  /** Ends the session in some way. */
  leave(): Promise<void>;
}

/** A server, from the people's point of view. */
export interface Venue extends AsyncDisposable {
  connect(user: string, resource: string): Promise<Guest>;
  /** Kills and restarts the server or its adapter; must not lose anything that happened before. */
  kill?(): Promise<void>;
}

export interface ChurnOptions {
  url: string;
  secret: string;
}

/** What one person did, according to its own client. */
interface Diary {
  readonly user: string;
  logins: number;
  readonly messages: string[];
}

/** Churn with real clients. */
export function churn(name: string, startServer: StartServer): void {
  churnAt(name, async (options) => {
    const server = await startServer(options);
    return {
      async connect(user, resource) {
        const client = await connect(server, user, resource);
        return {
          async message(to, body) {
            await message(client, { to, body });
            return true;
          },
          async leave() {
            const end = Math.random();
            if (end < 0.4) client.cut();
            else if (end < 0.7) await client.closeStream();
            else await client.logout();
          },
        };
      },
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  });
}

/** Runs for 15 s, or `CHURN_SECONDS`: `npm run test:churn` takes a minute. The kills need real time. */
export function churnAt(name: string, start: (options: ChurnOptions) => Promise<Venue>): void {
  const seconds = Number(process.env.CHURN_SECONDS ?? 15);
  it(`${name}: loses and repeats no event of ${PEOPLE} people in ${seconds} s of repeated kills`, async () => {
    await using sns = await startSns(Object.values(TOPICS));
    await using daemon = await createDaemon(sns, { sns: 'presence = "session"\n attributes = ["event_id"]' });
    await daemon.start();
    await using proxy = await startMoodyProxy(daemon.tapUrl, 0.2);
    await using venue = await start({ url: proxy.url, secret: SECRET });

    const over = Date.now() + seconds * 1_000;
    const running = () => Date.now() < over;
    const diaries = Array.from({ length: PEOPLE }, (_, n) => ({ user: `person${n}`, logins: 0, messages: [] }));
    const killing = killAgainAndAgain(daemon, venue, running);
    const reading = readOn(sns, running);
    await Promise.all(diaries.map((diary) => live(diary, venue, running)));
    await reading;
    const kills = await killing;
    proxy.mood = 0;

    const logins = diaries.reduce((sum, diary) => sum + diary.logins, 0);
    const messages = diaries.reduce((sum, diary) => sum + diary.messages.length, 0);
    const wanted = 2 * logins + messages;
    await until(
      `all ${wanted} events of ${logins} sessions to arrive`,
      async () => {
        await sns.receive(0);
        return distinct(sns.received).length >= wanted;
      },
      120_000,
    ).catch((error: Error) => {
      // Shows what is missing, and whose it is.
      for (const diary of diaries) compare(diary, distinct(aboutUser(sns.received, diary.user)), proxy.jids);
      throw error;
    });
    await settled(daemon);
    await sns.receive(0);

    for (const diary of diaries) compare(diary, distinct(aboutUser(sns.received, diary.user)), proxy.jids);
    const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
    for (const [, holes] of metrics.matchAll(/source_holes_total\{[^}]*\} (\d+)/g))
      assert.equal(holes, '0', 'a hole in the numbers');
    assert.ok(kills > 0 && proxy.refusals > 0, `${kills} kills, ${proxy.refusals} refusals`);
  });
}

async function killAgainAndAgain(daemon: Daemon, venue: Venue, running: () => boolean): Promise<number> {
  let kills = 0;
  while (running()) {
    await sleep(1_000 + Math.random() * 3_000);
    await daemon.kill();
    kills += 1;
    await sleep(Math.random() * 500);
    // In turn with the server, and sometimes at the same time.
    await Promise.all([daemon.start({ ready: false }), venue.kill?.()]);
  }
  return kills;
}

async function readOn(sns: Sns, running: () => boolean): Promise<void> {
  while (running()) {
    await sns.receive(0);
    await sleep(200);
  }
}

/** Logs in, writes, and logs out in some way, until the time is over. */
async function live(diary: Diary, venue: Venue, running: () => boolean): Promise<void> {
  await sleep(Math.random() * 3_000);
  while (running()) {
    const guest = await venue.connect(diary.user, `r${diary.logins}`);
    diary.logins += 1;
    const texts = Math.floor(Math.random() * 4);
    for (let n = 0; n < texts; n++) {
      const text = `${diary.user} ${diary.messages.length}`;
      if (!(await guest.message(`person${Math.floor(Math.random() * PEOPLE)}@localhost`, text))) break;
      diary.messages.push(text);
      await sleep(Math.random() * 1_500);
    }
    await guest.leave();
    await sleep(500 + Math.random() * 4_000);
  }
}

/** First arrivals: duplicates, by event id, count once. */
function distinct(received: readonly Received[]): Received[] {
  const seen = new Set<string>();
  return received.filter(({ attributes }) => {
    const id = attributes.event_id?.Value ?? '';
    return !seen.has(id) && seen.add(id);
  });
}

const aboutUser = (received: readonly Received[], user: string) =>
  received.filter(({ body }) => (body.user_id ?? body.from_user_id) === `${user}@localhost`);

/** @param jids the session of each event, by event id: a notification only has the user */
function compare({ user, logins, messages }: Diary, received: readonly Received[], jids: MoodyProxy['jids']): void {
  const presence = received.filter(({ topic }) => topic === TOPICS.presence);
  const sessions = Map.groupBy(presence, ({ attributes }) => jids.get(attributes.event_id?.Value ?? ''));
  for (let n = 0; n < logins; n++) {
    const jid = `${user}@localhost/r${n}`;
    const told = sessions.get(jid)?.map(({ body }) => body.present);
    assert.deepEqual(told, [true, false], `${jid} came online once, then went offline once`);
  }
  assert.equal(sessions.size, logins, `${user} had no other session`);
  const texts = received.filter(({ topic }) => topic === TOPICS.pm).map(({ body }) => body.message);
  assert.deepEqual(texts, messages, `messages of ${user}`);
}

async function settled(daemon: Daemon): Promise<void> {
  await until('the outbox to be empty', async () => {
    const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
    const depths = [...metrics.matchAll(/outbox_notifications\{[^}]*\} (\d+)/g)];
    return depths.every(([, depth]) => depth === '0');
  });
}
