/**
 * Compares the publisher alone with AWS's SDK: one process each, the same endpoint and messages, 100 open requests.
 * They publish in turn, one second each, because the machine's speed may halve within a minute. This file also runs as
 * the child processes that publish.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { PublishBatchCommand, PublishCommand, SNSClient } from '@aws-sdk/client-sns';
import { next } from './child.ts';
import { clock, type Figure, type Result, type Size } from './measure.ts';
import { startOurs } from './publisher-ours.ts';
import { type Endpoint, startEndpoint } from './rig.ts';

export const IN_FLIGHT = 100;
const SELF = fileURLToPath(import.meta.url);
export const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';
const ENTRIES = 10;
const WARM_UP_MS = 5_000;
const TURN_MS = 1_000;

/** Publishes until `over`, then waits for the open requests. */
export type Loop = (over: () => boolean) => Promise<void>;

/** Each creates a loop that publishes to an endpoint. */
export const LOOPS: Readonly<Record<string, (endpoint: string) => Loop>> = {
  'this publisher': (endpoint) =>
    startOurs({ endpoint, topicArn: TOPIC, inFlight: IN_FLIGHT, users: 1_000, messages: MESSAGES }),
  "the SDK's PublishBatch": (endpoint) =>
    sdkLoop(endpoint, (n) => {
      const PublishBatchRequestEntries = BATCHES[n % BATCHES.length];
      return new PublishBatchCommand({ TopicArn: TOPIC, PublishBatchRequestEntries });
    }),
  "the SDK's Publish": (endpoint) =>
    sdkLoop(endpoint, (n) => new PublishCommand({ TopicArn: TOPIC, Message: MESSAGES[n % MESSAGES.length] })),
};

/** Notifications of private messages, prepared so that only publishing is measured. */
export const MESSAGES = Array.from({ length: 10_000 }, (_, n) =>
  JSON.stringify({
    to_user_id: `user${(n * 31) % 1_000}@example.org`,
    message: `message ${n}: the quick brown fox jumps over the lazy dog`,
    from_user_id: `user${n % 1_000}@example.org`,
  }),
);
export const BATCHES = Array.from({ length: MESSAGES.length / ENTRIES }, (_, n) =>
  MESSAGES.slice(n * ENTRIES, (n + 1) * ENTRIES).map((Message, index) => ({ Id: String(index), Message })),
);

/** The sums of a loop's turns. */
interface Turns {
  events: number;
  seconds: number;
  cpuUs: number;
  /** Events per second in each turn. */
  readonly rates: number[];
}

export async function publisherAlone({ seconds }: Size): Promise<Result> {
  await using endpoint = await startEndpoint();
  const names = Object.keys(LOOPS);
  const turns = new Map(names.map((name): [string, Turns] => [name, { events: 0, seconds: 0, cpuUs: 0, rates: [] }]));
  const children = names.map((name) => ({ name, child: fork(SELF, [name, endpoint.url]) }));
  try {
    for (const { child } of children) await publish(child, WARM_UP_MS);
    const rounds = Math.max(3, Math.round((seconds * 1_000) / TURN_MS));
    for (let round = 0; round < rounds; round++) {
      for (const { name, child } of children) await turn(child, endpoint, turns.get(name) as Turns);
    }
  } finally {
    for (const { child } of children) child.kill('SIGKILL');
  }
  const [ours = 0, batch = 1, single = 1] = names.map((name) => rateOf(turns.get(name) as Turns));
  const ratio = (what: string, value: number, atLeast: number): Figure => ({
    what: `this publisher : ${what} loop`,
    value,
    unit: '×',
    target: { atLeast },
  });
  return {
    benchmark: 'publisher alone',
    figures: [
      ratio("the SDK's PublishBatch", ours / batch, 7),
      ratio("the SDK's Publish", ours / single, 50),
      ...[...turns].flatMap(([name, all]): Figure[] => [
        { what: `rate of ${name}`, value: rateOf(all), unit: 'events/s' },
        { what: `CPU of ${name}`, value: all.cpuUs / all.events, unit: 'µs/event' },
      ]),
    ],
    more: { rates: Object.fromEntries([...turns].map(([name, { rates }]) => [name, rates.map(Math.round)])) },
  };
}

const rateOf = ({ events, seconds }: Turns): number => events / seconds;

async function turn(child: ChildProcess, endpoint: Endpoint, turns: Turns): Promise<void> {
  const before = (await endpoint.stats()).accepted;
  const { seconds, cpuUs } = await publish(child, TURN_MS);
  const events = (await endpoint.stats()).accepted - before;
  turns.events += events;
  turns.seconds += seconds;
  turns.cpuUs += cpuUs;
  turns.rates.push(events / seconds);
}

/** Makes a child publish for so long. */
async function publish(child: ChildProcess, ms: number): Promise<LoopReport> {
  child.send(ms);
  return (await next(child)) as LoopReport;
}

function sdkLoop(endpoint: string, commandOf: (n: number) => PublishBatchCommand | PublishCommand): Loop {
  const client = new SNSClient({
    endpoint,
    region: 'eu-west-1',
    credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
    // One kept-alive connection per open request: the SDK at its best.
    requestHandler: { httpAgent: { keepAlive: true, maxSockets: IN_FLIGHT } },
  });
  let n = 0;
  return async (over) => {
    const one = async () => {
      while (!over()) await client.send(commandOf(n++) as PublishBatchCommand);
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, one));
  };
}

/** The measurements of one turn. */
interface LoopReport {
  readonly seconds: number;
  readonly cpuUs: number;
}

async function measure(loop: Loop, ms: number): Promise<LoopReport> {
  const [begin, cpu] = [clock(), process.cpuUsage()];
  await loop(() => clock() > begin + ms);
  const { user, system } = process.cpuUsage(cpu);
  return { seconds: (clock() - begin) / 1_000, cpuUs: user + system };
}

if (process.argv[1] === SELF) {
  const [, , name = '', endpoint = ''] = process.argv;
  const loop = LOOPS[name]?.(endpoint) as Loop;
  process.on('disconnect', () => process.exit());
  process.on('message', async (ms) => process.send?.(await measure(loop, Number(ms))));
}
