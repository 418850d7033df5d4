/** Prosody for tests: in the foreground, unprivileged, with its own ports and folder. */
import { chown, cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePorts, launch, type Process, untilListening } from './process.ts';
import type { ServerOptions, XmppServer } from './server.ts';

const adapter = fileURLToPath(new URL('../../adapters/prosody', import.meta.url));

/** Prosody refuses to run as root, so root's tests start it as `nobody`. */
const owner = process.getuid?.() === 0 ? 65_534 : undefined;

export interface Prosody extends XmppServer {
  readonly name: 'prosody';
  /** The folder of the adapter's queue. */
  readonly queueDir: string;
  /** Runs `prosodyctl shell` with these words; settles with the output. */
  shell(...words: string[]): Promise<string>;
  /** Rewrites the configuration and makes Prosody reload it. */
  reconfigure(options: Partial<ServerOptions>): Promise<void>;
}

export interface ProsodyOptions extends ServerOptions {
  /** More lines for the global configuration. */
  globalSettings?: string;
  /** More modules. */
  modules?: string[];
  /** Files to add to the folder of modules: name and text. */
  files?: Readonly<Record<string, string>>;
}

export async function startProsody(options: ProsodyOptions): Promise<Prosody> {
  const dir = await mkdtemp(join(tmpdir(), 'prosody-'));
  const configFile = join(dir, 'prosody.cfg.lua');
  const [c2sPort, httpPort] = (await freePorts(2)) as [number, number];
  let current = options;
  let logged = '';
  let child: Process | undefined;

  await cp(adapter, join(dir, 'plugins'), { recursive: true });
  for (const [name, text] of Object.entries(options.files ?? {})) await writeFile(join(dir, 'plugins', name), text);
  await giveAway(dir);

  async function writeConfig(): Promise<void> {
    await writeFile(configFile, configuration(dir, c2sPort, httpPort, current));
    await giveAway(configFile);
  }

  async function end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (!child) return;
    await child.end(signal);
    logged += child.output();
    child = undefined;
  }

  const server: Prosody = {
    name: 'prosody',
    host: 'localhost',
    mucHost: 'conference.localhost',
    c2sPort,
    boshUrl: `http://127.0.0.1:${httpPort}/http-bind`,
    webSocketUrl: `ws://127.0.0.1:${httpPort}/xmpp-websocket`,
    dir,
    queueDir: join(dir, 'localhost', 'event_pusher'),
    get pid() {
      return child!.pid;
    },
    // The test authentication accepts any user.
    register: async () => {},
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    async start() {
      await writeConfig();
      // A test may have added files.
      await giveAway(dir);
      child = await launch('prosody', ['-F', '--config', configFile], { cwd: dir, uid: owner, gid: owner });
      await untilListening(child, [c2sPort, httpPort]);
    },
    setTap(tap) {
      current = { ...current, ...tap };
    },
    log: () => logged + (child?.output() ?? ''),
    async shell(...words) {
      const ctl = await launch('prosodyctl', ['--config', configFile, 'shell', ...words], { uid: owner, gid: owner });
      await ctl.exited;
      return ctl.output();
    },
    async reconfigure(changes) {
      current = { ...current, ...changes };
      await writeConfig();
      await server.shell('config', 'reload');
    },
    async [Symbol.asyncDispose]() {
      await end('SIGKILL');
      await rm(dir, { recursive: true, force: true });
    },
  };
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

/**
 * Makes Prosody's user the owner of a file or a folder with its content: with a strict umask it could not read them.
 */
async function giveAway(place: string): Promise<void> {
  if (owner === undefined) return;
  await chown(place, owner, owner);
  const inside = await readdir(place, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR') return [];
    throw error;
  });
  for (const name of inside) await chown(join(place, name), owner, owner);
}

function configuration(dir: string, c2sPort: number, httpPort: number, options: ProsodyOptions): string {
  const { url, secret = 'secret', queueMax, resumeSeconds = 600, slowRetrySeconds = 0.5, answerSeconds } = options;
  const { tls, trust, logSeconds } = options;
  const ssl = [
    ...(tls ? [`certificate = "${tls.cert}"`, `key = "${tls.key}"`] : []),
    ...(trust ? [`cafile = "${trust}"`] : []),
  ];
  const modules = ['roster', 'saslauth', 'disco', 'ping', 'presence', 'message', 'iq', 'offline', 'carbons', 'smacks'];
  modules.push('bosh', 'websocket', 'admin_shell', 'posix');
  if (tls) modules.push('tls');
  modules.push(...(options.modules ?? []));
  const pusher = [
    'modules_enabled = { "event_pusher" }',
    `event_pusher_url = "${url}"`,
    `event_pusher_secret = "${secret}"`,
    queueMax === undefined ? '' : `event_pusher_queue_max = ${queueMax}`,
    answerSeconds === undefined ? '' : `event_pusher_timeout = ${answerSeconds}`,
    logSeconds === undefined ? '' : `event_pusher_log_period = ${logSeconds}`,
    `event_pusher_slow_retry = ${slowRetrySeconds}`,
  ];
  return `
daemonize = false; pidfile = "${dir}/prosody.pid"; data_path = "${dir}"; certificates = "${dir}"
plugin_paths = { "${dir}/plugins" }
firewall_scripts = { "${dir}/plugins/firewall.pfw" }
interfaces = { "127.0.0.1" }; c2s_ports = { ${c2sPort} }; c2s_direct_tls_ports = {}
http_interfaces = { "127.0.0.1" }; http_ports = { ${httpPort} }; https_ports = {}; http_default_host = "localhost"
modules_enabled = { ${modules.map((module) => `"${module}"`).join('; ')} }
modules_disabled = { "s2s"; "s2s_auth_certs" }
${ssl.length > 0 ? `ssl = { ${ssl.join('; ')} }` : ''}
${tls ? '' : 'allow_unencrypted_plain_auth = true'}
c2s_require_encryption = ${tls !== undefined}
authentication = "insecure"; insecure_open_authentication = "Yes please, I know what I'm doing!"
storage = "memory"; log = { { levels = { min = "info" }, to = "console" } }
smacks_hibernation_time = ${resumeSeconds}
limits = {}; c2s_stanza_size_limit = 524288; c2s_close_timeout = 1
${options.globalSettings ?? ''}
VirtualHost "localhost"
${options.adapter === false ? '' : pusher.filter(Boolean).join('\n')}
${options.settings ?? ''}
Component "conference.localhost" "muc"
  muc_room_locking = false
`;
}
