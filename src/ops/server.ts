/** The admin address: health for probes, metrics for Prometheus, the console for people. */
import fastify, { type FastifyError, type FastifyInstance } from 'fastify';
import type { Registry } from 'prom-client';
import type { AdminOptions } from '../config/options.ts';
import { messageOf, PusherError } from '../errors.ts';
import type { DeadLetters } from '../outbox/outbox.ts';
import { guard, refuse } from './access.ts';
import { serveActions } from './actions.ts';
import { serveAssets } from './assets.ts';
import type { Flow } from './flow.ts';
import { serveLive } from './live.ts';
import type { Logger } from './log.ts';
import type { State } from './state.ts';

/** Why the daemon is not ready: what, and what to do about it. */
export interface NotReady {
  readonly what: string;
  readonly reason: string;
  readonly advice?: string;
}

export interface AdminServer {
  /** Every route that it has, such as `GET /healthz`. */
  readonly routes: readonly string[];
  /** @throws PusherError LISTEN_FAILED */
  listen(): Promise<string>;
  close(): Promise<void>;
}

interface AdminSetup {
  readonly options: AdminOptions;
  readonly notReady: () => readonly NotReady[];
  readonly registry: Registry;
  readonly flow: Flow;
  readonly state: () => State;
  readonly deadLetters: DeadLetters;
  /** Tries a paused topic at once; false when there is no such topic or it is not paused. */
  readonly tryTopic: (arn: string) => boolean;
  readonly log: Logger;
}

/** Nothing but our own files runs, nothing is loaded from elsewhere, and nobody frames the page. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
};

/** How long a request may take to arrive, in milliseconds. */
const REQUEST_TIMEOUT_MS = 30_000;

export function createAdminServer(setup: AdminSetup): AdminServer {
  const { options, log, flow, state } = setup;
  const server = fastify({ forceCloseConnections: true, requestTimeout: REQUEST_TIMEOUT_MS });
  // The one other type that fastify reads, and the one that a foreign page's form could send without being asked.
  server.removeContentTypeParser('text/plain');
  const routes: string[] = [];
  server.addHook('onRoute', ({ method, url }) => {
    if (method !== 'HEAD') routes.push(`${String(method)} ${url}`);
  });
  server.addHook('onRequest', async (_, reply) => {
    reply.headers(HEADERS);
  });
  server.setErrorHandler((error: FastifyError, request, reply) => {
    const status = error.statusCode ?? 500;
    if (status < 500) return refuse(reply, status, 'malformed', error.message);
    log.error({ path: request.routeOptions.url, problem: messageOf(error) }, 'admin request failed');
    return refuse(reply, 500, 'internal', messageOf(error));
  });
  server.setNotFoundHandler((_, reply) => refuse(reply, 404, 'not_found', 'there is nothing here'));

  const access = guard(server, { token: options.token, log });
  serveProbes(server, setup);
  serveAssets(server);
  serveLive(server, { flow, state, access, log });
  serveActions(server, { deadLetters: setup.deadLetters, tryTopic: setup.tryTopic, access, log });

  return {
    routes,
    async listen() {
      const { host, port } = options.listen;
      try {
        return await server.listen({ host, port });
      } catch (error) {
        throw new PusherError(
          'LISTEN_FAILED',
          `admin.listen: can't listen on ${host}:${port}: ${messageOf(error)}`,
          error,
        );
      }
    },
    close: () => server.close(),
  };
}

/** What machines ask: probes and Prometheus have no token, and learn nothing that people wrote. */
function serveProbes(server: FastifyInstance, { notReady, registry }: AdminSetup): void {
  const config = { open: true };
  // Alive: the process answers. Nothing that a restart would not mend belongs here.
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
