/**
 * ejabberd with the adapter, unprivileged and in the foreground.
 *
 * Needs only Debian's package: `erl` runs it directly from its folder.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileErlang } from './erlang.ts';
import { freePorts, launch, type Process, until, untilListening } from './process.ts';
import { password, type ServerOptions, type XmppServer } from './server.ts';

/** ejabberd's folder as installed by the package. */
export const ejabberdEbin = globSync('/usr/lib/{*/,}ejabberd*/ebin')[0];
const adapterDir = join(import.meta.dirname, '../../adapters/ejabberd');

export interface EjabberdServer extends XmppServer {
  /** Calls ejabberd's HTTP API, such as `kick_user`; returns the answer. */
  api(command: string, args?: Record<string, unknown>): Promise<unknown>;
  /** The folder of the adapter's queue. */
  readonly queueDir: string;
  /** The port for components. */
  readonly componentPort: number;
  /** Sets options for the next start or `reload_config`. */
  configure(options: Partial<EjabberdOptions>): Promise<void>;
  /** Sets options and has ejabberd apply them. */
  reconfigure(options: Partial<EjabberdOptions>): Promise<void>;
  /** Stops the adapter, and starts it again after the change. */
  withoutAdapter(change: () => Promise<void>): Promise<void>;
}

export interface EjabberdOptions extends ServerOptions {
  /** A node of a cluster has a name, and finds the others through its own epmd. */
  node?: { name: string; epmdPort: number };
  /** Whether the adapter's beam files are in the code path; false if the test installs them. */
  precompiled?: boolean;
  /** More environment variables. */
  env?: NodeJS.ProcessEnv;
  /** More modules, each one line of the configuration. */
  modules?: string[];
  /** A component that may connect and send messages in the name of local users (XEP-0356). */
  component?: { name: string; secret: string };
  /** Folders with more compiled modules. */
  beams?: string[];
  /** Replaces the module's options made from the other fields. */
  moduleOptions?: string[] | undefined;
}

/** Returns the folder with the compiled adapter. The behaviour is the first to be compiled. */
export const compileAdapter = () => compileErlang(globSync(join(adapterDir, 'src/*.erl')).toSorted(), [ejabberdEbin!]);

export async function startEjabberd(options: EjabberdOptions, attempts = 3): Promise<EjabberdServer> {
  const dir = await mkdtemp(join(tmpdir(), 'ejabberd-'));
  const [c2sPort, httpPort, distPort, componentPort] = (await freePorts(4)) as [number, number, number, number];
  const ports = { c2sPort, httpPort, componentPort };
  const users = new Set<string>();
  const logFile = join(dir, 'ejabberd.log');
  let current = options;
  let child: Process | undefined;

  const writeConfig = () => writeFile(join(dir, 'ejabberd.yml'), config(current, ports));

  const log = () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : '');

  async function start(): Promise<void> {
    await writeConfig();
    const before = starts(log());
    // Lets a test limit the size of files, like a full disk, without the accompanying signal.
    const ignoring = ['-c', 'trap "" XFSZ; exec erl "$@"', 'erl'];
    const args = await arguments_(dir, current, distPort);
    child = await launch('sh', [...ignoring, ...args], { cwd: dir, env: environment(dir, current) });
    await untilListening(child, [c2sPort, httpPort]);
    await until('ejabberd to be started', () => starts(log()) > before);
  }

  async function end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await child?.end(signal);
    // Mnesia writes lazily: a user registered just before a SIGKILL may be lost.
    if (signal === 'SIGKILL') users.clear();
  }

  async function api(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    const response = await fetch(`http://127.0.0.1:${httpPort}/api/${command}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(args),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${command}: ${response.status} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  }

  const server: EjabberdServer = {
    name: 'ejabberd',
    host: 'localhost',
    mucHost: 'conference.localhost',
    c2sPort,
    boshUrl: `http://127.0.0.1:${httpPort}/bosh`,
    webSocketUrl: `ws://127.0.0.1:${httpPort}/ws`,
    dir,
    queueDir: join(dir, 'mnesia/event_pusher/localhost'),
    componentPort,
    get pid() {
      return child!.pid;
    },
    async register(user) {
      if (users.has(user)) return;
      await api('register', { user, host: 'localhost', password }).catch((error: Error) => {
        if (!/already registered/.test(error.message)) throw error;
      });
      users.add(user);
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    start,
    setTap(tap) {
      current = { ...current, ...tap };
    },
    async configure(changes) {
      current = { ...current, ...changes };
      await writeConfig();
    },
    async reconfigure(changes) {
      await server.configure(changes);
      await api('reload_config');
    },
    async withoutAdapter(change) {
      await server.reconfigure({ adapter: false });
      // It stays for a moment, in case that ejabberd starts the module again.
      const openFiles = () => execFileSync('ls', ['-l', `/proc/${server.pid}/fd`], { encoding: 'utf8', stdio: 'pipe' });
      await until('the adapter to close its queue', () => !openFiles().includes(server.queueDir));
      await change();
      await server.reconfigure({ adapter: true });
    },
    api,
    log,
    async [Symbol.asyncDispose]() {
      await end('SIGKILL');
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await mkdir(join(dir, 'mnesia'));
    await start();
  } catch (error) {
    const output = `${child?.output()}\n${log()}`;
    await server[Symbol.asyncDispose]();
    // Another process took the port first.
    if (attempts > 1 && output.includes('address already in use')) return startEjabberd(options, attempts - 1);
    throw new Error(`ejabberd did not start:\n${output}`, { cause: error });
  }
  return server;
}

const starts = (log: string) => log.split(' is started in the node ').length;

async function arguments_(dir: string, options: EjabberdOptions, distPort: number) {
  const { node, precompiled = true, beams = [] } = options;
  // Only ports of 127.0.0.1, for the node and for shell commands that call it.
  const distribution = node
    ? ['-name', node.name, '-setcookie', 'test', '-kernel', 'inet_dist_use_interface', '{127,0,0,1}'].concat([
        '-kernel',
        'inet_dist_listen_min',
        String(distPort),
        'inet_dist_listen_max',
        String(distPort),
      ])
    : [];
  const path = [...(precompiled ? [await compileAdapter()] : []), ...beams].flatMap((beam) => ['-pa', beam]);
  return ['+K', 'true', '-noinput', '-pa', ejabberdEbin!, ...path, ...distribution].concat([
    '-mnesia',
    'dir',
    `"${join(dir, 'mnesia')}"`,
    '-s',
    'ejabberd',
  ]);
}

function environment(dir: string, { node, env, logSeconds }: EjabberdOptions): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: dir,
    ERL_LIBS: join(ejabberdEbin!, '../..'),
    EJABBERD_CONFIG_PATH: join(dir, 'ejabberd.yml'),
    EJABBERD_LOG_PATH: join(dir, 'ejabberd.log'),
    ERL_CRASH_DUMP: join(dir, 'erl_crash.dump'),
    ...(logSeconds === undefined ? {} : { EVENT_PUSHER_LOG_MS: String(logSeconds * 1_000) }),
    ...(node ? { ERL_EPMD_PORT: String(node.epmdPort), ERL_EPMD_ADDRESS: '127.0.0.1' } : {}),
    ...env,
  };
}

