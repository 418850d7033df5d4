/**
 * How long a message takes from the client that sends it until SNS accepts it, through XMPP server, adapter, daemon and
 * SNS endpoint, each its own process, at a rate without queueing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StartServer } from '../test/support/server.ts';
import { connect, post } from '../test/support/xmpp.ts';
import { clock, type Result } from './measure.ts';
import { createDaemon, startEndpoint } from './rig.ts';

const A_SECOND = 10;
const WARM_UP = 30;
const TARGET_MS = 12;

export async function latencyOf(name: string, start: StartServer, messages: number): Promise<Result> {
  await using endpoint = await startEndpoint();
  await using daemon = await createDaemon({ snsUrl: endpoint.url });
  await daemon.start();
  await using server = await start({ url: daemon.tapUrl, secret: daemon.secret });
  const alice = await connect(server, 'alice', 'bench');
  const bob = await connect(server, 'bob', 'bench');
  // Random pauses keep the clients out of step with the adapter's timers.
  const send = async (count: number) => {
    for (let number = 0; number < count; number++) {
      await sleep((1_000 / A_SECOND) * (0.5 + Math.random()));
      await post(alice, { to: bob.bare, id: `m${number}`, body: `t=${clock().toFixed(3)} the quick brown fox` });
    }
  };
  await send(WARM_UP);
  await sleep(1_000);
  await endpoint.timeLatencies();
  await send(messages);
  await sleep(1_000);
  const { count, p50, p99, max } = await endpoint.latencies();
  if (count !== messages) throw new Error(`SNS has ${count} of ${messages} messages\n${server.log()}`);
  const at = `from client to SNS, ${A_SECOND} messages/s`;
  return {
    benchmark: `${name}'s adapter`,
    figures: [
      { what: `p50 ${at}`, value: p50, unit: 'ms', target: { atMost: TARGET_MS } },
      { what: `p99 ${at}`, value: p99, unit: 'ms' },
      { what: `most ${at}`, value: max, unit: 'ms' },
    ],
  };
}
