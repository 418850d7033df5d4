/**
 * The daemon for tests, in its own folder: the command as users run it, in its own process; or in this one, which saves
 * loading the program and is enough where no test kills it or sets its environment.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { mock } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { RunningDaemon } from './daemon-here.ts';
import { freePorts, launch, until } from './process.ts';
import type { Sns } from './sns.ts';

export const BIN = fileURLToPath(new URL('../../bin/xmpp-event-pusher.js', import.meta.url));

export const TOPICS = { presence: 'user_presence_updated', pm: 'user_message_sent', muc: 'user_messagegroup_sent' };
export const SECRET = 'tap-secret';

export interface Daemon extends AsyncDisposable {
  /** Where adapters post to. */
  readonly tapUrl: string;
  readonly adminUrl: string;
  readonly folder: string;
  readonly configFile: string;
  /** The path of the command. */
  readonly bin: string;
  readonly pid: number;
  /** Starts it, also after a stop or a kill; settles when it is ready. */
  start(options?: StartOptions): Promise<void>;
  stop(): Promise<void>;
  /** SIGHUP. */
  reload(): Promise<void>;
  kill(): Promise<void>;
  /** The output of all its runs. */
  output(): string;
  /** Runs another command with its configuration; returns exit code and output, in this process only what is text. */
  command(...args: string[]): Promise<{ code: number | null; output: string }>;
  /** Posts a body to the tap. */
  post(body: unknown, headers?: Record<string, string>): Promise<{ status: number; headers: Headers; json: unknown }>;
  /** Rewrites the configuration for the next start. */
  configure(options: DaemonOptions): Promise<void>;
}

export interface DaemonOptions {
  /** Topics with other names than TOPICS. */
  topics?: Partial<typeof TOPICS>;
  /** Lines for the sns section. */
  sns?: string;
  /** Lines for further sections. */
  rest?: string;
  outbox?: string;
  tap?: string;
}

interface StartOptions {
  /** Settle when it answers at all. */
  ready?: boolean;
  /** For a separate process, whatever `createDaemon` was given: variables, and the descriptor of its output. */
  env?: NodeJS.ProcessEnv;
  stdout?: number;
  /** Whether it runs in this process, where nothing can kill it. */
  here?: boolean;
}

/** Prepares a daemon that publishes to `sns`; `start` runs it. */
export async function createDaemon(
  sns: Pick<Sns, 'url' | 'region' | 'accountId'>,
  { here: usuallyHere = false, ...options }: DaemonOptions & Pick<StartOptions, 'here'> = {},
): Promise<Daemon> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pusher-'));
  const configFile = path.join(folder, 'pusher.toml');
  const [tapPort, adminPort] = (await freePorts(2)) as [number, number];
  const tapUrl = `http://127.0.0.1:${tapPort}/v1/events`;
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  let child: RunningDaemon | undefined;
  let logged = '';

  const configure = (options: DaemonOptions) => writeFile(configFile, configuration(sns, tapPort, adminPort, options));
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    await child?.end(signal);
    logged += child?.output() ?? '';
    child = undefined;
  };
  await configure(options);

  return {
    tapUrl,
    adminUrl,
    folder,
    configFile,
    bin: BIN,
    get pid() {
      return child?.pid ?? 0;
    },
    async start({ ready = true, env, stdout, here = usuallyHere && !env && stdout === undefined } = {}) {
      child = here ? await runHere(configFile) : await runAlone(configFile, { env, stdout });
      const started = child;
      await until(`the daemon to be ${ready ? 'ready' : 'up'}`, async () => {
        if (!started.running) return true;
        const response = await fetch(`${adminUrl}/readyz`);
        // The admin address opens first: until the tap listens too, it reports that the daemon is starting.
        return response.ok || (!ready && response.status === 503 && !/is starting/.test(await response.text()));
      }).catch((error: Error) => {
        throw new Error(`${error.message}\n${started.output()}`);
      });
      if (!started.running) throw new Error(`the daemon ended:\n${started.output()}`);
    },
    async reload() {
      child?.reload();
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    output: () => logged + (child?.output() ?? ''),
    async command(...args) {
      if (usuallyHere) return commandHere(...args, '--config', configFile);
      const run = await launch(process.execPath, [BIN, ...args, '--config', configFile]);
      return { code: await run.exited, output: run.output() };
    },
    async post(body, headers = {}) {
      const response = await fetch(tapUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${SECRET}`, ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      });
      return { status: response.status, headers: response.headers, json: await response.json() };
    },
    configure,
    async [Symbol.asyncDispose]() {
      await end('SIGTERM');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

// Only tests that run it here load the whole program.
const runHere = async (configFile: string) => (await import('./daemon-here.ts')).runHere(configFile);
const commandHere = async (...args: string[]) => (await import('./command-line.ts')).commandLine({ mock }, ...args);

async function runAlone(configFile: string, { env, stdout }: StartOptions): Promise<RunningDaemon> {
  const options = { env: { ...process.env, ...env }, stdout };
  const child = await launch(process.execPath, [BIN, 'run', '--config', configFile], options);
  return Object.assign(child, { reload: () => process.kill(child.pid, 'SIGHUP') });
}

const configuration = (
  { url, region, accountId }: Pick<Sns, 'url' | 'region' | 'accountId'>,
  tapPort: number,
  adminPort: number,
  { topics, sns = '', rest = '', outbox = '', tap = '' }: DaemonOptions,
): string => `
[modules.mod_event_pusher.sns]
  presence_updates_topic = "${topics?.presence ?? TOPICS.presence}"
  pm_messages_topic = "${topics?.pm ?? TOPICS.pm}"
  muc_messages_topic = "${topics?.muc ?? TOPICS.muc}"
  sns_host = "${url}"
  region = "${region}"
  access_key_id = "AKIAIOSFODNN7EXAMPLE"
  secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
  account_id = "${accountId}"
  ${sns}
[tap.http]
  listen = "127.0.0.1:${tapPort}"
  secret = "${SECRET}"
  ${tap}
[outbox]
  ${outbox}
[admin]
  listen = "127.0.0.1:${adminPort}"
${rest}
`;
