/**
 * A pool of connections to one endpoint: each request has a connection to itself.
 *
 * Maintained invariants:
 * - A connection in `#idle` has no request. The one used last is reused first, so only as many stay open as the load
 *   needs; the others time out.
 * - An abandoned request is never sent later: its connection is destroyed with it.
 *
 * Uses undici's `dispatch`, because its streams and signals cost more than the rest of a request, and not its Pool,
 * which scans all of its connections for each request.
 */
import { buildConnector, Client } from 'undici';
import type { HttpProxy } from './proxy.ts';
import { connectorTo, tunnelThrough } from './tunnel.ts';

export interface PostRequest {
  /** Path in its escaped form. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** In milliseconds. */
export interface Timeouts {
  /** For connecting, TLS included. */
  readonly connect: number;
  /** Until the answer's head, and between two parts of its body. */
  readonly answer: number;
  /** For the whole request, so that an endpoint can't block it by answering one byte at a time. */
  readonly total: number;
}

export interface ConnectionsOptions {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Certificate authorities in PEM to trust instead of the public ones. */
  readonly ca?: string | undefined;
  /** The proxy to use. */
  readonly proxy?: HttpProxy | undefined;
  readonly timeouts: Timeouts;
  /** Maximum age of a connection, in milliseconds. */
  readonly maxAge: number;
}

/** Size limit of an answer, in bytes. SNS's have two kilobytes; an endless one must not fill the memory. */
const LARGEST_ANSWER = 1_048_576;
// Shorter than SNS's own idle timeout: a request sent while SNS closes the connection would fail.
const KEEP_ALIVE_MS = 15_000;

interface Connection {
  readonly client: Client;
  readonly madeAt: number;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #connect: buildConnector.connector;
  /** The connections' target: the endpoint, or the proxy for plain HTTP. */
  readonly #origin: string;
  readonly #idle: Connection[] = [];
  readonly #busy = new Set<Connection>();
  #destroyed = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    const { origin, proxy, timeouts } = options;
    const tunnelled = proxy !== undefined && origin.startsWith('https:');
    this.#origin = proxy && !tunnelled ? proxy.origin.origin : origin;
    // Shared by all connections, because it caches TLS sessions.
    const direct = buildConnector({
      timeout: timeouts.connect,
      // Explicit, because otherwise NODE_TLS_REJECT_UNAUTHORIZED in the environment would disable the checks.
      rejectUnauthorized: true,
      allowH2: false,
      ...(options.ca !== undefined && { ca: options.ca }),
    });
    if (!proxy) this.#connect = direct;
    else if (tunnelled) this.#connect = tunnelThrough({ proxy, timeout: timeouts.connect, toEndpoint: direct });
    else this.#connect = connectorTo(timeouts.connect);
  }

  /**
   * Sends a request and resolves to its whole answer. Rejects with an error that has a `code` if none arrives in time.
   */
  post(request: PostRequest): Promise<Answer> {
    if (this.#destroyed) return Promise.reject(failure('Stopped', 'the client was stopped'));
    const connection = this.#take();
    const { total } = this.#options.timeouts;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const chunks: Buffer[] = [];
    let bytes = 0;
    let status = 0;
    let head: Headers = {};
    const end = (reusable: boolean) => {
      // An abandoned request still reports its failure later; ignore it.
      if (!this.#busy.delete(connection)) return;
      clearTimeout(timer);
      if (reusable) this.#idle.push(connection);
      else void connection.client.destroy();
    };
    const giveUp = (code: string, message: string) => {
      reject(failure(code, message));
      end(false);
    };
    const timer = setTimeout(() => giveUp('RequestTimeout', `no complete answer within ${total / 1_000} s`), total);
    connection.client.dispatch(
      { method: 'POST', ...this.#addressed(request) },
      {
        onRequestStart() {},
        onResponseStart(_, statusCode, headers) {
          status = statusCode;
          head = headers;
        },
        onResponseData(_, chunk) {
          bytes += chunk.length;
          if (bytes <= LARGEST_ANSWER) chunks.push(chunk);
          else giveUp('UnreadableAnswer', 'the answer is longer than any of SNS');
        },
        onResponseEnd() {
          end(true);
          const [only] = chunks;
          resolve({
            status,
            headers: head,
            text: (chunks.length === 1 && only ? only : Buffer.concat(chunks)).toString(),
          });
        },
        onResponseError(_, error) {
          reject(error);
          end(false);
        },
      },
    );
    return promise;
  }

  /** Destroys all connections, with the requests on them. */
  destroy(): void {
    this.#destroyed = true;
    for (const { client } of [...this.#idle, ...this.#busy]) void client.destroy();
    this.#idle.length = 0;
  }

  /** The request as sent: a proxy without a tunnel gets the absolute URL. */
  #addressed(request: PostRequest): PostRequest {
    const { origin, proxy } = this.#options;
    if (!proxy || origin.startsWith('https:')) return request;
    const { authorization } = proxy;
    return {
      ...request,
      path: origin + request.path,
      headers:
        authorization === undefined ? request.headers : { ...request.headers, 'proxy-authorization': authorization },
    };
  }

  #take(): Connection {
    const { timeouts, maxAge } = this.#options;
    const now = performance.now();
    let connection = this.#idle.pop();
    while (connection && now - connection.madeAt > maxAge) {
      void connection.client.close();
      connection = this.#idle.pop();
    }
    connection ??= {
      client: new Client(this.#origin, {
        connect: this.#connect,
        headersTimeout: timeouts.answer,
        bodyTimeout: timeouts.answer,
        keepAliveTimeout: KEEP_ALIVE_MS,
        pipelining: 1,
        allowH2: false,
      }),
      madeAt: now,
    };
    this.#busy.add(connection);
    return connection;
  }
}

const failure = (code: string, message: string) => Object.assign(new Error(message), { code });
