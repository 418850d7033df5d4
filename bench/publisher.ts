/**
 * The publisher alone, beside AWS's SDK: one process each, the same endpoint, the same messages, 100 requests under way.
 * This file runs itself as the child that publishes.
 */
import { fileURLToPath } from 'node:url';
import { PublishBatchCommand, PublishCommand, SNSClient } from '@aws-sdk/client-sns';
import { launch } from '../test/support/process.ts';
import type { Figure, Result } from './measure.ts';
import { clock } from './measure.ts';
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

/** A private message's notification. */
const messageOf = (n: number): string =>
  JSON.stringify({
    to_user_id: `user${(n * 31) % 1_000}@example.org`,
    message: `message ${n}: the quick brown fox jumps over the lazy dog`,
    from_user_id: `user${n % 1_000}@example.org`,
  });

export async function publisherAlone({ seconds }: Size): Promise<Result> {
  const figures: Figure[] = [];
  const rates = new Map<string, number>();
  for (const name of Object.keys(LOOPS)) {
    await using endpoint = await startEndpoint();
    // A third of the time each, for there are three.
    const child = await launch(process.execPath, [SELF, name, endpoint.url, String(Math.max(3, seconds / 3))]);
    if ((await child.exited) !== 0) throw new Error(`${name} failed:\n${child.output()}`);
    const { seconds: took, cpuUs, warm } = JSON.parse(child.output()) as Report;
    const published = (await endpoint.stats()).accepted - warm;
    rates.set(name, published / took);
    figures.push({ what: `rate of ${name}`, value: published / took, unit: 'events/s' });
    figures.push({ what: `CPU of ${name}`, value: cpuUs / published, unit: 'µs/event' });
  }
  const [ours = 0, batch = 1, single = 1] = rates.values();
  return {
    benchmark: 'publisher alone',
    figures: [
      { what: "this publisher : the SDK's PublishBatch loop", value: ours / batch, unit: '×', target: { atLeast: 7 } },
      { what: "this publisher : the SDK's Publish loop", value: ours / single, unit: '×', target: { atLeast: 50 } },
      ...figures,
    ],
  };
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
