import { before } from 'node:test';
import { openHouse } from '../../../test/support/rabbit-outbox.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { outboxContract } from '../contract.ts';

let rabbit: RabbitServer;
let vhost: string;
before(async () => {
  rabbit = await sharedRabbit();
  vhost = await rabbit.vhost();
});

outboxContract(
  'the outbox on RabbitMQ',
  async () => {
    const house = await openHouse(rabbit.url(vhost), { prefetch: 1_000 });
    return { open: (options) => house.open(options), dispose: () => house[Symbol.asyncDispose]() };
  },
  { durable: true, runs: 4 },
);
