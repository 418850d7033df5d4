/**
 * RabbitMQ for tests: in the foreground, unprivileged ports of 127.0.0.1, its own folders and epmd; one node, or
 * several that form a cluster. A node takes seconds to start, so the tests of a file share one and have a vhost each.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeNameOf, startEpmd } from './epmd.ts';
import { type Gate, openGate } from './gate.ts';
import { freePorts, launch, type Process, until, untilListening } from './process.ts';

const SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
/** Keeps idle schedulers of Erlang from spinning: the tests have few cores. */
const NO_SPINNING = '+sbwt none +sbwtdcpu none +sbwtdio none';
/** What the tests log in with. */
const LOGIN = 'guest:guest';

export interface RabbitNode {
  readonly name: string;
  readonly port: number;
  /** What it logged. */
  log(): string;
  /** Starts it again, with what it had on its disk. */
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** It answers nobody any more, or does again: SIGSTOP and SIGCONT. */
  hang(hung: boolean): void;
  /** Blocks its ports, to other nodes and to clients, or opens them again; where the server was started with gates. */
  cut(off: boolean): void;
  /** Evaluates Erlang on the node, such as `rabbit_vhost:list().`; settles with what it prints. */
  evaluate(erlang: string): Promise<string>;
}

export interface RabbitServer extends AsyncDisposable {
  readonly nodes: readonly RabbitNode[];
  /** Makes a vhost, for one test; settles with its name. */
  vhost(): Promise<string>;
  /** Adds a vhost of this name. */
  addVhost(vhost: string): Promise<void>;
  /** The address of a vhost on one of the nodes. */
  url(vhost: string, options?: { node?: number; login?: string }): string;
  /** Makes a user with these permissions on a vhost: patterns of names to configure, write and read. */
  user(name: string, password: string, vhost: string, permissions: readonly [string, string, string]): Promise<void>;
  /** Raises or ends the alarm of a lack of memory or disk space on a node. */
  alarm(raised: boolean, node?: number, resource?: 'memory' | 'disk'): Promise<void>;
}

export interface RabbitOptions {
  /** How many nodes; more than one form a cluster. Default: 1. */
  nodes?: number;
  /** More lines for rabbitmq.conf. */
  settings?: string;
  /** Lets the nodes' ports be blocked: all connections lead through this process then. */
  gates?: boolean;
}

export async function startRabbit({
  nodes: count = 1,
  settings = '',
  gates: gated = false,
}: RabbitOptions = {}): Promise<RabbitServer> {
  const dir = await mkdtemp(join(tmpdir(), 'rabbitmq-'));
  const gates = gated ? createGates() : undefined;
  const epmd = gates ? await startEpmd(gates.between) : await launchEpmd();
  const names = Array.from({ length: count }, (_, index) => `rabbit${index}@127.0.0.1`);
  const cluster = names.map((name, index) => `cluster_formation.classic_config.nodes.${index + 1} = ${name}`);
  const shared = [
    'loopback_users.guest = true',
    'disk_free_limit.absolute = 50MB',
    'raft.wal_max_size_bytes = 33554432',
    'auth_mechanisms.1 = PLAIN',
    'auth_mechanisms.2 = EXTERNAL',
    'ssl_cert_login_from = common_name',
    ...(count > 1
      ? ['cluster_formation.peer_discovery_backend = classic_config', 'cluster_partition_handling = pause_minority']
      : []),
    ...(count > 1 ? cluster : []),
    settings,
  ].join('\n');
  const nodes = await Promise.all(names.map((name) => makeNode(join(dir, name), name, epmd.port, shared, gates)));
  // The first one forms the cluster, and the others join it.
  await nodes[0]?.start();
  await Promise.all(nodes.slice(1).map((node) => node.start()));

  let vhosts = 0;
  const first = () => nodes[0] as RabbitNode;
  const addVhost = async (name: string) => {
    await first().evaluate(`ok = rabbit_vhost:add(<<"${name}">>, <<"test">>), ${permit('guest', name)}`);
  };
  return {
    nodes,
    async vhost() {
      const name = `test${++vhosts}`;
      await addVhost(name);
      return name;
    },
    addVhost,
    url: (vhost, { node = 0, login = LOGIN } = {}) => `amqp://${login}@127.0.0.1:${nodes[node]?.port}/${vhost}`,
    async user(name, password, vhost, permissions) {
      const add = `rabbit_auth_backend_internal:add_user(<<"${name}">>, <<"${password}">>, <<"test">>)`;
      await first().evaluate(`catch ${add}, ${permit(name, vhost, permissions)}`);
    },
    async alarm(raised, node = 0, resource = 'memory') {
      const what = `{resource_limit, ${resource}, node()}`;
      await nodes[node]?.evaluate(
        raised ? `rabbit_alarm:set_alarm({${what}, []}).` : `rabbit_alarm:clear_alarm(${what}).`,
      );
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node.kill()));
      await gates?.[Symbol.asyncDispose]();
      await epmd[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/**
 * Erlang that lists the processes of a node's channels in a vhost. Suspended with `sys:suspend`, a channel answers
 * nothing, as while it waits for a queue's leader.
 * @param info a property that they have, such as `confirm, true`
 */
export const channelsOf = (vhost: string, info: string): string =>
  `[P || P <- rabbit_channel:list_local(), {vhost, <<"${vhost}">>} =:= hd(rabbit_channel:info(P, [vhost])), {${info}} =:= hd(rabbit_channel:info(P, [${info.split(',')[0]}]))]`;

async function launchEpmd(): Promise<{ port: number } & AsyncDisposable> {
  const [port] = (await freePorts(1)) as [number];
  const epmd = await launch('epmd', ['-port', String(port), '-address', '127.0.0.1']);
  await untilListening(epmd, [port]);
  return { port, [Symbol.asyncDispose]: () => epmd.end('SIGKILL') };
}

/** In front of the nodes' ports, so that a node can be cut off. */
interface Gates extends AsyncDisposable {
  /** Opens one for connections between nodes; settles with its port. */
  readonly between: (name: string, port: number) => Promise<number>;
  /** Opens one for clients; settles with its port. */
  readonly forClients: (name: string, port: number) => Promise<number>;
  cut(name: string, off: boolean): void;
}

function createGates(): Gates {
  const open = new Set<Gate>();
  /** The nodes that are cut off. */
  const off = new Set<string>();
  const gate = async (...options: Parameters<typeof openGate>) => {
    const opened = await openGate(...options);
    open.add(opened);
    return opened.port;
  };
  return {
    between: (name, port) => {
      // The port mapper knows nodes without their host. Whoever is no node, as `erl_call`, gets through.
      const isCut = (node: string) => off.has(node.replace(/@.*/, ''));
      const isShut = (node?: string) => node?.startsWith('rabbit') === true && (isCut(name) || isCut(node));
      return gate(port, isShut, nodeNameOf);
    },
    forClients: (name, port) => gate(port, () => off.has(name)),
    cut(name, isOff) {
      if (isOff) off.add(name);
      else off.delete(name);
      for (const each of open) each.update();
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...open].map((each) => each[Symbol.asyncDispose]()));
    },
  };
}

