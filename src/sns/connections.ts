/**
 * Connections to one endpoint: each request has one to itself for as long as it takes.
 *
 * Maintained invariants:
 * - A connection in `#idle` has nothing under way. The one used last is used next, so that as few as the load needs stay
 *   open; the others close by themselves.
 * - What was given up is never sent later: its connection ends with it.
 *
 * On undici's lowest level, for its streams and signals cost more than the rest of a request; and not on its pool, which
 * looks all of its connections through for each.
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
  /** Until a connection stands. */
  readonly connect: number;
  /** Until the answer's head, and between two parts of its body. */
  readonly answer: number;
  /** For the whole request: an endpoint that answers a byte at a time must not hold it for longer. */
  readonly total: number;
}

export interface ConnectionsOptions {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Certificate authorities in PEM to trust instead of the public ones. */
  readonly ca?: string | undefined;
  /** The proxy to go through. */
  readonly proxy?: HttpProxy | undefined;
  readonly timeouts: Timeouts;
  /** After how long a connection is renewed, in milliseconds. */
  readonly maxAge: number;
}

/** An answer of SNS takes two kilobytes; what goes on and on is not SNS, and must not fill the memory. */
const LARGEST_ANSWER = 1_048_576;
// Shorter than SNS keeps an idle connection: a request on its way at that moment would be lost.
const KEEP_ALIVE_MS = 15_000;

interface Connection {
  readonly client: Client;
  readonly madeAt: number;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #connect: buildConnector.connector;
  /** Whom connections are made with: the endpoint, or the proxy that is asked for what is not encrypted. */
  readonly #origin: string;
  readonly #idle: Connection[] = [];
  readonly #busy = new Set<Connection>();
  #destroyed = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    const { origin, proxy, timeouts } = options;
    const tunnelled = proxy !== undefined && origin.startsWith('https:');
    this.#origin = proxy && !tunnelled ? proxy.origin.origin : origin;
    // One for all, since it remembers TLS sessions.
    const direct = buildConnector({
      timeout: timeouts.connect,
      // Said outright, for else a variable of the environment turns the checks off (NODE_TLS_REJECT_UNAUTHORIZED).
      rejectUnauthorized: true,
      allowH2: false,
      ...(options.ca !== undefined && { ca: options.ca }),
    });
    if (!proxy) this.#connect = direct;
    else if (tunnelled) this.#connect = tunnelThrough({ proxy, timeout: timeouts.connect, toEndpoint: direct });
    else this.#connect = connectorTo(timeouts.connect);
  }

  /** A request and its whole answer. Rejects with an error that has a `code` when there is none in time. */
  post(request: PostRequest): Promise<Answer> {
    if (this.#destroyed) return Promise.reject(failure('Stopped', 'no more is sent after the stop'));
    const connection = this.#take();
    const { total } = this.#options.timeouts;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const chunks: Buffer[] = [];
    let bytes = 0;
    let status = 0;
    let head: Headers = {};
    const end = (reusable: boolean) => {
      // What was given up still fails afterwards.
      if (!this.#busy.delete(connection)) return;
      clearTimeout(timer);
      if (reusable) this.#idle.push(connection);
      else void connection.client.destroy();
    };
    const giveUp = (code: string, message: string) => {
      reject(failure(code, message));
      end(false);
    };
    const timer = setTimeout(() => giveUp('RequestTimeout', `no whole answer within ${total / 1_000} s`), total);
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
          else giveUp('UnreadableAnswer', 'the answer is far too long for SNS');
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

  /** Ends all of them, requests under way included. */
  destroy(): void {
    this.#destroyed = true;
    for (const { client } of [...this.#idle, ...this.#busy]) void client.destroy();
    this.#idle.length = 0;
  }

  /** A request as it is sent: a proxy without a tunnel is asked for the whole URL. */
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
