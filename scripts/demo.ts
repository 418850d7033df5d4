/**
 * The demo: a real Prosody with the adapter, SNS with a queue behind each topic in this process, and the daemon as
 * users run it. Two people chat, and the demo prints what a subscriber receives.
 *
 * Usage: npm run demo [-- --keep] [--recorded]
 */
import { parseArgs, styleText } from 'node:util';
import { createDaemon, type Daemon, SECRET, TOPICS } from '../test/support/daemon.ts';
import { until } from '../test/support/process.ts';
import { type Prosody, startProsody } from '../test/support/prosody.ts';
import { type Received, type Sns, startSns } from '../test/support/sns.ts';
import { connect, join, message } from '../test/support/xmpp.ts';
import { install } from './install-servers.ts';
import { leaveNothing } from './leave-nothing.ts';

const HELP = `npm run demo -- [options]

  --keep      leaves everything running, for your own XMPP client, until Ctrl-C
  --recorded  posts recorded events to the tap instead of starting a Prosody
  --help      this
`;

type Expected = readonly [topic: string, body: Record<string, unknown>];

interface Step {
  readonly title: string;
  readonly expected: readonly Expected[];
  readonly act: () => Promise<unknown>;
}

const say = (text = '') => process.stdout.write(`${text}\n`);
const ALICE = 'alice@localhost';
const BOB = 'bob@localhost';
const ROOM = 'teaparty@conference.localhost';
const online = (user: string): Expected => [TOPICS.presence, { user_id: user, present: true }];
const offline = (user: string): Expected => [TOPICS.presence, { user_id: user, present: false }];
const pm = (from: string, to: string, text: string): Expected => [
  TOPICS.pm,
  { to_user_id: to, message: text, from_user_id: from },
];
const muc = (from: string, text: string): Expected => [
  TOPICS.muc,
  { to_user_id: ROOM, message: text, from_user_id: from },
];

interface Story {
  readonly steps: Step[];
  /** How to join with your own client. */
  readonly login: string;
  /** The path of the notifications. */
  readonly through: string;
}

/** Returns a running Prosody, or why there is none. */
async function findProsody(daemon: Daemon): Promise<Prosody | string> {
  const { missing, why } = install(['prosody'], say);
  if (missing.length > 0) return `There is no Prosody here (${why || 'apt-get did not bring it'})`;
  return startProsody({ url: daemon.tapUrl, secret: SECRET }).catch(
    (error: Error) => `Prosody is installed but does not start (${error.message.trim()})`,
  );
}

/** Two people on a real Prosody. */
function realStory(server: Prosody): Story {
  const login = [
    `  XMPP   127.0.0.1:${server.c2sPort}, domain localhost, no TLS, any user name and password (PLAIN)`,
    `  rooms  anything@${server.mucHost}`,
  ].join('\n');
  const clients = new Map<string, Awaited<ReturnType<typeof connect>>>();
  const client = (user: string) => clients.get(user) as Awaited<ReturnType<typeof connect>>;
  const log = async (user: string, resource: string) => clients.set(user, await connect(server, user, resource));
  const steps: Step[] = [
    { title: 'Alice logs in with her phone', expected: [online(ALICE)], act: () => log('alice', 'phone') },
    { title: 'Bob logs in with his laptop', expected: [online(BOB)], act: () => log('bob', 'laptop') },
    {
      title: 'Alice writes to Bob',
      expected: [pm(ALICE, BOB, 'Hello, Bob')],
      act: () => message(client('alice'), { to: BOB, body: 'Hello, Bob' }),
    },
    {
      title: 'Bob answers',
      expected: [pm(BOB, ALICE, 'Tea at four? 🫖')],
      act: () => message(client('bob'), { to: ALICE, body: 'Tea at four? 🫖' }),
    },
    {
      title: 'Both join a room, and Alice speaks: one notification, whoever is in the room',
      expected: [muc(ALICE, 'Hi, everyone!')],
      act: async () => {
        await join(client('alice'), ROOM, 'Al');
        await join(client('bob'), ROOM, 'Bobby');
        await message(client('alice'), { to: ROOM, type: 'groupchat', body: 'Hi, everyone!' });
      },
    },
    { title: 'Bob closes his client', expected: [offline(BOB)], act: () => client('bob').logout() },
    {
      title: "Alice's phone loses its network: her TCP connection is killed",
      expected: [offline(ALICE)],
      act: async () => client('alice').cut(),
    },
  ];
  return { steps, login, through: 'Prosody → adapter → daemon → SNS → SQS' };
}

