/**
 * Access control of the admin address. The Unix socket is protected by its file mode. With `admin.token`, people log in
 * with it and machines send it along; without one the address is loopback, and requests that a foreign page makes a
 * browser send are refused by Host and Origin.
 *
 * Maintained invariants:
 * - A route requires a login unless it is marked as open.
 * - Another site's page can change nothing, whatever cookies its visitor has.
 * - Tokens are compared in constant time. The right one always works; answers to wrong ones are delayed.
 * - Requests without a login write a bounded number of lines to the log.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { isLoopback } from '../config/option.ts';
import { type Brake, createBrake } from '../http/brake.ts';
import { bytesOf, isSameSecret } from '../http/secret.ts';
import { createTally } from '../http/tally.ts';
import { atAnyLevel, type Logger } from './log.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Needs no login: probes, metrics, the page itself (which holds no data) and the login. */
    open?: boolean;
  }
}

export interface Access {
  /** Whether a login is needed at all. */
  readonly login: boolean;
  /** Whether this request has full access. Checked again during a stream, because sessions expire. */
  allows(request: FastifyRequest): boolean;
  /** The client, for the log: a session, a token or a local process, and its address. */
  who(request: FastifyRequest): Readonly<Record<string, string>>;
}

interface AccessSetup {
  /** `admin.token`. */
  readonly token: string | undefined;
  readonly log: Logger;
  /** Whether a request came by the Unix socket, and so passed its file mode. */
  readonly isLocal?: (request: FastifyRequest) => boolean;
  readonly now?: () => number;
  readonly brake?: Brake;
}

/** The command line's header with its user, URI-encoded; trusted only over the Unix socket. */
export const USER_HEADER = 'x-pusher-user';

/** How long a login lasts, in milliseconds: a shift. */
const SESSION_MS = 12 * 3_600_000;

const loginBody = z.strictObject({ token: z.string().max(1_000) });

/** Guards every route of `server`, and adds the routes for login and logout. */
export function guard(
  server: FastifyInstance,
  { token, log, isLocal = () => false, now = Date.now, brake = createBrake() }: AccessSetup,
): Access {
  // All ports of a host share cookies: two daemons behind tunnels must not end each other's sessions.
  const cookie = `pusher-session-${randomBytes(4).toString('hex')}`;
  const sessions = new Map<string, { readonly name: string; readonly until: number }>();
  const refused = createTally();
  server.addHook('onClose', async () => refused.close());

  const sessionOf = (request: FastifyRequest) => {
    const id = cookieOf(request, cookie);
    const session = id === undefined ? undefined : sessions.get(id);
    return session && session.until > now() ? session : undefined;
  };
  const bearer = (request: FastifyRequest) => /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  const allows = (request: FastifyRequest) => {
    if (token === undefined || isLocal(request) || sessionOf(request)) return true;
    const sent = bearer(request);
    return sent !== undefined && isSameSecret(bytesOf(sent), token);
  };
  const who = (request: FastifyRequest): Readonly<Record<string, string>> => {
    if (isLocal(request)) return { by: `user ${decoded(String(request.headers[USER_HEADER] ?? '?').slice(0, 200))}` };
    const session = sessionOf(request);
    const by = token === undefined ? 'local' : session ? `session ${session.name}` : 'token';
    const forwarded = request.headers['x-forwarded-for'];
    return { by, from: request.ip, ...(forwarded && { forwardedFor: String(forwarded).slice(0, 200) }) };
  };
  const wrongToken = (request: FastifyRequest) => {
    const path = pathOf(request);
    refused.add('token', request.ip, (fields) => log.warn({ ...fields, path }, 'admin: wrong token'));
    return brake.failed(request.ip);
  };

  server.addHook('onRequest', async (request, reply) => {
    // Browsers can't connect to a Unix socket.
    if (isLocal(request)) return;
    const foreign = foreignProblem(request, token === undefined);
    if (foreign) {
      const line = { path: pathOf(request), problem: foreign.code };
      refused.add(foreign.code, request.ip, (fields) => log.warn({ ...fields, ...line }, 'admin request refused'));
      return refuse(reply, 403, foreign.code, foreign.message);
    }
    if (request.routeOptions.config.open) return;
    if (allows(request)) return;
    if (bearer(request) !== undefined) await wrongToken(request);
    return refuse(reply, 401, 'unauthorized', 'log in, or send admin.token as "Authorization: Bearer <token>"');
  });

  // Checks only the page's session: an open route that checked tokens would allow guessing them.
  server.get('/api/session', { config: { open: true } }, async (request) => ({
    login: token !== undefined,
    allowed: token === undefined || sessionOf(request) !== undefined,
  }));

  server.post('/api/login', { config: { open: true }, bodyLimit: 4_096 }, async (request, reply) => {
    const parsed = loginBody.safeParse(request.body);
    if (token === undefined) return refuse(reply, 409, 'no_login', 'admin.token is not set, so there is no login');
    if (!parsed.success) return refuse(reply, 400, 'malformed', 'the body should be {"token": "…"}');
    if (!isSameSecret(parsed.data.token, token)) {
      await wrongToken(request);
      return refuse(reply, 401, 'wrong_token', 'wrong token: it must equal admin.token');
    }
    for (const [id, { until }] of sessions) if (until <= now()) sessions.delete(id);
    const id = randomBytes(32).toString('base64url');
    const session = { name: randomBytes(4).toString('hex'), until: now() + SESSION_MS };
    sessions.set(id, session);
    atAnyLevel(log).info({ by: `session ${session.name}`, from: request.ip }, 'admin: logged in');
    return reply.header('set-cookie', setCookie(request, cookie, id, SESSION_MS / 1_000)).send({ allowed: true });
  });

  server.post('/api/logout', { config: { open: true } }, async (request, reply) => {
    sessions.delete(cookieOf(request, cookie) ?? '');
    return reply.header('set-cookie', setCookie(request, cookie, '', 0)).send({ allowed: token === undefined });
  });

  return { login: token !== undefined, allows, who };
}

