/**
 * Prosody and ejabberd with Debian's own configuration files, in temporary folders. Only addresses and paths are
 * changed, so that tests paste into the files that an administrator has.
 */
import { chmodSync, cpSync, readdirSync } from 'node:fs';
import { chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Agent, request } from 'undici';
import { makeCertificate } from './certificate.ts';
import { ejabberdEbin } from './ejabberd.ts';
import { freePorts, launch, type Process, until, untilListening } from './process.ts';
import { password, type Reachable } from './server.ts';

export interface DebianServer extends Reachable, AsyncDisposable {
  readonly name: 'prosody' | 'ejabberd';
  readonly folder: string;
  /** The file that an administrator edits: `prosody.cfg.lua` or `ejabberd.yml`. */
  readonly configFile: string;
  /** The value for `adapter --server-config`. */
  readonly serverConfig: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  log(): Promise<string>;
}

/** Prosody refuses to run as root, so root's tests start it as `nobody`. */
const nobody = process.getuid?.() === 0 ? 65_534 : undefined;

export interface DebianProsody extends DebianServer {
  shell(...words: string[]): Promise<string>;
}

/** @param domains lines for more virtual hosts, below Debian's own */
export async function debianProsody(domains = ''): Promise<DebianProsody> {
  const folder = await mkdtemp(path.join(tmpdir(), 'debian-prosody-'));
  const configFile = path.join(folder, 'prosody.cfg.lua');
  const data = path.join(folder, 'data');
  const [c2sPort] = (await freePorts(1)) as [number];
  await mkdir(path.join(folder, 'certs'));
  await mkdir(data);
  if (nobody !== undefined) await chown(data, nobody, nobody);
  cpSync('/etc/prosody/conf.avail/localhost.cfg.lua', path.join(folder, 'conf.d/localhost.cfg.lua'));
  const stock = await readFile('/etc/prosody/prosody.cfg.lua', 'utf8');
  const here = `data_path = "${data}"; interfaces = { "127.0.0.1" }; c2s_ports = { ${c2sPort} }; s2s_ports = {}
c2s_direct_tls_ports = {}; c2s_require_encryption = false; c2s_close_timeout = 1
`;
  const changed = stock
    .replace('/run/prosody/prosody.pid', path.join(data, 'prosody.pid'))
    .replace(/^log = \{[\s\S]*?\n\}/m, 'log = { { levels = { min = "info" }, to = "console" } }')
    // Without a trusted certificate, clients could not log in over TLS.
    .replace('modules_disabled = {', '$&\n\t"tls";')
    .replace('VirtualHost "localhost"\n', `VirtualHost "localhost"\n${domains}\n`);
  await writeFile(configFile, here + changed);
  readable(folder);

  let child: Process | undefined;
  let logged = '';
  const owner = { uid: nobody, gid: nobody };
  const ctl = async (...args: string[]) => {
    const run = await launch('prosodyctl', ['--config', configFile, ...args], owner);
    await run.exited;
    return run.output();
  };
  const end = async () => {
    await child?.end('SIGTERM');
    logged += child?.output() ?? '';
    child = undefined;
  };
  return {
    name: 'prosody',
    host: 'localhost',
    c2sPort,
    // Debian's files enable neither.
    boshUrl: '',
    webSocketUrl: '',
    folder,
    configFile,
    serverConfig: configFile,
    register: async (user) => void (await ctl('register', user, 'localhost', password)),
    async start() {
      child = await launch('prosody', ['-F', '--config', configFile], { cwd: data, ...owner });
      await untilListening(child, [c2sPort]);
    },
    stop: end,
    log: async () => logged + (child?.output() ?? ''),
    shell: (...words) => ctl('shell', ...words),
    async [Symbol.asyncDispose]() {
      await end();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export interface DebianEjabberd extends DebianServer {
  readonly modules: string;
  /** Debian's `modules.d`. */
  readonly options: string;
  api(command: string, args?: Record<string, unknown>): Promise<unknown>;
}

export async function debianEjabberd(): Promise<DebianEjabberd> {
  const folder = await mkdtemp(path.join(tmpdir(), 'debian-ejabberd-'));
  const [configFile, serverConfig] = [path.join(folder, 'ejabberd.yml'), path.join(folder, 'ejabberdctl.cfg')];
  const [modules, options] = [path.join(folder, 'ejabberd-modules'), path.join(folder, 'modules.d')];
  await mkdir(path.join(folder, 'mnesia'));
  await mkdir(options);
  const { cert, key } = await makeCertificate(folder, 'DNS:localhost');
  await writeFile(path.join(folder, 'ejabberd.pem'), Buffer.concat([cert, key]));
  const stock = await readFile('/usr/share/ejabberd/ejabberd.yml.example', 'utf8');
  const stockPorts = [...new Set([...stock.matchAll(/\bport: (\d+)/g)].map(([, port]) => port as string))];
  const free = await freePorts(stockPorts.length);
  const ports = new Map(stockPorts.map((port, index) => [port, free[index] as number]));
  const [c2sPort, apiPort] = ['5222', '5443'].map((port) => ports.get(port)) as [number, number];
  const changed = stock
    .replace(/\bport: (\d+)/g, (_, port: string) => `port: ${ports.get(port)}`)
    .replaceAll('ip: "::"', 'ip: "127.0.0.1"')
    .replace(
      'api_permissions:\n',
      `$&  "tests": {from: [mod_http_api], who: {access: {allow: [{acl: loopback}]}}, what: "*"}\n`,
    )
    .replace('/etc/ejabberd/ejabberd.pem', path.join(folder, 'ejabberd.pem'))
    // Without a trusted certificate, clients could not log in over TLS.
    .replace('starttls_required: true', 'starttls: false');
  await writeFile(configFile, changed);
  const ctl = (await readFile('/etc/default/ejabberd', 'utf8'))
    .replace(/^EJABBERD_CONFIG_PATH=.*$/m, `EJABBERD_CONFIG_PATH=${configFile}`)
    .replace(/^#CONTRIB_MODULES_PATH=.*$/m, `CONTRIB_MODULES_PATH=${modules}`)
    .replace(/^CONTRIB_MODULES_CONF_DIR=.*$/m, `CONTRIB_MODULES_CONF_DIR=${options}\nSPOOL_DIR=${folder}/mnesia`);
  await writeFile(serverConfig, ctl);

  let child: Process | undefined;
  const logFile = path.join(folder, 'ejabberd.log');
  const log = () => readFile(logFile, 'utf8').catch(() => '');
  const starts = async () => (await log()).split(' is started in the node ').length;
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  const api = async (command: string, args: Record<string, unknown> = {}) => {
    const url = `https://127.0.0.1:${apiPort}/api/${command}`;
    const { statusCode, body } = await request(url, { method: 'POST', body: JSON.stringify(args), dispatcher });
    const text = await body.text();
    if (statusCode !== 200) throw new Error(`${command}: ${statusCode} ${text}`);
    return JSON.parse(text) as unknown;
  };
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    ERL_LIBS: path.join(ejabberdEbin as string, '../..'),
    EJABBERD_CONFIG_PATH: configFile,
    EJABBERD_LOG_PATH: logFile,
    CONTRIB_MODULES_PATH: modules,
    CONTRIB_MODULES_CONF_DIR: options,
    ERL_CRASH_DUMP: path.join(folder, 'erl_crash.dump'),
  };
  return {
    name: 'ejabberd',
    host: 'localhost',
    c2sPort,
    // Debian's files enable neither.
    boshUrl: '',
    webSocketUrl: '',
    folder,
    configFile,
    serverConfig,
    modules,
    options,
    async register(user) {
      await api('register', { user, host: 'localhost', password }).catch((error: Error) => {
        if (!/already registered/.test(error.message)) throw error;
      });
    },
    async start() {
      const before = await starts();
      const mnesia = ['-mnesia', 'dir', `"${folder}/mnesia"`];
      child = await launch(
        'erl',
        ['+K', 'true', '-noinput', '-pa', ejabberdEbin as string, ...mnesia, '-s', 'ejabberd'],
        {
          cwd: folder,
          env,
        },
      );
      const started = child;
      await until('ejabberd to be started', async () => !started.running || (await starts()) > before);
      if (!started.running) throw new Error(`ejabberd did not start:\n${started.output()}`);
      await untilListening(child, [c2sPort, apiPort]);
    },
    async stop() {
      await child?.end('SIGTERM');
      child = undefined;
    },
    log,
    api,
    async [Symbol.asyncDispose]() {
      await child?.end('SIGKILL');
      await dispatcher.destroy();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Makes a folder readable for other users: started by root, `prosodyctl` switches to Prosody's user. */
function readable(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
    chmodSync(path.join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
}
