/**
 * A peer that runs on Node.js, as a process: publishes for the time that its parent sets, and answers how long it took.
 */
import awsLite from '@aws-lite/client';
import { AwsClient } from 'aws4fetch';
import { clock } from '../measure.ts';
import { IN_FLIGHT, LOOPS, type Loop, MESSAGES, TOPIC } from '../publisher.ts';

const CREDENTIALS = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  region: 'eu-west-1',
};

/** Publishes with as many open requests as the others, one message each. */
function inParallel(publish: (message: string) => Promise<unknown>): Loop {
  let n = 0;
  return async (over) => {
    const one = async () => {
      while (!over()) await publish(MESSAGES[n++ % MESSAGES.length] as string);
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, one));
  };
}

const FORM = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
const formOf = (Message: string): string =>
  String(new URLSearchParams({ Action: 'Publish', Version: '2010-03-31', TopicArn: TOPIC, Message }));

const ALL: Readonly<Record<string, (endpoint: string) => Loop | Promise<Loop>>> = {
  ...LOOPS,
  'aws4fetch, Publish': (endpoint) => {
    const client = new AwsClient({ ...CREDENTIALS, service: 'sns', retries: 0 });
    return inParallel(async (Message) => {
      const answer = await client.fetch(endpoint, { method: 'POST', headers: FORM, body: formOf(Message) });
      await answer.text();
    });
  },
  'aws-lite, Publish': async (endpoint) => {
    const aws = await awsLite({ ...CREDENTIALS, endpoint, keepAlive: true });
    return inParallel((Message) => aws({ service: 'sns', method: 'POST', headers: FORM, payload: formOf(Message) }));
  },
};

const [, , name = '', endpoint = ''] = process.argv;
const loop = await ALL[name]?.(endpoint);
if (!loop) throw new Error(`no such peer: ${name}`);
process.on('disconnect', () => process.exit());
process.on('message', async (ms) => {
  const begin = clock();
  await loop(() => clock() > begin + Number(ms));
  process.send?.((clock() - begin) / 1_000);
});
process.send?.('ready');