/** The same story as recorded events, for a machine without Prosody. */
function recordedStory(daemon: Daemon): Story {
  let seq = 0;
  const post = async (event: Record<string, unknown>) => {
    seq += 1;
    const events = [{ at: Date.now(), host: 'localhost', ...event }];
    const { status, json } = await daemon.post({ source: 'recorded@demo', epoch: 'demo', first_seq: seq, events });
    if (status !== 200) throw new Error(`the tap answered ${status}: ${JSON.stringify(json)}`);
  };
  const presence = (jid: string, present: boolean) =>
    post({ kind: 'presence', jid, present, sessions: present ? 1 : 0 });
  const says = (type: string, from: string, to: string, body: string) =>
    post({ kind: 'message', type, from, to, body });
  const phone = `${ALICE}/phone`;
  const laptop = `${BOB}/laptop`;
  const steps: Step[] = [
    { title: 'Alice logs in', expected: [online(ALICE)], act: () => presence(phone, true) },
    { title: 'Bob logs in', expected: [online(BOB)], act: () => presence(laptop, true) },
    {
      title: 'Alice writes to Bob',
      expected: [pm(ALICE, BOB, 'Hello, Bob')],
      act: () => says('chat', phone, BOB, 'Hello, Bob'),
    },
    {
      title: 'Alice speaks in a room',
      expected: [muc(ALICE, 'Hi, everyone!')],
      act: () => says('groupchat', phone, ROOM, 'Hi, everyone!'),
    },
    { title: 'Bob leaves', expected: [offline(BOB)], act: () => presence(laptop, false) },
    { title: "Alice's phone loses its network", expected: [offline(ALICE)], act: () => presence(phone, false) },
  ];
  return {
    steps,
    login: `  tap    ${daemon.tapUrl}, secret ${SECRET}`,
    through: 'recorded events → tap → daemon → SNS → SQS',
  };
}

/** Summarizes a notification: who did what. */
function summary({ topic, body }: Received): string {
  const { user_id, present, from_user_id, to_user_id } = body;
  if (topic === TOPICS.presence) return `${user_id} ${present ? 'came online' : 'went offline'}`;
  return `${from_user_id} → ${to_user_id}`;
}

function print(received: Received, isSurplus = false): void {
  const { topic, body } = received;
  const mark = isSurplus ? styleText('red', '✘ surplus:') : styleText('green', '✔');
  say(`   ${mark} ${styleText('bold', summary(received))}`);
  say(`     ${styleText('cyan', topic)}  ${JSON.stringify(body)}`);
}

const isExpected = ({ topic, body }: Received, [wanted, content]: Expected): boolean =>
  topic === wanted && JSON.stringify(body) === JSON.stringify(content);

/** Plays the steps. Returns which expected notifications did not arrive, and how many were unexpected or duplicate. */
async function play(
  steps: readonly Step[],
  sns: Sns,
  daemon: Daemon,
): Promise<{ missed: Expected[]; surplus: number }> {
  const missed: Expected[] = [];
  let seen = 0;
  let surplus = 0;
  const look = () => {
    const fresh = sns.received.slice(seen);
    seen += fresh.length;
    for (const received of fresh) {
      const index = missed.findIndex((expected) => isExpected(received, expected));
      if (index === -1) surplus += 1;
      else missed.splice(index, 1);
      print(received, index === -1);
    }
  };
  for (const { title, expected, act } of steps) {
    say(`\n ${styleText('yellow', '▸')} ${title}`);
    missed.push(...expected);
    await act();
    await sns.receive(seen + expected.length, 15_000).catch(() => sns.received);
    look();
  }
  await until('the outbox to be empty', async () => (await depthOf(daemon)) === 0).catch(() => undefined);
  await sns.receive(0);
  look();
  for (const [topic, body] of missed)
    say(`   ${styleText('red', '✘')} never came: ${styleText('cyan', topic)}  ${JSON.stringify(body)}`);
  return { missed, surplus };
}

