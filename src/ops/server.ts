/** The admin address: health for probes, metrics for Prometheus. */
import fastify from 'fastify';
import type { Registry } from 'prom-client';
import type { ListenAddress } from '../config/options.ts';
import { messageOf, PusherError } from '../errors.ts';

/** Why the daemon is not ready: what, and what to do about it. */
export interface NotReady {
  readonly what: string;
  readonly reason: string;
  readonly advice?: string;
}

export interface AdminServer {
  /** @throws PusherError LISTEN_FAILED */
  listen(): Promise<string>;
  close(): Promise<void>;
}

interface AdminSetup {
  readonly address: ListenAddress;
  readonly notReady: () => readonly NotReady[];
  readonly registry: Registry;
}

export function createAdminServer({ address, notReady, registry }: AdminSetup): AdminServer {
  const server = fastify({ forceCloseConnections: true });
  // Alive: the process answers. Nothing that a restart would not mend belongs here.
  server.get('/healthz', async () => ({ status: 'ok' }));
  server.get('/readyz', async (_, reply) => {
    const reasons = notReady();
    if (reasons.length === 0) return { status: 'ready' };
    return reply.code(503).send({ status: 'not ready', reasons });
  });
  server.get('/metrics', async (_, reply) => reply.type(registry.contentType).send(await registry.metrics()));
  return {
    async listen() {
      const { host, port } = address;
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
