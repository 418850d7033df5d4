/** An adapter whose queue is full, and what the daemon says of the events that it dropped. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createDaemon, SECRET } from '../support/daemon.ts';
import { startEjabberd } from '../support/ejabberd.ts';
import { until } from '../support/process.ts';
import { startProsody } from '../support/prosody.ts';
import type { StartServer } from '../support/server.ts';
import { startStubSns } from '../support/stub-sns.ts';
import { connect, post, settle } from '../support/xmpp.ts';

const SERVERS: Readonly<Record<string, StartServer>> = { prosody: startProsody, ejabberd: startEjabberd };
const QUEUE_MAX = 5;

describe('events that an adapter dropped', () => {
  for (const [name, startServer] of Object.entries(SERVERS))
    it(`are missed by the daemon in what ${name} sends: in the metrics, the log and check`, async () => {
      await using sns = await startStubSns({});
      await using daemon = await createDaemon({ url: sns.url, region: 'eu-west-1', accountId: '123456789012' });
      await using server = await startServer({ url: daemon.tapUrl, secret: SECRET, queueMax: QUEUE_MAX });
      const alice = await connect(server, 'alice', 'phone');
      // Her online is the first event.
      let events = 1;
      const say = async () => {
        await post(alice, { to: 'bob@localhost', body: 'hello' });
        events += 1;
      };
      while (events < 3 * QUEUE_MAX) await say();
      await settle(alice);
      await daemon.start();
      const counted = async (metric: string) => {
        const metrics = await (await fetch(`${daemon.adminUrl}/metrics`)).text();
        const lines = metrics.matchAll(new RegExp(`^xmpp_event_pusher_${metric}_total\\{[^}]*\\} (\\d+)$`, 'gm'));
        return [...lines].reduce((sum, [, count]) => sum + Number(count), 0);
      };
      await until('the queue to be delivered', async () => (await counted('events_received')) >= QUEUE_MAX);
      let missing = 0;
      await until('each event to be there or missed', async () => {
        // Shows what is missing before it, once it has come.
        await say();
        await sleep(500);
        missing = await counted('source_events_missing');
        return missing > 0 && missing + (await counted('events_received')) === events;
      });
      assert.ok(missing >= 2 * QUEUE_MAX, `${missing}`);
      await until('the log to say so', () => /hole in the numbers of a source/.test(daemon.output()));
      const { output } = await daemon.command('check');
      assert.match(output, /warn {2}outbox: \d+ events are missing in the numbers of its sources/);
    });
});
