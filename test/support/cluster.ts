/** A cluster of two ejabberd nodes, with their own epmd on its own port. */
import { execFile } from 'node:child_process';
import net from 'node:net';
import { promisify } from 'node:util';
import { type EjabberdServer, startEjabberd } from './ejabberd.ts';
import { freePorts, launch, until, untilListening } from './process.ts';

const run = promisify(execFile);

export interface Cluster extends AsyncDisposable {
  readonly a: EjabberdServer;
  readonly b: EjabberdServer;
}

export async function startCluster(url: string): Promise<Cluster> {
  const [epmdPort] = (await freePorts(1)) as [number];
  const epmd = await launch('epmd', ['-port', String(epmdPort), '-address', '127.0.0.1']);
  await untilListening(epmd, [epmdPort]);
  const start = (name: string) => startEjabberd({ url, node: { name: `${name}@127.0.0.1`, epmdPort } });

  const call = async (name: string, what: string) => {
    const env = { ...process.env, ERL_EPMD_PORT: String(epmdPort) };
    const args = ['-c', 'test', '-name', `${name}@127.0.0.1`, '-timeout', '60', '-a', what];
    return (await run('erl_call', args, { env })).stdout;
  };

  const [a, b] = await Promise.all([start('a'), start('b')]);
  // Does what `ejabberdctl join_cluster a@127.0.0.1` does. The node restarts with the other one's database.
  await call('b', `ejabberd_ctl process [["join_cluster", "a@127.0.0.1"]]`);
  await until('both nodes to run one database', async () => {
    const nodes = await call('a', 'mnesia system_info [running_db_nodes]');
    return nodes.includes('a@') && nodes.includes('b@');
  });
  await until('the joined node to take clients', async () => (await fetch(b.boshUrl)).status > 0);
  await until('the joined node to be started', () => b.log().split(' is started in the node ').length > 2);
  return {
    a,
    b,
    async [Symbol.asyncDispose]() {
      await a[Symbol.asyncDispose]();
      await b[Symbol.asyncDispose]();
      await epmd.end('SIGKILL');
    },
  };
}

/** A TCP port that forwards to one of two servers: a client that reconnects through it may reach another node. */
export async function startDetour(port: number): Promise<{ port: number; target: number } & AsyncDisposable> {
  const [own] = (await freePorts(1)) as [number];
  const sockets = new Set<net.Socket>();
  const detour = {
    port: own,
    target: port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
  const listener = net.createServer((client) => {
    const server = net.connect(detour.target, '127.0.0.1');
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('close', () => to.destroy()).on('error', () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => listener.listen(own, '127.0.0.1', resolve));
  return detour;
}
