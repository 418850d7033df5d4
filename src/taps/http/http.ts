/** The HTTP tap: where adapters post their batches. Its form is the tap protocol, version 1 (docs/tap-protocol.md). */
import type { Server } from 'node:http';
import { Server as TlsServer } from 'node:tls';
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type HttpTapOptions, isLoopback } from '../../config/options.ts';
import { messageOf, PusherError } from '../../errors.ts';
import { type Brake, createBrake } from '../../http/brake.ts';
import { REQUEST_LIMITS, type RequestLimits } from '../../http/limits.ts';
import { bytesOf, isSameSecret } from '../../http/secret.ts';
import { createTally } from '../../http/tally.ts';
import type { Logger } from '../../ops/log.ts';
import { receiving } from '../../ops/tracing.ts';
import type { Receive } from '../tap.ts';
import { type Certificate, readCertificate } from './certificate.ts';
import { batchSchema, MAX_BATCH_BYTES, MAX_EVENTS, problemOf } from './payload.ts';

export interface HttpTap {
  /** Every route that it has, such as `POST /v1/events`. */
  readonly routes: readonly string[];
  /** Starts to listen; answers the URL that adapters post to. @throws PusherError LISTEN_FAILED */
  listen(): Promise<string>;
  /** Serves HTTPS with another certificate from now on; where it speaks plain HTTP it goes on to. */
  renew(certificate: Certificate | undefined): void;
  /** Answers what was received, and refuses what comes. */
  close(): Promise<void>;
}

interface HttpTapSetup {
  readonly options: HttpTapOptions;
  /** What relative paths are relative to. */
  readonly folder: string;
  readonly receive: Receive;
  readonly log: Logger;
  /** How long requests in hand may take at a close, in milliseconds. */
  readonly closeGraceMs?: number;
  readonly limits?: RequestLimits;
  readonly brake?: Brake;
}

/** How long an adapter should wait after a 503, in seconds. */
const RETRY_AFTER_S = 2;
const CLOSE_GRACE_MS = 5_000;

