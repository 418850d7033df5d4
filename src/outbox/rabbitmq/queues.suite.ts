import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { ChannelModel } from 'amqplib';
import { delayed } from '../../../test/support/delayed.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { SILENT } from '../../log.ts';
import { closeConnection, connectOnce, openChannel, openConfirmChannel } from '../../rabbitmq/connection.ts';
import { explain } from '../../rabbitmq/explain.ts';
import { Depths } from './depths.ts';
import { Directory } from './directory.ts';
import { Leases } from './leases.ts';
import { namesOf } from './names.ts';
import { Queues } from './queues.ts';
import { Writer } from './writer.ts';

const PREFIX = 'queues';

describe('queues of topics on RabbitMQ', () => {
  let rabbit: RabbitServer;
  let vhost: string;
  before(async () => {
    rabbit = await sharedRabbit();
    vhost = await rabbit.vhost();
  });

  /** A daemon's directory and queues, without the rest of it. */
  async function openQueues(stack: AsyncDisposableStack, partitions: number, delays: number[] = []) {
    const real = stack.adopt(await connectOnce(rabbit.url(vhost)), closeConnection);
    const slow = delayed(real, delays);
    const connection = () => slow;
    const names = namesOf(PREFIX);
    const writer = new Writer({ daemon: `${partitions}`, now: Date.now, confirmed() {}, gone() {} });
    writer.attach(await openConfirmChannel(real));
    const write = (queue: string, lines: readonly string[]) => writer.write(queue, lines);
    const leases = new Leases({ names, connection, ask() {} });
    const directory = new Directory({ queue: names.directory, leases, connection, write });
    const shared = { names, directory, connection, write, log: SILENT };
    const more = { maxBytes: 1_000_000, depths: new Depths(), consumers: () => [], changed() {} };
    const queues = new Queues({ ...shared, partitions, ...more });
    await directory.read();
    return { connection: real, queues };
  }

  async function exists(connection: ChannelModel, queue: string): Promise<boolean> {
    const channel = await openChannel(connection);
    return channel.checkQueue(queue).then(
      () => true,
      (error: unknown) => {
        assert.equal(explain(error).kind, 'missing');
        return false;
      },
    );
  }

  it('a former one, deleted just before a daemon with the old number consumes it, is not declared again', async () => {
    await using stack = new AsyncDisposableStack();
    const before = await openQueues(stack, 1);
    await before.queues.ensure('t');
    const [queue = ''] = before.queues.current('t');
    const delays: number[] = [];
    const late = await openQueues(stack, 2, delays);
    const first = await openQueues(stack, 2);
    await first.queues.ensure('t');
    assert.deepEqual(
      [late, first].map(({ queues }) => queues.isFormer(queue)),
      [false, true],
    );
    // Whatever it asks first, the queue is deleted before its next channel opens.
    delays.push(0, 500);
    const declaring = late.queues.declareToConsume(queue);
    const channel = await openChannel(first.connection);
    await channel.deleteQueue(queue);
    await declaring;
    assert.equal(await exists(first.connection, queue), false);
    assert.equal(late.queues.isFormer(queue), true);
  });

  it('a queue that was deleted is declared again for its consumer', async () => {
    await using stack = new AsyncDisposableStack();
    const { connection, queues } = await openQueues(stack, 2);
    await queues.ensure('u');
    const other = await openQueues(stack, 2);
    const channel = await openChannel(connection);
    for (const queue of queues.current('u')) await channel.deleteQueue(queue);
    await Promise.all(other.queues.current('u').map((queue) => other.queues.declareToConsume(queue)));
    for (const queue of queues.current('u')) assert.equal(await exists(connection, queue), true);
  });
});
