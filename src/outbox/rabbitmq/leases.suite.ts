import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { delayed } from '../../../test/support/delayed.ts';
import { admission } from '../../../test/support/outbox.ts';
import type { RabbitServer } from '../../../test/support/rabbitmq.ts';
import { sharedRabbit } from '../../../test/support/shared-rabbit.ts';
import { SILENT } from '../../log.ts';
import { closeConnection, connectOnce, openConfirmChannel } from '../../rabbitmq/connection.ts';
import type { Cursor } from '../outbox.ts';
import { Directory } from './directory.ts';
import { Leases } from './leases.ts';
import { namesOf } from './names.ts';
import { Positions } from './positions.ts';
import { Writer } from './writer.ts';

/** What a daemon knows of sources, without the rest of it. */
interface Part {
  readonly positions: Positions;
  readonly directory: Directory;
  cursor(): Promise<Cursor>;
  /** How late the next channels open, in milliseconds. */
  readonly delays: number[];
  /** Whether its writes succeed without an answer. */
  failing: boolean;
  /** Whether its declarations succeed too late. */
  late: boolean;
}

const commit = async (cursor: Cursor, last: number) => {
  await cursor.commit(admission(), { last, missing: 0 }).finally(() => cursor.release());
};

let prefixes = 0;

describe('leases on RabbitMQ', () => {
  let rabbit: RabbitServer;
  let vhost: string;
  before(async () => {
    rabbit = await sharedRabbit();
    vhost = await rabbit.vhost();
  });

  async function openPart(stack: AsyncDisposableStack, prefix: string, ask: (what: string) => void): Promise<Part> {
    const real = stack.adopt(await connectOnce(rabbit.url(vhost)), closeConnection);
    const delays: number[] = [];
    const slow = delayed(real, delays, () => part.late);
    const connection = () => slow;
    const names = namesOf(prefix);
    const writer = new Writer({ daemon: prefix, now: Date.now, confirmed() {}, gone() {} });
    writer.attach(await openConfirmChannel(real));
    const write = async (queue: string, lines: readonly string[]) => {
      await writer.write(queue, lines);
      if (part.failing) throw new Error('of the test');
    };
    const leases = new Leases({ names, connection, ask });
    const directory = new Directory({ queue: names.directory, leases, connection, write });
    const more = { write, moved() {}, log: SILENT, now: Date.now };
    const positions = new Positions({ names, leases, directory, connection, ...more });
    const cursor = () => positions.cursor('s', 'x', () => async () => {});
    const part: Part = { positions, directory, cursor, delays, failing: false, late: false };
    return part;
  }

  /** Two daemons' parts, after a third one that committed the source's first event is gone. */
  async function openTwo(stack: AsyncDisposableStack): Promise<[Part, Part]> {
    const prefix = `lease${++prefixes}`;
    await using before = new AsyncDisposableStack();
    await commit(await (await openPart(before, prefix, () => {})).cursor(), 1);
    const parts: Part[] = [];
    const ask = (asking: number) => (what: string) => void parts[1 - asking]?.positions.giveBack(what);
    const [a, b] = [await openPart(stack, prefix, ask(0)), await openPart(stack, prefix, ask(1))];
    parts.push(a, b);
    for (const { directory } of parts) await directory.read();
    return [a, b];
  }

  it('a lease given back while all positions are read is not held by two daemons', async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b] = await openTwo(stack);
    // The channels that read all positions, take the lease, read the position, and release the lease.
    a.delays.push(300, 0, 0, 600);
    const reading = a.positions.readAll();
    await commit(await a.cursor(), 2);
    const givingBack = a.positions.giveBack('s\nx');
    const ours = await a.cursor();
    const held: Cursor[] = [];
    const taking = b.cursor().then((cursor) => held.push(cursor));
    // Time in which the other daemon would take it.
    await sleep(100);
    assert.deepEqual(held, []);
    await commit(ours, 3);
    await Promise.all([reading, givingBack, taking]);
    assert.deepEqual(
      held.map(({ last }) => last),
      [3],
    );
  });

  it('another daemon gets the lease after a failed write', async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b] = await openTwo(stack);
    a.failing = true;
    await assert.rejects(commit(await a.cursor(), 2));
    // The write succeeded without anyone knowing.
    const cursor = await b.cursor();
    assert.equal(cursor.last, 2);
    await commit(cursor, 3);
    a.failing = false;
    assert.equal((await a.cursor()).last, 3);
  });

  it('another daemon gets the lease that RabbitMQ gave too late', async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b] = await openTwo(stack);
    a.late = true;
    await assert.rejects(a.cursor(), /did not answer/);
    await commit(await b.cursor(), 2);
    a.late = false;
    assert.equal((await a.cursor()).last, 2);
  });

  it('two daemons that change the number of partitions at a time add it once', async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b] = await openTwo(stack);
    await a.directory.addGeneration('topic', 3);
    await Promise.all([a.directory.addGeneration('topic', 2), b.directory.addGeneration('topic', 2)]);
    await a.directory.read();
    assert.deepEqual(a.directory.generations('topic'), [3, 2]);
    assert.deepEqual(b.directory.generations('topic'), [3, 2]);
  });
});
