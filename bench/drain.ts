/** After an outage: loads a backlog while SNS is away, restarts the daemon, and brings SNS back. */

import { freePorts } from '../test/support/process.ts';
import { type Result, type Size, slope } from './measure.ts';
import { createDaemon, type DaemonSetup, startEndpoint, type Watch, watch } from './rig.ts';

interface Drained extends Watch {
  /** From the start with the backlog until ready, in milliseconds. */
  readonly startedMs: number;
  /** Events accepted per second while SNS was away. */
  readonly takingIn: number;
}

/** Loads a backlog while SNS is away, restarts the daemon, and measures how it drains. */
export async function drainOf(backlog: number, setup: Omit<DaemonSetup, 'snsUrl'> = {}): Promise<Drained> {
  const [port] = (await freePorts(1)) as [number];
  await using daemon = await createDaemon({ ...setup, snsUrl: `http://127.0.0.1:${port}` });
  await daemon.start();
  const load = await daemon.load({ events: backlog });
  const { acknowledged, seconds } = await load.done;
  await daemon.stop();

  await using endpoint = await startEndpoint(port);
  await daemon.start();
  const { startedMs } = daemon;
  const drained = await watch(daemon, endpoint, ({ accepted }) => accepted >= acknowledged, { everyMs: 250 });
  await daemon.stop();
  return { ...drained, startedMs, takingIn: acknowledged / seconds };
}

export async function drain({ backlog }: Size): Promise<Result> {
  const { samples, startedMs, takingIn, ...drained } = await drainOf(backlog);
  const resident = samples.map(({ second, residentMb }) => [second, residentMb] as const);
  const count = backlog.toLocaleString('en');
  return {
    benchmark: 'drain',
    figures: [
      { what: `start-up with ${count} events waiting`, value: startedMs, unit: 'ms', target: { atMost: 2_000 } },
      {
        what: `rate of draining`,
        value: drained.accepted / drained.seconds,
        unit: 'events/s',
        target: { atLeast: 30_000 },
      },
      { what: `daemon CPU of draining`, value: drained.cpuUs / drained.accepted, unit: 'µs/event' },
      {
        what: 'largest RSS of draining',
        value: Math.max(...resident.map(([, mb]) => mb)),
        unit: 'MB',
        target: { atMost: 300 },
      },
      // Over the second half, at full size: less than 1 MB per second counts as flat.
      {
        what: 'growth of RSS of draining',
        value: slope(resident.slice(resident.length / 2)),
        unit: 'MB/s',
        target: { atMost: 1 },
      },
      { what: 'rate of taking in while SNS is away', value: takingIn, unit: 'events/s' },
    ],
    more: { samples },
  };
}
