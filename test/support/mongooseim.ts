/**
 * A stand-in for MongooseIM with the adapter: Erlang modules in `test/support/mongooseim/` implement the part of its
 * API that a module may use. It has no network and no clients: a test calls its functions through a port of 127.0.0.1.
 */
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { erlangSources } from '../../src/cli/adapter/mongooseim/sources.ts';
import { compileErlang } from './erlang.ts';
import { freePorts, launch, type Process, untilListening } from './process.ts';

const standin = join(import.meta.dirname, 'mongooseim');

/** An Erlang term, as source text. */
export type Term = string & { readonly term: true };

export const raw = (text: string) => text as Term;
export const binary = (text: string | Buffer) => raw(`<<${[...Buffer.from(text as string)].join(',')}>>`);
export const atom = (text: string) => raw(`'${text}'`);
export const list = (terms: readonly Term[]) => raw(`[${terms.join(',')}]`);
export const tuple = (...terms: Term[]) => raw(`{${terms.join(',')}}`);
export const map = (fields: Readonly<Record<string, Term | undefined>>) => {
  const known = Object.entries(fields).filter(([, value]) => value !== undefined);
  return raw(`#{${known.map(([key, value]) => `'${key}' => ${value}`).join(',')}}`);
};

export interface MongooseImOptions {
  url: string;
  secret?: string;
  queueMax?: number;
  slowRetrySeconds?: number;
  /** How long the end of a resumed session waits for its new process. */
  handoverMs?: number;
  /** The host type of each domain; default: only `localhost`. */
  domains?: Readonly<Record<string, string>>;
  /** A node of a cluster has a name, and finds the others through its own epmd. */
  node?: { name: string; epmdPort: number; others: readonly string[] };
  /** Uses the names of hooks until 6.2, and lists of attributes. */
  old?: boolean;
  env?: NodeJS.ProcessEnv;
  /** Runs an installed adapter, configured only by this `app.config` and `vm.args`. */
  installed?: { appConfig: string; vmArgs: string };
}

export interface MongooseIm extends AsyncDisposable {
  /** Calls a function in it; settles with the returned term, as text. */
  call(module: string, name: string, ...args: Term[]): Promise<string>;
  readonly dir: string;
  /** 0 while it is not running. */
  readonly pid: number;
  /** The folder of the adapter's queues. */
  readonly queueDir: string;
  /** Stops it as the server does: sessions first, then modules. */
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
  startModule(hostType?: string): Promise<void>;
  stopModule(hostType?: string): Promise<void>;
  setOptions(options: Partial<MongooseImOptions>): void;
  log(): string;
}

/** A cluster of nodes with their own epmd. */
export interface Cluster extends AsyncDisposable {
  readonly nodes: readonly MongooseIm[];
}

/** Starts nodes `a`, `b` … at 127.0.0.1 and connects them. */
export async function startNodes(count: number, options: MongooseImOptions): Promise<Cluster> {
  const [epmdPort] = (await freePorts(1)) as [number];
  const epmd = await launch('epmd', ['-port', String(epmdPort), '-address', '127.0.0.1']);
  await untilListening(epmd, [epmdPort]);
  const nodes: MongooseIm[] = [];
  const names = [...'abcdef'].slice(0, count).map((letter) => `${letter}@127.0.0.1`);
  for (const name of names)
    nodes.push(
      await startMongooseIm({ ...options, node: { name, epmdPort, others: names.filter((one) => one !== name) } }),
    );
  return {
    nodes,
    async [Symbol.asyncDispose]() {
      for (const node of nodes) await node[Symbol.asyncDispose]();
      await epmd.end('SIGKILL');
    },
  };
}

interface Beams {
  readonly adapter: string;
  readonly standin: string;
}

/** Returns the folders with the compiled adapter and stand-in. */
export async function compileStandIn(): Promise<Beams> {
  const adapter = await compileErlang(erlangSources());
  return { adapter, standin: await compileErlang(globSync(join(standin, '*.erl')).toSorted()) };
}

const MODULE = atom('mod_xmpp_event_pusher');

