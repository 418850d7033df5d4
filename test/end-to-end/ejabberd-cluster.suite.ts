/** A cluster of two ejabberd nodes with one daemon: a user is online as long as there is a session on either node. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { Cluster } from '../support/cluster.ts';
import { createDaemon, SECRET, TOPICS } from '../support/daemon.ts';
import { until } from '../support/process.ts';
import type { XmppServer } from '../support/server.ts';
import { startSns } from '../support/sns.ts';
import { connect, message } from '../support/xmpp.ts';

/** @param cluster gets this daemon as its tap */
export function clusterEndToEnd(cluster: () => Cluster): void {
  it('after the kill of a node only users without a session on the other go offline', async () => {
    await using sns = await startSns(Object.values(TOPICS));
    await using daemon = await createDaemon(sns, { here: true });
    await daemon.start();
    const { a, b } = cluster();
    for (const node of [a, b]) await node.reconfigure({ url: daemon.tapUrl, secret: SECRET });

    /** The user's presence notifications, in order of arrival. */
    const presence = (user: string) =>
      sns.received.filter(({ body }) => body.user_id === user).map(({ body }) => body.present);
    const arrived = (what: string, condition: () => boolean) =>
      until(what, async () => {
        await sns.receive(0);
        return condition();
      });
    /** A message sent now arrives after all earlier events of the node. */
    let fences = 0;
    async function fence(node: XmppServer): Promise<void> {
      const text = `fence ${++fences}`;
      const client = await connect(node, `fence${fences}`, 'r', { available: false });
      await message(client, { to: 'nobody@localhost', body: text });
      await client.closeStream();
      await arrived(text, () => sns.received.some(({ body }) => body.message === text));
    }

    const first = await connect(a, 'both', 'on-a');
    await connect(b, 'both', 'on-b');
    const only = await connect(b, 'only', 'on-b');
    await arrived('both to be online', () => [first, only].every(({ bare }) => presence(bare).length === 1));
    // Now the node has recorded on disk that the daemon has the sessions' events, and need not resend them when it
    // returns.
    await fence(b);
    await b.kill();
    await arrived('the one without a session to be offline', () => presence(only.bare).length === 2);
    await fence(a);
    assert.deepEqual(presence(first.bare), [true], 'the other one has a session left');

    await b.start();
    await first.logout();
    await arrived('the last session to end', () => presence(first.bare).length === 2);
    await fence(a);
    await fence(b);
    assert.deepEqual(presence(first.bare), [true, false]);
    assert.deepEqual(presence(only.bare), [true, false], 'the node reports nothing again when it returns');
  });
}
