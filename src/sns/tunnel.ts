/** Connections to an endpoint through an HTTP proxy, by CONNECT. */
import net from 'node:net';
import { buildConnector, Client } from 'undici';
import { messageOf } from '../errors.ts';
import type { HttpProxy } from './proxy.ts';

interface TunnelOptions {
  readonly proxy: HttpProxy;
  /** How long the proxy may take, in milliseconds. */
  readonly timeout: number;
  /** Starts TLS with the endpoint through the tunnel. */
  readonly toEndpoint: buildConnector.connector;
}

/** A connector whose connections use a proxy. */
export function tunnelThrough({ proxy, timeout, toEndpoint }: TunnelOptions): buildConnector.connector {
  const connect = buildConnector({ timeout, rejectUnauthorized: true, allowH2: false });
  return (options, callback) => {
    open({ proxy, timeout, connect, target: targetOf(options) }).then(
      (socket) => toEndpoint({ ...options, httpSocket: socket }, callback),
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), null),
    );
  };
}

/** A connector to the proxy itself, for plain HTTP: its failures are the proxy's, not the endpoint's. */
export function connectorTo(timeout: number): buildConnector.connector {
  const connect = buildConnector({ timeout, rejectUnauthorized: true, allowH2: false });
  return (options, callback) =>
    connect(options, (error, socket) => {
      if (error) callback(failure('ProxyUnreachable', messageOf(error)), null);
      else callback(null, socket);
    });
}

interface Opening {
  readonly proxy: HttpProxy;
  readonly timeout: number;
  readonly connect: buildConnector.connector;
  /** The target's host and port. */
  readonly target: string;
}

/** A socket to the target. Rejects with an error that has a `code` of {@link proxyCode}. */
async function open({ proxy, timeout, connect, target }: Opening): Promise<Socket> {
  // A client for each request: its one connection becomes the tunnel.
  const client = new Client(proxy.origin, { connect, headersTimeout: timeout });
  try {
    const headers = {
      host: target,
      ...(proxy.authorization !== undefined && { 'proxy-authorization': proxy.authorization }),
    };
    const { statusCode, socket } = await client.connect({
      path: target,
      headers,
      signal: AbortSignal.timeout(timeout),
    });
    if (statusCode >= 200 && statusCode < 300) return socket as Socket;
    socket.on('error', () => {}).destroy();
    throw failure(proxyCode(statusCode), `it answered CONNECT ${target} with HTTP ${statusCode}`);
  } catch (error) {
    if (error instanceof ProxyError) throw error;
    throw failure('ProxyUnreachable', messageOf(error));
  } finally {
    void client.close();
  }
}

type Socket = NonNullable<buildConnector.Options['httpSocket']>;

/** The error code for a proxy's refusal. */
const proxyCode = (status: number): string => {
  // Some proxies answer 401 to a wrong login.
  if (status === 407 || status === 401) return 'ProxyLogin';
  return status >= 500 ? 'ProxyFailed' : 'ProxyRefused';
};

class ProxyError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const failure = (code: string, message: string) => new ProxyError(code, message);

/** Host and port as in CONNECT. */
function targetOf({ hostname, port }: buildConnector.Options): string {
  return `${net.isIPv6(hostname) ? `[${hostname}]` : hostname}:${port || 443}`;
}
