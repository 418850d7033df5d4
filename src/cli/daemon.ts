/**
 * Access to the running daemon for other commands: over the Unix socket beside its outbox, or over the configured admin
 * address with the configured token.
 */
import { userInfo } from 'node:os';
import { Client, type Dispatcher } from 'undici';
import { startCommand } from '../config/commands.ts';
import { NO_SECRET } from '../config/interpolate.ts';
import type { PusherConfig } from '../config/load.ts';
import { messageOf, PusherError } from '../errors.ts';
import { outboxFileOf } from '../open-outbox.ts';
import { USER_HEADER } from '../ops/access.ts';
import type { DaemonIdentity } from '../ops/server.ts';
import { socketBeside, socketPathProblem } from '../ops/socket.ts';
import { beginning } from './beginning.ts';

export interface DaemonClient {
  /** Its path or URL, for messages. */
  readonly where: string;
  readonly identity: DaemonIdentity;
  /** @throws PusherError DAEMON_UNREACHABLE, DAEMON_REFUSED with its message */
  get<T>(route: string): Promise<T>;
  /** As `get`; undefined for 404. */
  find<T>(route: string): Promise<T | undefined>;
  /** Changes something; undefined for 404. @throws as `get` */
  post<T>(route: string, body: unknown): Promise<T | undefined>;
  /** Streams the response. @throws as `get` */
  stream(route: string, options?: { body?: unknown; accept?: string }): Promise<AsyncIterable<Uint8Array>>;
  close(): Promise<void>;
}