/** How many notifications SNS has not accepted yet. */
async function depthOf({ adminUrl }: Daemon): Promise<number> {
  const metrics = await (await fetch(`${adminUrl}/metrics`)).text();
  const depths = metrics.matchAll(/^xmpp_event_pusher_outbox_notifications\{[^}]*\} (\d+)$/gm);
  return [...depths].reduce((sum, [, depth]) => sum + Number(depth), 0);
}

/** Parses the flags; exits with a usage error if they are wrong. */
function readFlags() {
  try {
    // npm takes flags that stand before `--` for its own, and passes them on in the environment.
    const ofNpm = (name: string) => process.env[`npm_config_${name}`] === 'true';
    return parseArgs({
      options: {
        keep: { type: 'boolean', default: ofNpm('keep') },
        recorded: { type: 'boolean', default: ofNpm('recorded') },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return (error as Error).message;
  }
}

async function main(): Promise<number> {
  const values = readFlags();
  if (typeof values === 'string' || values.help) {
    if (typeof values === 'string') process.stderr.write(`${values}\n\n${HELP}`);
    else process.stdout.write(HELP);
    return typeof values === 'string' ? 2 : 0;
  }
  leaveNothing('xmpp-event-pusher-demo');
  await using stack = new AsyncDisposableStack();
  const sns = stack.use(await startSns(Object.values(TOPICS)));
  const daemon = stack.use(await createDaemon(sns, { sns: 'attributes = ["event_id", "timestamp"]' }));
  await daemon.start();
  const server = values.recorded ? 'As you wish' : await findProsody(daemon);

  say(styleText('bold', '\nXMPP events on their way to Amazon SNS, as a subscriber of the topics receives them'));
  if (typeof server === 'string') say(`${server}: recorded events are posted to the tap.`);
  else stack.use(server);
  const { steps, login, through } = typeof server === 'string' ? recordedStory(daemon) : realStory(server);
  const { missed, surplus } = await play(steps, sns, daemon);

  const expected = steps.flatMap((step) => step.expected).length;
  const verdict = [
    missed.length === 0 ? styleText('green', 'All came.') : styleText('red', `${missed.length} never came.`),
    ...(surplus === 0 ? [] : [styleText('red', `${surplus} surplus.`)]),
  ].join(' ');
  say(`\n${verdict} ${expected} notifications expected, ${sns.received.length} received: ${through}`);
  if (missed.length > 0) say(daemon.output());
  if (values.keep) await keep(login, daemon, sns);
  return missed.length > 0 || (surplus > 0 && !values.keep) ? 1 : 0;
}

/** Prints notifications until Ctrl-C. */
async function keep(login: string, daemon: Daemon, sns: Sns): Promise<never> {
  say(`\nEverything keeps running; log in with your own XMPP client, and stop with Ctrl-C:\n${login}`);
  say(`  admin  ${daemon.adminUrl}/readyz\n  SNS    ${sns.url} (region ${sns.region}, account ${sns.accountId})\n`);
  // Ctrl-C is the normal end here.
  process.prependListener('SIGINT', () => process.exit(0));
  let seen = sns.received.length;
  for (;;) {
    await sns.receive(seen + 1, 1_000).catch(() => sns.received);
    for (const received of sns.received.slice(seen)) print(received);
    seen = sns.received.length;
  }
}

/** What is wrong with the machine, such as a full disk; of a mistake in the program also where it is. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return 'syscall' in error || error.constructor === Error ? error.message.trim() : String(error.stack);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`\nThe demo failed: ${explain(error)}\n`);
  process.exitCode = 1;
}
