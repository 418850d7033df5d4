/** MongooseIM's adapter in a cluster: counts across nodes without Mnesia, and the sessions of a dead node. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Collector, startCollector } from '../support/collector.ts';
import { atom, type Cluster, type MongooseIm, startNodes } from '../support/mongooseim.ts';
import { openSession } from '../support/mongooseim-session.ts';
import { until } from '../support/process.ts';
import { someone } from './contract.ts';

describe('MongooseIM cluster', () => {
  let tap: Collector;
  let cluster: Cluster;
  const node = (index: number) => cluster.nodes[index] as MongooseIm;

  before(async () => {
    tap = await startCollector();
    cluster = await startNodes(3, { url: tap.url, handoverMs: 500 });
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await tap?.[Symbol.asyncDispose]();
  });

  const told = (bare: string) =>
    tap.events
      .filter((event) => event.kind === 'presence' && event.jid.startsWith(`${bare}/`))
      .map((event) => (event.kind === 'presence' ? `${event.present ? '+' : '-'}${event.jid} ${event.sessions}` : ''));

  /** Waits for a user's events, and checks that no others follow. */
  async function expect(bare: string, expected: readonly string[]): Promise<void> {
    await tap.wait(`${expected.length} events of ${bare}`, () => told(bare).length >= expected.length);
    await fence();
    assert.deepEqual(told(bare), expected);
  }

  /** Waits until a message of each running node has arrived. */
  async function fence(): Promise<void> {
    for (const [index, server] of cluster.nodes.entries()) {
      if (server.pid === 0) continue;
      const user = someone('fence');
      const session = await openSession(server, `${user}@localhost/${index}`);
      await session.end();
      await tap.wait('the fence', () => told(`${user}@localhost`).length === 2);
    }
  }

  const open = (server: MongooseIm, user: string, resource: string) =>
    openSession(server, `${user}@localhost/${resource}`);

  it('counts the sessions of all nodes together', async () => {
    const user = someone('alice');
    const bare = `${user}@localhost`;
    const one = await open(node(0), user, 'a');
    await tap.wait('the first', () => told(bare).length === 1);
    const two = await open(node(1), user, 'b');
    await tap.wait('the second', () => told(bare).length === 2);
    await one.end();
    await tap.wait('the first end', () => told(bare).length === 3);
    await two.end();
    await expect(bare, [`+${bare}/a 1`, `+${bare}/b 2`, `-${bare}/a 1`, `-${bare}/b 0`]);
  });

  it('counts 1 and 2, then 1 and 0, if sessions begin and end on all nodes at once', async () => {
    const users = Array.from({ length: 40 }, () => someone('crowd'));
    const sessions = await Promise.all(
      users.flatMap((user) => cluster.nodes.map((server, n) => open(server, user, `${n}`))),
    );
    for (const user of users) await tap.wait('all to be online', () => told(`${user}@localhost`).length === 3);
    await Promise.all(sessions.map((session) => session.end()));
    for (const user of users) {
      const bare = `${user}@localhost`;
      await tap.wait(`all of ${bare}`, () => told(bare).length === 6);
      const counts = told(bare).map((line) => `${line[0]}${line.split(' ')[1]}`);
      // Each node delivers independently, so the events arrive in no fixed order.
      assert.deepEqual(counts.toSorted(), ['+1', '+2', '+3', '-0', '-1', '-2']);
    }
  });

  it('a session resumed on another node, and back, makes no event', async () => {
    const user = someone('eve');
    const bare = `${user}@localhost`;
    const first = await open(node(0), user, 'phone');
    await tap.wait('its begin', () => told(bare).length === 1);
    const second = await first.resume(node(1));
    const third = await second.resume(node(0));
    const fourth = await third.resume(node(2));
    await fence();
    // Longer than the end of a resumed session waits for its new process.
    await new Promise((resolve) => setTimeout(resolve, 800));
    await fence();
    assert.deepEqual(told(bare), [`+${bare}/phone 1`]);
    await fourth.end();
    await expect(bare, [`+${bare}/phone 1`, `-${bare}/phone 0`]);
  });

  it("reports a dead node's sessions once, even if it returns or was the leader", async () => {
    for (const dying of [2, 0]) {
      const user = someone('carol');
      const bare = `${user}@localhost`;
      const survivor = node(1);
      const lives = await open(survivor, user, 'lives');
      await tap.wait('one', () => told(bare).length === 1);
      await open(node(dying), user, 'dies');
      await tap.wait('both', () => told(bare).length === 2);
      // By then the dying node has recorded on disk that the daemon has the session's event.
      await fence();
      await node(dying).kill();
      await tap.wait('its end, by a survivor', () => told(bare).length === 3);
      await node(dying).start();
      await reunited();
      await lives.end();
      await expect(bare, [`+${bare}/lives 1`, `+${bare}/dies 2`, `-${bare}/dies 1`, `-${bare}/lives 0`]);
    }
  });

  it('counts correctly after the module is stopped and started on one node', async () => {
    const user = someone('dan');
    const bare = `${user}@localhost`;
    const here = await open(node(1), user, 'here');
    const ends = await open(node(1), user, 'ends');
    await tap.wait('both', () => told(bare).length === 2);
    await node(1).stopModule();
    await ends.end();
    await node(1).startModule();
    await reunited();
    await tap.wait('the end that nobody saw', () => told(bare).length === 3);
    const there = await open(node(0), user, 'there');
    await tap.wait('the third', () => told(bare).length === 4);
    await here.end();
    await tap.wait('the end of one', () => told(bare).length === 5);
    await there.end();
    const [first, second] = [`+${bare}/here 1`, `+${bare}/ends 2`];
    await expect(bare, [first, second, `-${bare}/ends 1`, `+${bare}/there 2`, `-${bare}/here 1`, `-${bare}/there 0`]);
  });

  for (const [how, stayApart] of [
    ['that lasts', true],
    ['that is over at once', false],
  ] as const)
    it(`begins again the sessions believed dead during a network split ${how}`, async () => {
      const user = someone('fay');
      const bare = `${user}@localhost`;
      const session = await open(node(2), user, 'f');
      await tap.wait('its begin', () => told(bare).length === 1);
      for (const other of ['a@127.0.0.1', 'b@127.0.0.1']) await node(2).call('mongoose_standin', 'cut', atom(other));
      // At once, the others may believe it dead or not.
      if (stayApart) await tap.wait('that it is believed dead', () => told(bare).at(-1) === `-${bare}/f 0`);
      await node(2).call('mongoose_standin', 'join', atom('a@127.0.0.1'));
      await node(2).call('mongoose_standin', 'join', atom('b@127.0.0.1'));
      await reunited();
      await tap.wait('that it is there', () => told(bare).at(-1) === `+${bare}/f 1`);
      await fence();
      await session.end();
      await tap.wait('its end', () => told(bare).at(-1) === `-${bare}/f 0`);
      await fence();
      assert.equal(told(bare).at(-1), `-${bare}/f 0`);
    });

  /** All nodes follow the same leader. */
  const reunited = () =>
    until('all nodes to know each other', async () => {
      const leaders = new Set<string>();
      for (const server of cluster.nodes) {
        const state = await server.call('sys', 'get_state', atom('event_pusher_cluster_localhost'));
        if (!/(lead|\}) => true/.test(state)) return false;
        if ((await server.call('erlang', 'nodes')).split(',').length !== cluster.nodes.length - 1) return false;
        leaders.add(/leader => (\{[^}]*\})/.exec(state)?.[1] ?? '');
      }
      return leaders.size === 1;
    });
});