/** A connection to the daemon. */
interface Way {
  readonly where: string;
  readonly origin: string;
  readonly socketPath?: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Nothing answers, or not the daemon; `message` has the reason. */
const daemonUnreachable = (message: string, cause?: unknown) => new PusherError('DAEMON_UNREACHABLE', message, cause);

/**
 * Connects by the socket.
 * @throws PusherError DAEMON_UNREACHABLE with the reason
 */
export async function connectBySocket(config: PusherConfig): Promise<DaemonClient> {
  const socketPath = socketBeside(outboxFileOf(config));
  const problem = socketPathProblem(socketPath);
  if (problem) throw daemonUnreachable(problem);
  return connect({ where: socketPath, origin: 'http://localhost', socketPath, headers: { [USER_HEADER]: user() } });
}

/**
 * Connects by `admin.listen`.
 * @throws PusherError DAEMON_UNREACHABLE with the reason
 */
export async function connectByAddress({ admin: { listen, token } }: PusherConfig): Promise<DaemonClient> {
  const host = connectableHost(listen.host);
  const origin = `http://${host.includes(':') ? `[${host}]` : host}:${listen.port}`;
  // Its UTF-8 bytes, each as a character, because header values are bytes.
  const authorization = Buffer.from(`Bearer ${token}`).toString('latin1');
  if (token === NO_SECRET) throw daemonUnreachable('the variable of admin.token is not set here');
  const headers: Record<string, string> = token === undefined ? {} : { authorization };
  return connect({ where: origin, origin, headers });
}

/** Connects to the socket, or else to the address. @throws PusherError DAEMON_UNREACHABLE with both reasons */
export async function connectToDaemon(config: PusherConfig): Promise<DaemonClient> {
  try {
    return await connectBySocket(config);
  } catch (first) {
    try {
      return await connectByAddress(config);
    } catch (error) {
      const start = `if it does not run, start it with \`${startCommand(config.file)}\``;
      throw daemonUnreachable(`${messageOf(error)}; nor by its socket: ${messageOf(first)}; ${start}`, error);
    }
  }
}

async function connect(way: Way): Promise<DaemonClient> {
  // Not fetch, which refuses ports that browsers refuse, such as 6000 and 10080.
  const client = new Client(way.origin, way.socketPath === undefined ? {} : { socketPath: way.socketPath });
  try {
    const response = await send(client, way, '/api/daemon', {});
    const found: unknown = response.statusCode === 200 ? await response.body.json().catch(() => undefined) : undefined;
    if (!isIdentity(found)) throw await strange(way, response);
    return clientOf(client, way, found);
  } catch (error) {
    await client.destroy();
    throw error;
  }
}

function clientOf(client: Client, way: Way, identity: DaemonIdentity): DaemonClient {
  const ask = async <T>(route: string, missing: (response: Dispatcher.ResponseData) => Promise<T>): Promise<T> => {
    const response = await send(client, way, route, {});
    if (response.statusCode !== 200) return missing(response);
    return (await response.body.json().catch((error: unknown) => {
      throw daemonUnreachable(`the daemon at ${way.where} closed the connection: ${messageOf(error)}`, error);
    })) as T;
  };
  return {
    where: way.where,
    identity,
    get: <T>(route: string) =>
      ask<T>(route, async (response) => {
        throw await strange(way, response);
      }),
    find: <T>(route: string) =>
      ask<T | undefined>(route, async (response) => {
        if (response.statusCode !== 404) throw await strange(way, response);
        await response.body.dump();
        return undefined;
      }),
    post: async <T>(route: string, body: unknown) => {
      const options = {
        method: 'POST' as const,
        body: JSON.stringify(body),
        headers: { 'content-type': 'application/json' },
      };
      const response = await send(client, way, route, options);
      if (response.statusCode === 200) return (await response.body.json()) as T;
      if (response.statusCode !== 404) throw await strange(way, response);
      await response.body.dump();
      return undefined;
    },
    async stream(route, { body, accept } = {}) {
      const response = await send(client, way, route, {
        ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
        headers: { ...(accept && { accept }), ...(body !== undefined && { 'content-type': 'application/json' }) },
      });
      if (response.statusCode !== 200) throw await strange(way, response);
      return response.body;
    },
    close: () => client.destroy(),
  };
}

async function send(
  client: Client,
  way: Way,
  route: string,
  { headers = {}, ...options }: { method?: 'POST'; body?: string; headers?: Record<string, string> },
): Promise<Dispatcher.ResponseData> {
  const asked = { path: route, method: 'GET' as const, headersTimeout: 60_000, bodyTimeout: 0, ...options };
  try {
    return await client.request({ ...asked, headers: { ...way.headers, ...headers } });
  } catch (error) {
    const by = way.socketPath === undefined ? ' (admin.listen)' : '';
    throw daemonUnreachable(`no daemon answers at ${way.where}${by}: ${messageOf(error)}`, error);
  }
}

/** The error for an answer that is not the expected one. */
async function strange({ where }: Way, { statusCode: status, body }: Dispatcher.ResponseData): Promise<PusherError> {
  if (status === 401) {
    await body.dump();
    return daemonUnreachable(`the daemon at ${where} uses a different admin.token than this configuration`);
  }
  const said = refusalIn(await beginning(body));
  if (said === undefined)
    return daemonUnreachable(`${where} answered ${status}: is it the daemon, and the same release as this command?`);
  const text = `the daemon at ${where} refuses this: ${said}`;
  return status === 400 ? new PusherError('DAEMON_REFUSED', text) : daemonUnreachable(text);
}

/** The daemon's own message in an answer; undefined for another program's. */
function refusalIn(text: string): string | undefined {
  try {
    const { error }: { error?: { message?: unknown } } = JSON.parse(text) ?? {};
    return typeof error?.message === 'string' ? error.message : undefined;
  } catch {
    return undefined; // Not the daemon's JSON.
  }
}

const isIdentity = (found: unknown): found is DaemonIdentity =>
  typeof found === 'object' && found !== null && 'pid' in found && 'version' in found;

/** The address to connect to for a listen address: a wildcard such as 0.0.0.0 is none. */
export function connectableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

/** The user at the terminal, also behind sudo; the user id if it has no name. */
function user(): string {
  const name = process.env.SUDO_USER || systemUser();
  return encodeURIComponent(name);
}

function systemUser(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.());
  }
}
