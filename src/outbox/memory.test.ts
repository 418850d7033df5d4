import { outboxContract } from './contract.ts';
import { deadLettersContract } from './dead-letters-contract.ts';
import { memoryOutbox } from './memory.ts';

outboxContract(
  'The outbox in memory',
  async () => ({ open: async (options) => memoryOutbox(options), dispose: async () => undefined }),
  { durable: false },
);

deadLettersContract('The outbox in memory', async () => ({
  store: memoryOutbox().deadLetters,
  dispose: async () => undefined,
}));
