/** The adapter in a cluster of two ejabberd nodes: counts across nodes, and a dead node's sessions. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { clusterEndToEnd } from '../end-to-end/ejabberd-cluster.suite.ts';
import { type Cluster, startCluster, startDetour } from '../support/cluster.ts';
import { type CollectedPresence, type Collector, startCollector } from '../support/collector.ts';
import type { EjabberdServer } from '../support/ejabberd.ts';
import { until } from '../support/process.ts';
import { type Client, connect, message, presence, xml } from '../support/xmpp.ts';
import { eventsOf, fence, inShort, someone } from './contract.ts';

function threadStates(pid: number): string[] {
  const threads = globSync(`/proc/${pid}/task/*/stat`);
  return threads.map((file) => readFileSync(file, 'utf8').split(') ')[1]!.charAt(0));
}

const queued = ({ queueDir }: EjabberdServer) =>
  globSync(join(queueDir, '*.seg'))
    .map((file) => readFileSync(file, 'latin1'))
    .join();

describe('ejabberd cluster', () => {
  let tap: Collector;
  let cluster: Cluster;
  before(async () => {
    tap = await startCollector();
    cluster = await startCluster(tap.url);
  });
  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
    await tap[Symbol.asyncDispose]();
  });

  const told = (...clients: Client[]) => eventsOf(tap, ...clients.map(({ bare }) => bare)).map(inShort);

  /** Waits until the events of both nodes have arrived. */
  async function settled(): Promise<void> {
    await fence(cluster.a, tap);
    await fence(cluster.b, tap);
  }

  async function twoNodes(name: string, available = true): Promise<[Client, Client]> {
    const user = someone(name);
    return [
      await connect(cluster.a, user, 'on-a', { available }),
      await connect(cluster.b, user, 'on-b', { available }),
    ];
  }

  test('counts sessions on both nodes together', async () => {
    const user = someone('alice');
    // One at a time, because events of two nodes arrive in no fixed order.
    const one = await connect(cluster.a, user, 'on-a');
    await tap.wait('one online', () => told(one).length === 1);
    const two = await connect(cluster.b, user, 'on-b');
    await tap.wait('both online', () => told(one).length === 2);
    await one.logout();
    await tap.wait('one offline', () => told(one).length === 3);
    await two.logout();
    await tap.wait('both offline', () => told(one).length === 4);
    assert.deepEqual(told(one), [`+${one.jid} 1`, `+${two.jid} 2`, `-${one.jid} 1`, `-${two.jid} 0`]);
  });

  test('of two concurrent logins one counts as the first, of two concurrent logouts one as the last', async () => {
    const pairs: [Client, Client][] = [];
    for (let index = 0; index < 15; index++) pairs.push(await twoNodes('eve', false));
    const all = pairs.flat();
    const events = () => eventsOf(tap, ...pairs.map(([{ bare }]) => bare)) as CollectedPresence[];
    const counts = (bare: string, present: boolean) =>
      events()
        .filter((event) => event.jid.startsWith(`${bare}/`) && event.present === present)
        .map((event) => event.sessions);

    await Promise.all(all.map((client) => presence(client)));
    await tap.wait('all online', () => events().length === all.length);
    await Promise.all(all.map((client) => presence(client, 'unavailable')));
    await tap.wait('all offline', () => events().length === 2 * all.length);
    for (const [{ bare }] of pairs) {
      assert.deepEqual(counts(bare, true).toSorted(), [1, 2]);
      assert.deepEqual(counts(bare, false).toSorted(), [0, 1]);
    }
    await Promise.all(all.map((client) => client.closeStream()));
  });

  test('a session resumed on the other node makes no event', async () => {
    await using detour = await startDetour(cluster.a.c2sPort);
    const alice = await connect({ ...cluster.a, c2sPort: detour.port }, someone('alice'), 'phone', { smacks: true });
    const later = Date.now() + 1_100;
    await message(alice, { to: 'bob@localhost', body: 'from a' });
    await settled();
    // Of two sessions on two nodes in the same second, ejabberd can't tell which is newer, and may keep the old one.
    await until('another second than that of the login', () => Date.now() > later);
    detour.target = cluster.b.c2sPort;
    alice.cut();
    assert.equal(await alice.resume(), true);
    await message(alice, { to: 'bob@localhost', body: 'from b' });
    await alice.logout();
    await tap.wait('offline', () => told(alice).length === 4);
    await settled();
    assert.deepEqual(told(alice), [
      `+${alice.jid} 1`,
      `chat ${alice.jid} > bob@localhost: from a`,
      `chat ${alice.jid} > bob@localhost: from b`,
      `-${alice.jid} 0`,
    ]);
    const sources = eventsOf(tap, alice.bare).map((event) => event.source.split('/').at(-1));
    assert.deepEqual(sources, ['a@127.0.0.1', 'a@127.0.0.1', 'b@127.0.0.1', 'b@127.0.0.1']);
  });

  test('a hanging node blocks nothing: events are sent without a count', async () => {
    // ejabberd itself waits for the other node when a client logs in or gets its offline messages.
    const comes = await connect(cluster.a, someone('alice'), 'phone', { available: false });
    const goes = await connect(cluster.a, someone('carol'), 'phone');
    await settled();
    process.kill(cluster.b.pid, 'SIGSTOP');
    await until('all its threads to stand still', () => threadStates(cluster.b.pid).every((state) => state === 'T'));
    try {
      await comes.send(xml('presence'));
      await tap.wait('online', () => told(comes).length === 1);
      goes.cut();
      await tap.wait('offline', () => told(goes).length === 2);
      assert.deepEqual(told(comes, goes), [`+${goes.jid} 1`, `+${comes.jid} undefined`, `-${goes.jid} undefined`]);
    } finally {
      process.kill(cluster.b.pid, 'SIGCONT');
    }
    await settled();
    await comes.logout();
    const [one, two] = await twoNodes('alice');
    await tap.wait('both online, counted again', () => told(one).length === 2);
    // Each node delivers independently.
    assert.deepEqual(told(one).toSorted(), [`+${one.jid} 1`, `+${two.jid} 2`]);
    await one.logout();
    await two.logout();
  });

  test("another node reports a dead node's sessions once, and the dead one does not when it returns", async () => {
    const [stays, dies] = await twoNodes('alice');
    const others: Client[] = [];
    for (let index = 0; index < 20; index++) others.push(await connect(cluster.b, someone('bob'), 'phone'));
    await settled();
    const before = tap.events.length;
    const since = () => tap.events.slice(before).map(inShort);
    await cluster.b.kill();
    await tap.wait('the survivor to tell', () => since().length >= 21);
    const expected = [`-${dies.jid} 1`, ...others.map(({ jid }) => `-${jid} 0`)];
    assert.deepEqual(since().toSorted(), expected.toSorted());

    await cluster.b.start();
    await settled();
    const markers = (line: string) => line.includes('marker');
    assert.deepEqual(since().filter((line) => !markers(line)).length, 21, 'nothing is told again');
    await stays.logout();
    await tap.wait('the last session', () => told(stays).at(-1) === `-${stays.jid} 0`);
  });

  test("a dead node's undelivered events arrive when it returns, and the final state is right", async () => {
    await tap.refuse();
    const [stays, dies] = await twoNodes('alice');
    await message(dies, { to: 'bob@localhost', body: 'not delivered' });
    await until('the node to have it on disk', () => queued(cluster.b).includes('not delivered'));
    await cluster.b.kill();
    await tap.listen();
    await tap.wait('the survivor to tell', () => told(dies).includes(`-${dies.jid} 1`));
    await cluster.b.start();
    await settled();
    // The late online event follows the survivor's offline event: the last event must be offline, with one session
    // left.
    assert.equal(told(dies).at(-1), `-${dies.jid} 1`, told(dies).join('\n'));
    await stays.logout();
    await tap.wait('the last session', () => told(stays).at(-1) === `-${stays.jid} 0`);
  });

  test('a stopped node reports its own sessions', async () => {
    const [stays, stops] = await twoNodes('alice');
    await settled();
    await cluster.b.stop();
    await tap.wait('offline', () => told(stays).length === 3);
    assert.deepEqual(told(stays).at(-1), `-${stops.jid} 1`);
    await cluster.b.start();
    await settled();
    await stays.logout();
    await tap.wait('the last session', () => told(stays).length === 4);
    assert.deepEqual(told(stays).at(-1), `-${stays.jid} 0`);
    tap.check();
    assert.deepEqual(tap.holes, []);
  });

  clusterEndToEnd(() => cluster);
});
