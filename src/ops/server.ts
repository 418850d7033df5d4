/** The admin address: health for probes, metrics for Prometheus, the console for people. */
import fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify';
import type { Registry } from 'prom-client';
import type { AdminOptions } from '../config/options.ts';
import { messageOf, PusherError } from '../errors.ts';
import { REQUEST_LIMITS, type RequestLimits } from '../http/limits.ts';
import { createTally } from '../http/tally.ts';
import type { DeadLetterStore } from '../outbox/dead-letters.ts';
import type { SourceStore } from '../outbox/sources.ts';
import type { NotReady } from '../readiness.ts';
import type { Trace } from '../trace/trace.ts';
import { version } from '../version.ts';
import { guard, refuse } from './access.ts';
import { serveActions } from './actions.ts';
import { serveAssets } from './assets.ts';
import { compressAnswers } from './compress.ts';
import type { Flow } from './flow.ts';
import { serveHistory } from './history.ts';
import { serveLive } from './live.ts';
import type { Logger } from './log.ts';
import { servePage } from './page.ts';
import { type LocalListener, listenLocally, socketBeside } from './socket.ts';
import type { State } from './state.ts';
import { serveTrace } from './trace.ts';

export interface AdminServer {
  /** Every route that it has, such as `GET /healthz`. */
  readonly routes: readonly string[];
  /** @throws PusherError LISTEN_FAILED */
  listen(): Promise<string>;
  close(): Promise<void>;
}

/** The daemon's identity, so that the command line knows which daemon it talks to. */
export interface DaemonIdentity {
  readonly version: string;
  readonly pid: number;
  /** The outbox's file; none where it is in memory. */
  readonly outbox: string | undefined;
}

interface AdminSetup {
  readonly options: AdminOptions;
  readonly notReady: () => readonly NotReady[];
  readonly registry: Registry;
  readonly flow: Flow;
  readonly state: () => State;
  /** The outbox's file; the socket for the command line lies beside it. Undefined: no socket. */
  readonly outboxFile: string | undefined;
  readonly deadLetters: DeadLetterStore;
  readonly sources: SourceStore;
  /** The record of events' outcomes; undefined where there is none. */
  readonly trace: Pick<Trace, 'find' | 'history'> | undefined;
  /** Retries a paused topic at once; false when there is no such topic or it is not paused. */
  readonly tryTopic: (arn: string) => boolean;
  readonly log: Logger;
  readonly limits?: RequestLimits;
}

/** Only our own files run, nothing is loaded from elsewhere, and no site can frame the page. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
};

export function createAdminServer(setup: AdminSetup): AdminServer {
  const { options, log, flow, state, outboxFile, limits = REQUEST_LIMITS } = setup;
  const server = fastify({ forceCloseConnections: true, requestTimeout: limits.requestTimeout, http: limits });
  // The only other type that fastify parses, and one that a foreign page's form can send without a CORS preflight.
  server.removeContentTypeParser('text/plain');
  const failures = createTally();
  server.addHook('onClose', async () => failures.close());
  const routes: string[] = [];
  server.addHook('onRoute', ({ method, url }) => {
    if (method !== 'HEAD') routes.push(`${String(method)} ${url}`);
  });
  server.addHook('onRequest', async (_, reply) => {
    reply.headers(HEADERS);
  });
  compressAnswers(server);
  server.setErrorHandler((error: FastifyError, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status < 500) return refuse(reply, status, 'malformed', error.message);
    // Some routes need no login, and probes and Prometheus ask repeatedly.
    const line = { path: request.routeOptions.url, problem: messageOf(error) };
    failures.add(`failed ${line.path}`, request.ip ?? '', (fields) =>
      log.error({ ...fields, ...line }, 'admin request failed'),
    );
    return refuse(reply, 500, 'internal', messageOf(error));
  });
  server.setNotFoundHandler((_, reply) => refuse(reply, 404, 'not_found', 'not found'));

  let local: LocalListener | undefined;
  const isLocal = ({ raw }: FastifyRequest) => local?.owns(raw.socket) === true;
  const access = guard(server, { token: options.token, log, isLocal });
  serveProbes(server, setup);
  serveAssets(server);
  servePage(server, { flow, state, access });
  serveLive(server, { flow, state, access, log });
  const { deadLetters, sources, tryTopic } = setup;
  serveActions(server, { deadLetters, sources, tryTopic, access, log });
  serveTrace(server, { trace: setup.trace, state });
  serveHistory(server, setup.trace);
  server.get('/api/daemon', async (): Promise<DaemonIdentity> => ({ version, pid: process.pid, outbox: outboxFile }));

  server.get('/api/state', async () => state());

  /** Optional: without it the command line uses the configured address. */
  const openSocket = async () => {
    if (outboxFile === undefined) return;
    try {
      local = await listenLocally(socketBeside(outboxFile), server.routing, limits);
    } catch (error) {
      log.warn(
        { problem: messageOf(error) },
        "can't open the Unix socket for the command line, which uses admin.listen and admin.token instead",
      );
    }
  };

  return {
    routes,
    async listen() {
      const { host, port } = options.listen;
      try {
        const url = await server.listen({ host, port });
        await openSocket();
        return url;
      } catch (error) {
        throw new PusherError(
          'LISTEN_FAILED',
          `admin.listen: can't listen on ${host}:${port}: ${messageOf(error)}`,
          error,
        );
      }
    },
    async close() {
      await Promise.all([local?.close(), server.close()]);
    },
  };
}

/** Routes for machines: probes and Prometheus have no token, and never see what people wrote. */
function serveProbes(server: FastifyInstance, { notReady, registry }: AdminSetup): void {
  const config = { open: true };
  // Liveness: the process answers. Only check here what a restart would fix.
  server.get('/healthz', { config }, async () => ({ status: 'ok' }));
  server.get('/readyz', { config }, async (_, reply) => {
    const reasons = notReady();
    if (reasons.length === 0) return { status: 'ready' };
    return reply.code(503).send({ status: 'not ready', reasons });
  });
  server.get('/metrics', { config }, async (_, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()),
  );
}
