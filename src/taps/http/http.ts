/** The HTTP tap, to which adapters post their batches by the tap protocol, version 1 (docs/tap-protocol.md). */
import type { Server } from 'node:http';
import { Server as TlsServer } from 'node:tls';
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { unusableCharacter } from '../../config/characters.ts';
import { isLoopback, LEAST_BEYOND_LOOPBACK } from '../../config/option.ts';
import { messageOf, PusherError } from '../../errors.ts';
import { parseEvent, problemOf } from '../../event.ts';
import { type Brake, createBrake } from '../../http/brake.ts';
import { REQUEST_LIMITS, type RequestLimits } from '../../http/limits.ts';
import { bytesOf, isSameSecret } from '../../http/secret.ts';
import { createTally } from '../../http/tally.ts';
import { type Log, SILENT } from '../../log.ts';
import { receiving } from '../../tracing.ts';
import type { Receive, Tap } from '../tap.ts';
import type { Certificate } from './certificate.ts';
import { batchSchema, MAX_BATCH_BYTES, MAX_EVENTS } from './payload.ts';

export interface HttpTap extends Tap {
  /** All its routes, such as `POST /v1/events`. */
  readonly routes: readonly string[];
  /** The URL that adapters post to; undefined while it does not listen. */
  readonly url: string | undefined;
  /** Replaces the certificate; has no effect with plain HTTP. */
  renew(certificate: Certificate | undefined): void;
}

export interface HttpTapSettings {
  /** The listening address; port 0 takes a free one. */
  readonly listen: { readonly host: string; readonly port: number };
  /**
   * The secret that adapters send as `Authorization: Bearer …`; at least 20 characters unless the tap is on loopback.
   */
  readonly secret?: string | undefined;
  /** For HTTPS. */
  readonly certificate?: Certificate | undefined;
  /** Default: no log. */
  readonly log?: Log | undefined;
  /** Grace period for open requests at a stop, in milliseconds. Default: 5,000. */
  readonly closeGraceMs?: number | undefined;
  /** Timeouts, for tests. */
  readonly limits?: RequestLimits | undefined;
  /** Delays the answers to wrong secrets; for tests. */
  readonly brake?: Brake | undefined;
}

/** How long an adapter should wait after a 503, in seconds. */
const RETRY_AFTER_S = 2;
const CLOSE_GRACE_MS = 5_000;

/** The tap that adapters post to. It starts to listen when its pusher starts. */
export function httpTap(settings: HttpTapSettings): HttpTap {
  let { certificate } = settings;
  let running: { readonly server: FastifyInstance<Server>; close(): Promise<void>; readonly url: string } | undefined;
  return {
    name: 'http',
    routes: ['POST /v1/events'],
    get url() {
      return running?.url;
    },
    async start(receive) {
      checkSettings(settings);
      const { host, port } = settings.listen;
      const { server, close } = createServer({ ...settings, certificate }, receive);
      try {
        running = { server, close, url: `${await server.listen({ host, port })}/v1/events` };
      } catch (error) {
        await close();
        const problem = `tap.http.listen: can't listen on ${host}:${port}: ${messageOf(error)}`;
        throw new PusherError('LISTEN_FAILED', problem, error);
      }
    },
    renew(next) {
      certificate = next;
      // For `localhost` fastify has a second server, for IPv6, which keeps the old certificate; HTTPS is not needed
      // there.
      if (next && running?.server.server instanceof TlsServer) running.server.server.setSecureContext(next);
    },
    async stop() {
      const { close } = running ?? {};
      running = undefined;
      await close?.();
    },
    state: () => ({ at: running?.url, problem: running ? undefined : { reason: 'does not listen' } }),
  };
}

/**
 * Applies the configuration's rules to a host program.
 * @throws PusherError CONFIG_INVALID
 */
function checkSettings({ listen, secret }: HttpTapSettings): void {
  const refuse = (problem: string): never => {
    throw new PusherError('CONFIG_INVALID', `httpTap: ${problem}`);
  };
  const { host, port } = listen ?? {};
  if (typeof host !== 'string' || host === '' || !Number.isInteger(port) || port < 0 || port > 65_535)
    refuse('listen should be { host, port }');
  if (secret !== undefined && (typeof secret !== 'string' || secret === ''))
    refuse('secret should be a text that is not empty');
  const odd = unusableCharacter(secret ?? '', { spaces: true });
  if (odd) refuse(`secret ${odd}`);
  // A remote client could name localhost in its request.
  const name = host.includes(':') ? `[${host}]` : host;
  if (!isLoopback(name) && (secret ?? '').length < LEAST_BEYOND_LOOPBACK)
    refuse(`secret should have ${LEAST_BEYOND_LOOPBACK} characters or more when host is not a loopback address`);
}

