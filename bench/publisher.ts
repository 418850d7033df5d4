/**
 * The publisher alone, beside AWS's SDK: one process each, the same endpoint, the same messages, 100 requests under way.
 * This file runs itself as the child that publishes.
 */
import { fileURLToPath } from 'node:url';
import { PublishBatchCommand, PublishCommand, SNSClient } from '@aws-sdk/client-sns';
import { launch } from '../test/support/process.ts';
import type { Figure, Result } from './measure.ts';
import { clock, median } from './measure.ts';
import { publishOurs } from './publisher-ours.ts';
import { startEndpoint } from './rig.ts';
import type { Size } from './run.ts';

const IN_FLIGHT = 100;
const SELF = fileURLToPath(import.meta.url);
const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';
const ENTRIES = 10;
const WARM_UP_MS = 3_000;

/** Publishes to an endpoint until the time is over. */
type Loop = (endpoint: string, over: () => boolean) => Promise<void>;

const LOOPS: Readonly<Record<string, Loop>> = {
  'this publisher': (endpoint, over) =>
    publishOurs({ endpoint, topicArn: TOPIC, inFlight: IN_FLIGHT, users: 1_000, messageOf, over }),
  "the SDK's PublishBatch": (endpoint, over) =>
    sdkLoop(endpoint, over, (n) => {
      const entries = Array.from({ length: ENTRIES }, (_, index) => ({
        Id: String(index),
        Message: messageOf(n * ENTRIES + index),
      }));
      return new PublishBatchCommand({ TopicArn: TOPIC, PublishBatchRequestEntries: entries });
    }),
  "the SDK's Publish": (endpoint, over) =>
    sdkLoop(endpoint, over, (n) => new PublishCommand({ TopicArn: TOPIC, Message: messageOf(n) })),
};

/** Notifications of private messages, made beforehand: what is measured is to publish them. */
const MESSAGES = Array.from({ length: 10_000 }, (_, n) =>
  JSON.stringify({
    to_user_id: `user${(n * 31) % 1_000}@example.org`,
    message: `message ${n}: the quick brown fox jumps over the lazy dog`,
    from_user_id: `user${n % 1_000}@example.org`,
  }),
);
const messageOf = (n: number): string => MESSAGES[n % MESSAGES.length] as string;

/** Each in turn, three times: this machine may be faster now than a minute ago. */
const ROUNDS = 3;

export async function publisherAlone({ seconds }: Size): Promise<Result> {
  const names = Object.keys(LOOPS);
  const runs: Record<string, Run[]> = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of names) runs[name]?.push(await run(name, Math.max(3, seconds / names.length / ROUNDS)));
  }
  const medianOf = (name: string, field: keyof Run) => median((runs[name] ?? []).map((one) => one[field]));
  const [ours = 0, batch = 1, single = 1] = names.map((name) => medianOf(name, 'rate'));
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
      ...names.flatMap((name): Figure[] => [
        { what: `rate of ${name}`, value: medianOf(name, 'rate'), unit: 'events/s' },
        { what: `CPU of ${name}`, value: medianOf(name, 'cpuUs'), unit: 'µs/event' },
      ]),
    ],
    more: runs,
  };
}

/** What one run of a loop found. */
interface Run {
  /** Events a second. */
  readonly rate: number;
  /** Processor time of an event, in microseconds. */
  readonly cpuUs: number;
}

async function run(name: string, seconds: number): Promise<Run> {
  await using endpoint = await startEndpoint();
  const child = await launch(process.execPath, [SELF, name, endpoint.url, String(seconds)]);
  if ((await child.exited) !== 0) throw new Error(`${name} failed:\n${child.output()}`);
  const { seconds: took, cpuUs, warm } = JSON.parse(child.output()) as Report;
  const published = (await endpoint.stats()).accepted - warm;
  return { rate: published / took, cpuUs: cpuUs / published };
}

async function sdkLoop(
  endpoint: string,
  over: () => boolean,
  commandOf: (n: number) => PublishBatchCommand | PublishCommand,
): Promise<void> {
  const client = new SNSClient({
    endpoint,
    region: 'eu-west-1',
    credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' },
    // As many connections as requests under way, kept open: the SDK at its best.
    requestHandler: { httpAgent: { keepAlive: true, maxSockets: IN_FLIGHT } },
  });
  let n = 0;
  const one = async () => {
    while (!over()) await client.send(commandOf(n++) as PublishBatchCommand);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, one));
  client.destroy();
}

interface Report {
  readonly seconds: number;
  readonly cpuUs: number;
  /** What was published before the measured time. */
  readonly warm: number;
}

/** Lets a loop warm up, then measures it. */
async function measure(loop: Loop, endpoint: string, seconds: number): Promise<Report> {
  const warmUntil = clock() + WARM_UP_MS;
  await loop(endpoint, () => clock() > warmUntil);
  const { accepted } = (await (await fetch(`${endpoint}/stats`)).json()) as { accepted: number };
  const [begin, cpu] = [clock(), process.cpuUsage()];
  await loop(endpoint, () => clock() > begin + seconds * 1_000);
  const { user, system } = process.cpuUsage(cpu);
  return { seconds: (clock() - begin) / 1_000, cpuUs: user + system, warm: accepted };
}

if (process.argv[1] === SELF) {
  const [, , name = '', endpoint = '', seconds] = process.argv;
  process.stdout.write(JSON.stringify(await measure(LOOPS[name] as Loop, endpoint, Number(seconds))));
}
