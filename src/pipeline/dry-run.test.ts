import { dryRunSink } from './dry-run.ts';
import { sinkContract } from './sink-contract.ts';

sinkContract('The dry run', async () => {
  const shown: string[] = [];
  return {
    sink: dryRunSink(({ message }) => void shown.push(message)),
    topic: 'arn:aws:sns:eu-west-1:123456789012:a',
    arrived: () => shown,
    dispose: async () => undefined,
  };
});
