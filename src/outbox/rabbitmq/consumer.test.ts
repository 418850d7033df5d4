import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { beforeEach, describe, it } from 'node:test';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { turns } from '../../../test/support/consumer.ts';
import { notification, TOPIC } from '../../../test/support/outbox.ts';
import { until } from '../../../test/support/process.ts';
import { SILENT } from '../../log.ts';
import { PartitionConsumer } from './consumer.ts';
import { Depths } from './depths.ts';
import type { Ground } from './ground.ts';
import { Marks } from './marks.ts';
import { END, type InHand, NUMBERED, toLine } from './parcel.ts';

/** A broker's side of a channel: keeps what was acknowledged, and brings what a test delivers. */
class FakeChannel extends EventEmitter {
  readonly acknowledged: number[] = [];
  readonly deleted: string[] = [];
  #deliver: ((message: ConsumeMessage) => void) | undefined;
  #tags = 0;

  get isConsumed(): boolean {
    return this.#deliver !== undefined;
  }

  async prefetch() {}

  async consume(_queue: string, deliver: (message: ConsumeMessage) => void) {
    this.#deliver = deliver;
  }

  ack({ fields }: ConsumeMessage) {
    this.acknowledged.push(fields.deliveryTag);
  }

  async deleteQueue(queue: string) {
    this.deleted.push(queue);
  }

  async close() {
    this.emit('close');
  }

  bring(messageId: string, content: string) {
    const fields = { deliveryTag: ++this.#tags };
    const message = { fields, properties: { messageId, headers: {} }, content: Buffer.from(content) };
    // Without the fields that a consumer doesn't read.
    this.#deliver?.(message as unknown as ConsumeMessage);
  }
}

describe('the consumer of a partition', () => {
  const channels: FakeChannel[] = [];
  const arrived: InHand[] = [];
  /** How often reading the number of partitions still fails. */
  let failures = 0;
  let isFormer = false;
  beforeEach(() => {
    channels.length = 0;
    arrived.length = 0;
    failures = 0;
    isFormer = false;
  });

  // Only what opens channels: a real connection needs a broker.
  const connection = {
    connection: {},
    async createChannel() {
      const channel = new FakeChannel();
      channels.push(channel);
      return channel;
    },
  } as unknown as ChannelModel;

  const ground: Ground = {
    connection: () => connection,
    async declare() {},
    isFormer: () => isFormer,
    async refresh() {
      if (failures-- > 0) throw new Error('of the test');
      isFormer = true;
    },
    missing() {},
    prefetch: 10,
    mostBytes: () => 1_000_000,
    reserve: () => 256,
    async bury() {},
    memoryOf: () => ({ marks: new Marks(), acknowledged: new Set() }),
    settled: new Map(),
    gaveBack() {},
    depths: new Depths(),
    log: SILENT,
    renewMs: 60_000,
    leaveMs: 100,
    stopMs: 1_000,
  };

  /** Its channel after as many others, once it is consumed. */
  async function channel(index: number): Promise<FakeChannel> {
    await until('a channel', () => channels[index]?.isConsumed === true);
    return channels[index] as FakeChannel;
  }

  it('gets the end marker again after a failed look for the new number of partitions', async () => {
    failures = 1;
    const consumer = new PartitionConsumer('q', TOPIC, ground, (parcel) => arrived.push(parcel));
    (await channel(0)).bring('end', END);
    const next = await channel(1);
    next.bring('end', END);
    await until('the queue to be deleted', () => next.deleted.length === 1);
    await consumer.stop();
  });

  it('deletes a former queue although another daemon took a parcel from it that is in hand here', async () => {
    const consumer = new PartitionConsumer('q', TOPIC, ground, (parcel) => arrived.push(parcel));
    const before = await channel(0);
    before.bring('p1', toLine(notification('s/x/1'), NUMBERED));
    const [parcel] = arrived as [InHand];
    consumer.unpack(parcel);
    before.emit('close');
    const next = await channel(1);
    next.bring('end', END);
    await turns();
    assert.deepEqual(next.deleted, []);
    parcel.left = 0;
    consumer.finished(parcel);
    await until('the queue to be deleted', () => next.deleted.length === 1);
    assert.deepEqual(next.acknowledged, []);
    await consumer.stop();
  });

  it('leaves parcels beyond its limit of bytes unread until those before them are settled', async () => {
    isFormer = true;
    const line = (id: string, length: number) => toLine(notification(id, { message: 'x'.repeat(length) }), NUMBERED);
    const parcels = [line('s/x/1', 600_000), line('s/x/2', 600_000), line('s/x/3', 10)];
    const consumer = new PartitionConsumer('q', TOPIC, ground, (parcel) => arrived.push(parcel));
    const before = await channel(0);
    for (const [index, content] of parcels.entries()) before.bring(`p${index + 1}`, content);
    before.bring('end', END);
    await turns();
    // Nothing is tried meanwhile.
    assert.deepEqual([channels.length, before.deleted], [1, []]);
    assert.deepEqual(
      arrived.map(({ id }) => id),
      ['p1'],
    );
    assert.equal(consumer.inHand, 3);
    const [first] = arrived as [InHand];
    first.left = 0;
    consumer.finished(first);
    const next = await channel(1);
    assert.deepEqual(before.acknowledged, [1]);
    for (const [index, content] of parcels.entries()) if (index > 0) next.bring(`p${index + 1}`, content);
    assert.deepEqual(
      arrived.map(({ id }) => id),
      ['p1', 'p2', 'p3'],
    );
    assert.equal(consumer.inHand, 2);
    await consumer.stop();
  });
});
