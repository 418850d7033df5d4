/** An adapter whose queue is full, and how the daemon reports the dropped events. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createDaemon, SECRET } from '../support/daemon.ts';
import { startEjabberd } from '../support/ejabberd.ts';
import { until } from '../support/process.ts';
import { startProsody } from '../support/prosody.ts';
import type { StartServer } from '../support/server.ts';
import { startStubSns } from '../support/stub-sns.ts';
import { connect, post, settle } from '../support/xmpp.ts';

const SERVERS: Readonly<Record<string, StartServer>> = { prosody: startProsody, ejabberd: startEjabberd };
const QUEUE_MAX = 5;
const MESSAGES = 14;
/** The queue also has her online event. */
const DROPPED = 1 + MESSAGES - QUEUE_MAX;

describe('events that an adapter dropped', () => {
  for (const [name, startServer] of Object.entries(SERVERS))
    it(`the daemon reports events that ${name} dropped: in the metrics, the log and check`, async () => {
      await using sns = await startStubSns({});
      const host = { url: sns.url, region: 'eu-west-1', accountId: '123456789012' };
      await using daemon = await createDaemon(host, { here: true });
      await using server = await startServer({ url: daemon.tapUrl, secret: SECRET, queueMax: QUEUE_MAX });
      const alice = await connect(server, 'alice', 'phone');
      for (let n = 0; n < MESSAGES; n++) await post(alice, { to: 'bob@localhost', body: 'hello' });
      await settle(alice);
      await daemon.start();
      const counted = async (metric: string) => {
        const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
        const lines = metrics.matchAll(new RegExp(`^xmpp_event_pusher_${metric}_total\\{[^}]*\\} (\\d+)$`, 'gm'));
        return [...lines].reduce((sum, [, count]) => sum + Number(count), 0);
      };
      await until('the queue to be delivered', async () => (await counted('events_received')) === QUEUE_MAX);
      // There is room again only after the adapter has the answer.
      await settle(alice);
      // Her offline event reveals the events missing before it.
      await alice.logout();
      await until('her offline', async () => (await counted('events_received')) === QUEUE_MAX + 1);
      assert.equal(await counted('source_events_missing'), DROPPED);
      await until('the log to say so', () => /hole in the numbers of a source/.test(daemon.output()));
      const { output } = await daemon.command('check');
      const missing = `events ${QUEUE_MAX + 1} to ${QUEUE_MAX + DROPPED}`;
      assert.match(output, new RegExp(`warn {2}outbox: source ${name}.*: ${missing} of \\S+ are missing, noticed at `));
    });
});
