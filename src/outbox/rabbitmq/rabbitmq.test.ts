import { after, before } from 'node:test';
import { openHouse } from '../../../test/support/rabbit-outbox.ts';
import { type RabbitServer, startRabbit } from '../../../test/support/rabbitmq.ts';
import { outboxContract } from '../contract.ts';

let rabbit: RabbitServer;
let vhost: string;
before(async () => {
  rabbit = await startRabbit();
  vhost = await rabbit.vhost();
});
after(() => rabbit[Symbol.asyncDispose]());

outboxContract(
  'the outbox on RabbitMQ',
  async () => {
    const house = await openHouse(rabbit.url(vhost), { prefetch: 1_000 });
    return { open: (options) => house.open(options), dispose: () => house[Symbol.asyncDispose]() };
  },
  { durable: true, runs: 4 },
);
