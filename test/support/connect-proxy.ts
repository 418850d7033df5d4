/** An HTTP proxy: CONNECT, and absolute URLs for plain HTTP. Only it resolves the host names. */
import { createServer, type IncomingMessage, request } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

export interface ConnectProxy extends AsyncDisposable {
  readonly port: number;
  /** `CONNECT host:port` or `POST http://…` of each forwarded request. */
  readonly passed: readonly string[];
}

interface ProxyOptions {
  /** Ports of 127.0.0.1 by host name; other hosts are unreachable. */
  readonly hosts: Readonly<Record<string, number>>;
  /** The required `user:password`. */
  readonly login?: string;
  /** The status for a wrong login: 407, or 401 as some proxies answer. */
  readonly wrongLogin?: 407 | 401;
  /** Forbidden hosts. */
  readonly forbidden?: readonly string[];
}

export async function startConnectProxy({
  hosts,
  login,
  wrongLogin = 407,
  forbidden = [],
}: ProxyOptions): Promise<ConnectProxy> {
  const passed: string[] = [];
  const sockets = new Set<Duplex>();
  /** The status of the refusal; undefined if the request may pass. */
  const refusal = (host: string, headers: IncomingMessage['headers']): number | undefined => {
    const given = /^Basic (.*)$/.exec(headers['proxy-authorization'] ?? '')?.[1] ?? '';
    if (login !== undefined && Buffer.from(given, 'base64').toString() !== login)
      return given === '' ? 407 : wrongLogin;
    if (forbidden.includes(host)) return 403;
    return hosts[host] === undefined ? 502 : undefined;
  };
  const server = createServer((incoming, response) => {
    const url = new URL(String(incoming.url));
    const status = refusal(url.hostname, incoming.headers);
    if (status !== undefined) return void response.writeHead(status, { 'content-type': 'text/html' }).end('<html>');
    passed.push(`${incoming.method} ${url.origin}`);
    const { 'proxy-authorization': _, ...headers } = incoming.headers;
    const target = {
      host: '127.0.0.1',
      port: hosts[url.hostname],
      path: url.pathname,
      method: incoming.method,
      headers,
    };
    const outgoing = request(target, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    outgoing.once('error', () => response.destroy());
    incoming.pipe(outgoing);
  });
  server.on('connect', (incoming, socket) => {
    sockets.add(socket);
    const [host = ''] = String(incoming.url).split(':');
    const status = refusal(host, incoming.headers);
    if (status !== undefined) return void socket.end(`HTTP/1.1 ${status} No\r\nconnection: close\r\n\r\n`);
    passed.push(`CONNECT ${incoming.url}`);
    const target = net.connect(hosts[host] ?? 0, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      target.pipe(socket);
      socket.pipe(target);
    });
    target.once('error', () => socket.destroy());
    socket.once('error', () => target.destroy());
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    passed,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