export function createHttpTap({
  options,
  folder,
  receive,
  log,
  closeGraceMs = CLOSE_GRACE_MS,
  limits = REQUEST_LIMITS,
  brake = createBrake(),
}: HttpTapSetup): HttpTap {
  const server = createServer(options, folder, limits);
  const refused = createTally();
  server.addHook('onClose', async () => refused.close());
  const refuse = (reply: FastifyReply, status: number, code: string, message: string) =>
    reply.code(status).send({ error: { code, message } });

  const routes: string[] = [];
  server.addHook('onRoute', ({ method, url }) => void routes.push(`${String(method)} ${url}`));

  let closing = false;
  const putOff = (reply: FastifyReply, code: string, message: string) =>
    refuse(reply.header('retry-after', RETRY_AFTER_S), 503, code, message);

  server.addHook('onRequest', async (request, reply) => {
    if (closing) return putOff(reply, 'stopping', 'the daemon is stopping');
    if (options.secret === undefined) {
      if (!fromPage(request)) return;
      refused.add('foreign', request.ip, (fields) =>
        log.error(fields, 'tap request refused: without tap.http.secret no web page may be behind it'),
      );
      return refuse(
        reply.header('connection', 'close'),
        403,
        'foreign',
        'without tap.http.secret only requests to localhost, 127.0.0.1 and [::1] without Origin are served',
      );
    }
    if (isSameSecret(bytesOf(request.headers.authorization ?? ''), `Bearer ${options.secret}`)) return;
    refused.add('secret', request.ip, (fields) => log.error(fields, 'tap request refused: no or a wrong secret'));
    await brake.failed(request.ip);
    // Whoever has no secret keeps no connection either.
    reply.header('connection', 'close');
    return refuse(reply, 401, 'unauthorized', 'send the secret of tap.http.secret as "Authorization: Bearer <secret>"');
  });

  server.setErrorHandler((error: FastifyError, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status === 413)
      return refuse(reply, 413, 'too_large', `a batch has at most ${MAX_BATCH_BYTES} bytes and ${MAX_EVENTS} events`);
    if (status < 500) {
      refused.add(error.code, request.ip, (fields) =>
        log.warn({ ...fields, problem: error.code }, 'tap request refused: not JSON'),
      );
      return refuse(
        reply,
        400,
        'not_json',
        `the body should be JSON with Content-Type application/json: ${error.code}`,
      );
    }
    log.error({ from: request.ip, problem: messageOf(error) }, 'tap request failed');
    return refuse(reply, 500, 'internal', 'the daemon failed; its log says why');
  });
  server.setNotFoundHandler((_, reply) => refuse(reply, 404, 'not_found', 'the tap is at POST /v1/events'));

  server.post('/v1/events', async (request, reply) => {
    const parsed = batchSchema.safeParse(request.body);
    if (!parsed.success) {
      const problem = problemOf(parsed.error);
      refused.add('malformed', request.ip, (fields) =>
        log.error({ ...fields, problem }, 'batch refused: not of the form of the tap protocol'),
      );
      return refuse(reply, 400, 'malformed_batch', problem);
    }
    const { source, epoch, first_seq, events } = parsed.data;
    if (events.length > MAX_EVENTS)
      return refuse(reply, 413, 'too_large', `a batch has at most ${MAX_EVENTS} events, this one has ${events.length}`);
    const numbering = epoch !== undefined && first_seq !== undefined ? { epoch, first: first_seq } : undefined;
    try {
      return await receiving(request.headers, source, events.length, (traceparent) =>
        receive({ tap: 'http', source, numbering, events, traceparent }),
      );
    } catch (error) {
      if (!(error instanceof PusherError)) throw error;
      log.warn(
        { source, code: error.code, problem: error.message },
        'batch put off: the adapter keeps it and tries again',
      );
      return putOff(reply, error.code.toLowerCase(), error.message);
    }
  });

  return {
    routes,
    async listen() {
      const { host, port } = options.listen;
      try {
        return `${await server.listen({ host, port })}/v1/events`;
      } catch (error) {
        throw new PusherError(
          'LISTEN_FAILED',
          `tap.http.listen: can't listen on ${host}:${port}: ${messageOf(error)}`,
          error,
        );
      }
    },
    renew(certificate) {
      // For `localhost`, where nobody needs HTTPS, fastify has a second server for IPv6, which keeps the old one.
      if (certificate && server.server instanceof TlsServer) server.server.setSecureContext(certificate);
    },
    async close() {
      closing = true;
      // A request that never arrives whole would keep its connection, and with it the stop.
      const cut = setTimeout(() => server.server.closeAllConnections(), closeGraceMs);
      try {
        await server.close();
      } finally {
        clearTimeout(cut);
      }
    },
  };
}

function createServer(options: HttpTapOptions, folder: string, limits: RequestLimits): FastifyInstance<Server> {
  const common = {
    // What is read of a body are named fields of it, so a key "__proto__" can do no harm and need not be looked for.
    onProtoPoisoning: 'ignore' as const,
    onConstructorPoisoning: 'ignore' as const,
    bodyLimit: MAX_BATCH_BYTES,
    forceCloseConnections: 'idle' as const,
    return503OnClosing: false,
    requestTimeout: limits.requestTimeout,
  };
  const https = readCertificate(options, folder);
  if (!https) return fastify({ ...common, http: limits });
  return fastify({ ...common, https: { ...https, ...limits } }) as unknown as FastifyInstance<Server>;
}

/**
 * Whether a web page may be behind a request: one that was told a name that somebody else's DNS points here (DNS
 * rebinding), or any that a browser says the origin of. Adapters send neither.
 */
function fromPage({ headers: { host = '', origin } }: FastifyRequest): boolean {
  return origin !== undefined || !isLoopback(host.replace(/:\d+$/, ''));
}