export async function startMongooseIm(options: MongooseImOptions): Promise<MongooseIm> {
  const dir = await mkdtemp(join(tmpdir(), 'mongooseim-'));
  const [port, distPort] = (await freePorts(2)) as [number, number];
  let current = options;
  let child: Process | undefined;
  let socket: net.Socket | undefined;
  let written = '';
  let calls = 0;
  const waiting = new Map<number, { resolve: (term: string) => void; reject: (error: Error) => void }>();

  async function launchNode(): Promise<void> {
    child = await launch('erl', args(await compileStandIn(), port, distPort, current), {
      cwd: dir,
      env: environment(dir, current),
    });
    await untilListening(child, [port]);
    socket = net.connect(port, '127.0.0.1').setNoDelay();
    await once(socket, 'connect');
    // The node was killed; pending calls are rejected below.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      for (const { reject } of waiting.values()) reject(new Error(`the node is gone:\n${child?.output()}`));
      waiting.clear();
    });
    createInterface({ input: socket }).on('line', (line) => {
      const [, id, what, term = ''] = /^(\d+) (ok|error) (.*)$/.exec(line) ?? [];
      const call = waiting.get(Number(id));
      waiting.delete(Number(id));
      if (what === 'ok') call?.resolve(term);
      else call?.reject(new Error(term || line));
    });
  }

  function call(module: string, name: string, ...terms: Term[]): Promise<string> {
    const id = calls++;
    return new Promise((resolve, reject) => {
      if (!socket || socket.destroyed) return reject(new Error(`${module}:${name}: the node is gone`));
      waiting.set(id, { resolve, reject });
      socket.write(`${tuple(raw(String(id)), atom(module), atom(name), list(terms))}.\n`);
    });
  }

  const hostTypes = () => [...new Set(Object.values(current.domains ?? { localhost: 'localhost' }))];

  async function end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await child?.end(signal);
    written += child?.output() ?? '';
    socket?.destroy();
    child = undefined;
  }

  const server: MongooseIm = {
    call,
    dir,
    queueDir: join(dir, 'queue'),
    get pid() {
      return child?.pid ?? 0;
    },
    async stop() {
      await call('mongoose_standin', 'shutdown');
      await end('SIGTERM');
    },
    kill: () => end('SIGKILL'),
    async start() {
      await launchNode();
      const domains = Object.entries(current.domains ?? { localhost: 'localhost' });
      const pairs = domains.map(([domain, hostType]) => tuple(binary(domain), binary(hostType)));
      await call('mongoose_standin', 'set_domains', list(pairs));
      if (current.old) await call('gen_hook', 'use_old_names', atom('true'));
      for (const other of current.node?.others ?? []) await call('mongoose_standin', 'join', atom(other));
      for (const hostType of hostTypes()) await server.startModule(hostType);
    },
    async startModule(hostType = 'localhost') {
      await call('mongoose_modules', 'ensure_started', binary(hostType), MODULE, map({}));
    },
    async stopModule(hostType = 'localhost') {
      await call('mongoose_modules', 'ensure_stopped', binary(hostType), MODULE);
    },
    setOptions(changes) {
      current = { ...current, ...changes };
    },
    log: () => written + (child?.output() ?? ''),
    async [Symbol.asyncDispose]() {
      await end('SIGKILL');
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await server.start();
  } catch (error) {
    const output = child?.output();
    await server[Symbol.asyncDispose]();
    throw new Error(`the stand-in did not start:\n${output}`, { cause: error });
  }
  return server;
}

/** Arguments equivalent to `etc/vm.args` and `etc/app.config`. */
function args(beams: Beams, port: number, distPort: number, options: MongooseImOptions): string[] {
  const { url, secret = 'secret', queueMax, slowRetrySeconds = 0.5, handoverMs, node } = options;
  const running = ['-run', 'mongoose_standin', 'main', String(port)];
  if (options.installed) {
    const { appConfig, vmArgs } = options.installed;
    return ['-noinput', '-config', appConfig, '-args_file', vmArgs, '-pa', beams.standin, ...running];
  }
  const fields = [
    `{url,"${url}"}`,
    `{secret,"${secret}"}`,
    `{slow_retry,${slowRetrySeconds * 1000}}`,
    ...(queueMax === undefined ? [] : [`{queue_max,${queueMax}}`]),
    ...(handoverMs === undefined ? [] : [`{handover,${handoverMs}}`]),
  ];
  const names = node ? ['-name', node.name, '-setcookie', 'test'] : [];
  const distribution = ['inet_dist_use_interface', '{127,0,0,1}', 'inet_dist_listen_min', String(distPort)];
  return [
    '-noinput',
    '-pa',
    beams.adapter,
    beams.standin,
    ...names,
    ...(node ? ['-kernel', ...distribution, 'inet_dist_listen_max', String(distPort)] : []),
    '-mongooseim',
    'xmpp_event_pusher',
    `[${fields.join(',')}]`,
    ...running,
  ];
}

const environment = (dir: string, { node, env }: MongooseImOptions): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  HOME: dir,
  ERL_CRASH_DUMP: join(dir, 'erl_crash.dump'),
  XMPP_EVENT_PUSHER_DIR: join(dir, 'queue'),
  ...(node ? { ERL_EPMD_PORT: String(node.epmdPort), ERL_EPMD_ADDRESS: '127.0.0.1' } : {}),
  ...env,
});