function createServer(
  {
    secret,
    certificate,
    log = SILENT,
    closeGraceMs = CLOSE_GRACE_MS,
    limits = REQUEST_LIMITS,
    brake = createBrake(),
  }: HttpTapSettings,
  receive: Receive,
): { server: FastifyInstance<Server>; close(): Promise<void> } {
  const server = openServer(certificate, limits);
  const refused = createTally();
  server.addHook('onClose', async () => refused.close());
  const refuse = (reply: FastifyReply, status: number, code: string, message: string) =>
    reply.code(status).send({ error: { code, message } });

  let closing = false;
  const putOff = (reply: FastifyReply, code: string, message: string) =>
    refuse(reply.header('retry-after', RETRY_AFTER_S), 503, code, message);

  server.addHook('onRequest', async (request, reply) => {
    if (closing) return putOff(reply, 'stopping', 'the daemon is stopping');
    if (secret === undefined) {
      if (!fromPage(request)) return;
      refused.add('foreign', request.ip, (fields) =>
        log.error(fields, 'tap request refused: it comes from a web page, and tap.http.secret is not set'),
      );
      return refuse(
        reply.header('connection', 'close'),
        403,
        'foreign',
        'without tap.http.secret only requests to localhost, 127.0.0.1 and [::1] without Origin are served',
      );
    }
    if (isSameSecret(bytesOf(request.headers.authorization ?? ''), `Bearer ${secret}`)) return;
    refused.add('secret', request.ip, (fields) => log.error(fields, 'tap request refused: missing or wrong secret'));
    await brake.failed(request.ip);
    // Closes the connection of a client without the secret.
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
    return refuse(reply, 500, 'internal', 'internal error; see the log of the daemon');
  });
  server.setNotFoundHandler((_, reply) => refuse(reply, 404, 'not_found', 'the tap is at POST /v1/events'));

  server.post('/v1/events', async (request, reply) => {
    const parsed = batchSchema.safeParse(request.body);
    if (!parsed.success) {
      const problem = problemOf(parsed.error);
      refused.add('malformed', request.ip, (fields) =>
        log.error({ ...fields, problem }, 'batch refused: it does not follow the tap protocol'),
      );
      return refuse(reply, 400, 'malformed_batch', problem);
    }
    const { source, epoch, first_seq, events } = parsed.data;
    if (events.length > MAX_EVENTS)
      return refuse(reply, 413, 'too_large', `a batch has at most ${MAX_EVENTS} events, this one has ${events.length}`);
    const numbering = epoch !== undefined && first_seq !== undefined ? { epoch, first: first_seq } : undefined;
    try {
      return await receiving(request.headers, source, events.length, (traceparent) =>
        receive({ tap: 'http', source, numbering, events: events.map(parseEvent), traceparent }),
      );
    } catch (error) {
      if (!(error instanceof PusherError)) throw error;
      log.warn(
        { source, code: error.code, problem: error.message },
        'batch refused for now: the adapter keeps it and retries',
      );
      return putOff(reply, error.code.toLowerCase(), error.message);
    }
  });

  return {
    server,
    async close() {
      closing = true;
      // A request that never arrives completely would keep its connection open and delay the stop.
      const cut = setTimeout(() => server.server.closeAllConnections(), closeGraceMs);
      try {
        await server.close();
      } finally {
        clearTimeout(cut);
      }
    },
  };
}

function openServer(https: Certificate | undefined, limits: RequestLimits): FastifyInstance<Server> {
  const common = {
    // The code only reads named fields, so a key "__proto__" is harmless and needs no search.
    onProtoPoisoning: 'ignore' as const,
    onConstructorPoisoning: 'ignore' as const,
    bodyLimit: MAX_BATCH_BYTES,
    forceCloseConnections: 'idle' as const,
    return503OnClosing: false,
    requestTimeout: limits.requestTimeout,
  };
  if (!https) return fastify({ ...common, http: limits });
  return fastify({ ...common, https: { ...https, ...limits } }) as unknown as FastifyInstance<Server>;
}

/**
 * Whether a web page may have sent the request: its Host is a foreign name that resolves here (DNS rebinding), or it
 * has an Origin. Adapters send neither.
 */
function fromPage({ headers: { host = '', origin } }: FastifyRequest): boolean {
  return origin !== undefined || !isLoopback(host.replace(/:\d+$/, ''));
}