interface Ports {
  readonly c2sPort: number;
  readonly httpPort: number;
  readonly componentPort: number;
}

function config(options: EjabberdOptions, { c2sPort, httpPort, componentPort }: Ports): string {
  const { url, secret = 'secret', queueMax, resumeSeconds = 600, slowRetrySeconds = 0.5 } = options;
  const { answerSeconds = 15, adapter = true, tls, trust, settings = '', component } = options;
  const adapterOptions = options.moduleOptions ?? [
    `url: "${url}"`,
    `secret: "${secret}"`,
    `timeout: ${answerSeconds * 1000}`,
    `slow_retry: ${slowRetrySeconds * 1000}`,
    ...(queueMax === undefined ? [] : [`queue_max: ${queueMax}`]),
  ];
  return `hosts: [localhost]
loglevel: info
auth_method: [internal]
auth_password_format: plain
# PLAIN is left: SCRAM costs the tests' clients a quarter of a second each.
disable_sasl_mechanisms: [digest-md5, scram-sha-1, scram-sha-256, scram-sha-512, scram-sha-1-plus, scram-sha-256-plus, scram-sha-512-plus]
s2s_access: none
acme: {auto: false}
# It answers a WebSocket's close frame, but waits for the client to close the connection: only its pings end the session.
websocket_ping_interval: 1
listen:
  - {port: ${c2sPort}, ip: "127.0.0.1", module: ejabberd_c2s, access: all, max_stanza_size: 524288, starttls_required: ${tls !== undefined}}
  - port: ${httpPort}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {"/api": mod_http_api, "/bosh": mod_bosh, "/ws": ejabberd_http_ws}
${component ? `  - {port: ${componentPort}, ip: "127.0.0.1", module: ejabberd_service, hosts: {"${component.name}": {password: "${component.secret}"}}}` : ''}
acl: {loopback: {ip: ["127.0.0.0/8", "::1/128"]}${component ? `, component: {server: ["${component.name}"]}` : ''}}
api_permissions:
  "loopback": {from: [mod_http_api], who: {access: {allow: [{acl: loopback}]}}, what: "*"}
${tls ? `certfiles: ["${tls.cert}", "${tls.key}"]` : ''}
${trust ? `ca_file: "${trust}"` : ''}
${settings}
modules:
  mod_admin_extra: {}
  mod_bosh: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_muc: {host: "conference.localhost", access: all, access_create: all}
  mod_offline: {}
  mod_ping: {}
${component ? '  mod_privilege: {message: {outgoing: [{allow: [{acl: component}]}]}}' : ''}
  mod_roster: {}
  mod_stream_mgmt: {resume_timeout: ${resumeSeconds}, max_resume_timeout: ${resumeSeconds}}
${(options.modules ?? []).map((line) => `  ${line}\n`).join('')}${adapter ? ['  mod_event_pusher:', ...adapterOptions.map((line) => `    ${line}`)].join('\n') : ''}
`;
}
