/** `check`'s findings on a running daemon, or on the addresses for one that doesn't run yet. */
import net from 'node:net';
import type { PusherConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';
import type { State } from '../ops/state.ts';
import { type Finding, failed } from '../sns/check/diagnosis.ts';
import { version } from '../version.ts';
import { connectableHost, type DaemonClient } from './daemon.ts';

/** Of a daemon that answers. */
export function examineDaemon({ identity, where }: DaemonClient, { notReady }: State): Finding[] {
  const what = 'daemon';
  const seen = `runs as process ${identity.pid} and answers at ${where}`;
  const found = notReady.map(({ what: part, reason, advice = 'see its log' }) =>
    failed(`${what}: ${part}`, reason, 'the daemon is running but not ready', advice),
  );
  if (identity.version !== version)
    found.push({
      what,
      level: 'warn',
      seen: `${seen}, and is of release ${identity.version}`,
      means: `the installed release is ${version}, which runs after a restart`,
      advice: 'restart it',
    });
  return found.length > 0 ? found : [{ what, level: 'ok', seen: `${seen}, ready` }];
}

/** How long an address may take to accept a connection, in milliseconds, before it counts as free. */
const CONNECT_MS = 2_000;

/** Of the addresses that a daemon would listen on. */
export async function examineAddresses({ tap, admin }: PusherConfig): Promise<Finding[]> {
  const addresses = [
    ['tap.http.listen', tap.http.listen],
    ['admin.listen', admin.listen],
  ] as const;
  const found = await Promise.all(
    addresses.map(async ([what, { host, port }]): Promise<Finding> => {
      const problem = await addressProblem(host, port);
      if (problem === undefined) return { what, level: 'ok', seen: `${host}:${port} is free` };
      return failed(what, `${host}:${port} ${problem.seen}`, 'the daemon would not start', problem.advice);
    }),
  );
  const [one, other] = [tap.http.listen, admin.listen];
  if (one.host === other.host && one.port === other.port && one.port !== 0)
    found.push(
      failed(
        'admin.listen',
        `${other.host}:${other.port} is also tap.http.listen`,
        'the daemon would not start',
        'give each its own port',
      ),
    );
  return found;
}

async function addressProblem(host: string, port: number): Promise<{ seen: string; advice: string } | undefined> {
  if (port === 0) return undefined;
  // Connects before it tries to listen, so that two concurrent checks don't disturb each other.
  if (await isTaken(connectableHost(host), port))
    return {
      seen: 'is in use by another process',
      advice: `end that process (ss -ltnp 'sport = :${port}'), or choose another port`,
    };
  const error = await listenFault(host, port);
  if (error === undefined || error.code === 'EADDRINUSE') return undefined;
  return { seen: `can't be listened on: ${messageOf(error)}`, advice: 'correct the address or port' };
}

function isTaken(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port, timeout: CONNECT_MS });
    const settle = (accepted: boolean) => {
      socket.destroy();
      resolve(accepted);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
    socket.once('timeout', () => settle(false));
  });
}

function listenFault(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', resolve);
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