/** Headers are ASCII; user names may have other characters. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function refuse(reply: FastifyReply, status: number, code: string, message: string): FastifyReply {
  return reply.code(status).send({ error: { code, message } });
}

/** The path without the query, which may contain search texts. */
const pathOf = ({ url }: FastifyRequest): string => url.split('?', 1)[0] as string;

/** Whether another site's page, or a foreign DNS name that points here, caused a request. */
function foreignProblem(
  { headers, method, routeOptions }: FastifyRequest,
  loopbackOnly: boolean,
): { code: string; message: string } | undefined {
  const { host = '', origin } = headers;
  // DNS rebinding: a foreign name that resolves to 127.0.0.1 makes us the same origin as the attacker's page. With a
  // token this needs no check, for such a page has neither the token nor the cookie.
  if (loopbackOnly && !isLoopback(host.replace(/:\d+$/, '')))
    return { code: 'wrong_host', message: 'without admin.token only localhost, 127.0.0.1 and [::1] are served' };
  const changes = method !== 'GET' && method !== 'HEAD';
  if (changes && origin !== undefined && !isSameOrigin(origin, host))
    return { code: 'wrong_origin', message: 'requests that change something must come from the console itself' };
  // Browsers send it with every request, and a page can't forge it (https://www.w3.org/TR/fetch-metadata/).
  const site = headers['sec-fetch-site'];
  // The matched route rather than the path as sent, where `%61pi` is `api` too.
  if (routeOptions.url?.startsWith('/api/') && site !== undefined && site !== 'same-origin' && site !== 'none')
    return { code: 'wrong_origin', message: 'pages of other sites may not use this' };
  return undefined;
}

/** The scheme is left out: a proxy may add TLS. */
const isSameOrigin = (origin: string, host: string): boolean =>
  URL.canParse(origin) && new URL(origin).host === host.toLowerCase().replace(/:(80|443)$/, '');

function cookieOf({ headers }: FastifyRequest, name: string): string | undefined {
  const pairs = (headers.cookie ?? '').split(/;\s*/);
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}

function setCookie({ headers }: FastifyRequest, name: string, value: string, seconds: number): string {
  // The Origin shows whether a proxy in front of us uses TLS.
  const secure = headers.origin?.startsWith('https:') ? '; Secure' : '';
  return `${name}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure}`;
}
