import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import type { ChannelModel, ConsumeMessage } from 'amqplib';
import { Daemons } from './daemons.ts';
import { namesOf } from './names.ts';

/** A connection to an exchange that brings each message to all connected daemons at once. */
class FakeConnection {
  readonly #queues: Set<(message: ConsumeMessage) => void>;
  readonly connection = {};

  constructor(queues: Set<(message: ConsumeMessage) => void>) {
    this.#queues = queues;
  }

  async createChannel() {
    const queues = this.#queues;
    return Object.assign(new EventEmitter(), {
      async assertExchange() {},
      async assertQueue() {},
      async bindQueue() {},
      async close() {},
      async consume(_queue: string, receive: (message: ConsumeMessage) => void) {
        queues.add(receive);
      },
      publish(_exchange: string, _key: string, content: Buffer, { headers }: { headers: object }) {
        for (const receive of queues) receive({ content, properties: { headers } } as ConsumeMessage);
      },
    });
  }
}

describe('the daemons of a prefix', () => {
  let now = 0;
  const queues = new Set<(message: ConsumeMessage) => void>();
  const lost: ChannelModel[] = [];
  // It has what announcements use.
  const connection = () => new FakeConnection(queues) as unknown as ChannelModel;
  beforeEach(() => {
    mock.timers.enable({ apis: ['setInterval'] });
    now = 0;
    queues.clear();
    lost.length = 0;
  });
  afterEach(() => mock.timers.reset());

  /** Lets seconds pass, one after the other. */
  function pass(seconds: number): void {
    for (let second = 0; second < seconds; second++) {
      now += 1_000;
      mock.timers.tick(1_000);
    }
  }

  const create = (id: string) =>
    new Daemons({
      id,
      names: namesOf('xep'),
      describe: () => ({ id, topics: [], generations: {}, partitions: 6, deadLetters: 0, inHand: {}, positions: [] }),
      changed() {},
      lost: (connection) => void lost.push(connection),
      heard() {},
      asked() {},
      settled() {},
      retired() {},
      now: () => now,
    });

  async function join(daemon: Daemons): Promise<void> {
    await daemon.attach(connection());
    daemon.join();
  }

  /** Two that know each other, of which the first is back after both lost their connections. */
  async function loseBoth(): Promise<[Daemons, Daemons]> {
    const [first, second] = [create('a'), create('b')];
    await join(first);
    await join(second);
    pass(3);
    for (const daemon of [first, second]) daemon.detach();
    queues.clear();
    pass(30);
    await join(first);
    return [first, second];
  }

  it('a daemon that is silent for 5 s is gone', async () => {
    const [first] = await loseBoth();
    pass(5);
    assert.deepEqual(first.ids, ['a', 'b']);
    pass(1);
    assert.deepEqual(first.ids, ['a']);
  });

  it('one that reconnects keeps its share if back within 14 s, although its first requests time out', async () => {
    const [first, second] = await loseBoth();
    pass(3);
    await second.attach(connection());
    pass(10);
    assert.deepEqual(first.ids, ['a', 'b']);
    second.join();
    pass(60);
    assert.deepEqual(first.ids, ['a', 'b']);
    assert.deepEqual(second.ids, ['a', 'b']);
  });

  it('one that reconnects and does not take its share loses it after 14 s', async () => {
    const [first, second] = await loseBoth();
    pass(3);
    await second.attach(connection());
    pass(11);
    assert.deepEqual(first.ids, ['a', 'b']);
    pass(1);
    assert.deepEqual(first.ids, ['a']);
    second.join();
    assert.deepEqual(first.ids, ['a', 'b']);
  });

  it('one that is not known yet gets no share before it can take it', async () => {
    const [first, second] = [create('a'), create('b')];
    await join(first);
    await second.attach(connection());
    pass(2);
    assert.deepEqual(first.ids, ['a']);
    second.join();
    assert.deepEqual(first.ids, ['a', 'b']);
  });

  it('one that does not hear itself any more connects again', async () => {
    const daemon = create('a');
    await join(daemon);
    pass(60);
    assert.deepEqual(lost, []);
    // Its queue is not bound to the exchange any more.
    queues.clear();
    pass(11);
    assert.equal(lost.length, 1);
    daemon.detach();
    await join(daemon);
    pass(60);
    assert.equal(lost.length, 1);
  });

  it('one whose connection an alarm blocks does not expect to hear itself', async () => {
    const daemon = create('a');
    const blocked = connection();
    await daemon.attach(blocked);
    daemon.join();
    queues.clear();
    Object.assign(blocked.connection, { blocked: true });
    pass(60);
    assert.deepEqual(lost, []);
  });

  it('one that says good-bye is gone at once', async () => {
    const [first, second] = [create('a'), create('b')];
    await join(first);
    await join(second);
    await second.stop();
    assert.deepEqual(first.ids, ['a']);
  });
});
