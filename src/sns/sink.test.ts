import { type Fault, startStubSns } from '../../test/support/stub-sns.ts';
import { sinkContract } from '../pipeline/sink-contract.ts';
import { createSnsClient } from './client.ts';
import type { Circumstances } from './failure.ts';
import { snsSink } from './sink.ts';

const KEYS = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' };
const FAULTS: Readonly<Record<string, Fault>> = {
  away: { kind: 'reset', accepts: false },
  denied: { kind: 'error', status: 403, code: 'AuthorizationError', message: 'not authorized' },
};

const CIRCUMSTANCES: Circumstances = {
  endpoint: new URL('http://127.0.0.1'),
  region: 'eu-west-1',
  accountId: '123456789012',
  credentials: 'static',
};

sinkContract('Amazon SNS', async () => {
  const arrived: string[] = [];
  let failing: string | undefined;
  const sns = await startStubSns({
    fault: () => FAULTS[failing ?? ''],
    refuses: ({ message }) => {
      if (!failing?.endsWith('the third') || JSON.parse(message).n !== 3) return undefined;
      return failing === 'refuses the third' ? 'entry' : 'request';
    },
    accepted: ({ message }) => void arrived.push(message),
  });
  const client = createSnsClient({
    endpoint: new URL(sns.url),
    region: 'eu-west-1',
    credentials: { get: () => KEYS, expired: () => undefined },
  });
  return {
    sink: snsSink({ client, maxBytes: () => 262_144, circumstances: () => CIRCUMSTANCES }),
    topic: 'arn:aws:sns:eu-west-1:123456789012:a',
    gives: 'receipts',
    arrived: () => arrived,
    fail: (how) => {
      failing = how;
    },
    async dispose() {
      client.destroy();
      await sns[Symbol.asyncDispose]();
    },
  };
});