const permit = (user: string, vhost: string, permissions: readonly string[] = ['.*', '.*', '.*']): string =>
  `ok = rabbit_auth_backend_internal:set_permissions(${[user, vhost, ...permissions, 'test']
    .map((text) => `<<"${text.replaceAll('\\', '\\\\')}">>`)
    .join(', ')}).`;

async function makeNode(
  dir: string,
  name: string,
  epmdPort: number,
  settings: string,
  gates: Gates | undefined,
): Promise<RabbitNode> {
  const [port, distPort] = (await freePorts(2)) as [number, number];
  const alias = name.replace(/@.*/, '');
  const clientPort = gates ? await gates.forClients(alias, port) : port;
  const config = `${dir}.conf`;
  await writeFile(config, `listeners.tcp.1 = 127.0.0.1:${port}\n${settings}\n`);
  // For logins with a client certificate.
  await writeFile(`${dir}.plugins`, '[rabbitmq_auth_mechanism_ssl].');
  const pidFile = `${dir}.pid`;
  const env = {
    ...process.env,
    HOME: join(dir, '..'),
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: name,
    RABBITMQ_USE_LONGNAME: 'true',
    RABBITMQ_DIST_PORT: String(distPort),
    RABBITMQ_CONFIG_FILE: config,
    RABBITMQ_ENABLED_PLUGINS_FILE: `${dir}.plugins`,
    RABBITMQ_MNESIA_BASE: dir,
    RABBITMQ_LOG_BASE: dir,
    RABBITMQ_LOGS: '-',
    RABBITMQ_PID_FILE: pidFile,
    // Nodes that hang are given up after 8 to 10 seconds instead of 60.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `${NO_SPINNING} -setcookie test -kernel inet_dist_use_interface {127,0,0,1} net_ticktime 8`,
  };
  let script: Process | undefined;
  let logged = '';
  /** Of the node itself, which the script starts and waits for. */
  const signal = (what: NodeJS.Signals) => {
    try {
      process.kill(Number(readFileSync(pidFile, 'utf8')), what);
    } catch {
      // It is gone.
    }
  };
  const end = async (how: 'SIGTERM' | 'SIGKILL') => {
    if (!script) return;
    signal(how);
    await script.exited;
    logged += script.output();
    script = undefined;
  };
  process.on('exit', () => script && signal('SIGKILL'));
  return {
    name,
    port: clientPort,
    log: () => logged + (script?.output() ?? ''),
    async start() {
      script = await launch(SERVER, [], { env });
      await untilListening(script, [port], 120_000);
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    cut(off) {
      if (!gates) throw new Error('this server was started without gates');
      gates.cut(alias, off);
    },
    hang: (hung) => signal(hung ? 'SIGSTOP' : 'SIGCONT'),
    async evaluate(erlang) {
      const call = await launch('erl_call', ['-c', 'test', '-name', name, '-timeout', '60', '-e'], {
        env,
        stdin: 'pipe',
      });
      call.type(`${erlang.replace(/\.$/, '')}.\n`);
      call.endInput();
      const status = await call.exited;
      const answer = call.output();
      if (status !== 0 || !answer.startsWith('{ok,')) throw new Error(`${name}: ${erlang} answered ${answer}`);
      return answer.slice('{ok, '.length, -1);
    },
  };
}

/**
 * Whether a node runs, and how many it sees run. Before RabbitMQ 3.13 the list had another name, and a node that was
 * stopped or paused itself answered what it remembered.
 */
const RUNNING =
  '{rabbit:is_running(), length(try rabbit_nodes:list_running() catch error:undef -> rabbit_mnesia:cluster_nodes(running) end)}.';

/** Waits until all nodes of a cluster run together, as each of them sees it. */
export async function untilTogether({ nodes }: RabbitServer): Promise<void> {
  await until('all nodes to run', async () => {
    const views = await Promise.all(nodes.map((node) => node.evaluate(RUNNING)));
    return views.every((view) => view.replaceAll(/\s/g, '') === `{true,${nodes.length}}`);
  });
}
