/** What an adapter would meet on its way to the tap. */
import type { PusherConfig } from '../config/load.ts';
import { loadConfig } from '../config/load.ts';
import { messageOf } from '../errors.ts';

export interface CheckResult {
  readonly ok: boolean;
  readonly text: string;
}

const ANSWER_TIMEOUT_MS = 10_000;

/** Posts a batch without events, which the tap answers as any other and which changes nothing. */
export async function adapterCheck(options: { config: string; url?: string; secret?: string }): Promise<CheckResult> {
  const config = options.url === undefined ? loadConfig(options.config) : undefined;
  const url = options.url ?? tapUrl(config as PusherConfig);
  const secret = options.secret ?? config?.tap.http.secret;
  if (!URL.canParse(url))
    return { ok: false, text: `${url} is no URL; the tap's looks like http://127.0.0.1:5290/v1/events` };
  let response: Response;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(secret !== undefined && { authorization: `Bearer ${secret}` }),
      },
      body: JSON.stringify({ source: 'adapter check', events: [] }),
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
  } catch (error) {
    return { ok: false, text: `${url}: ${unreachable(error)}` };
  }
  return judge(url, response.status, await response.text());
}

/** Where an adapter on this machine reaches the tap of this configuration. */
export function tapUrl({ tap: { http } }: PusherConfig): string {
  const { host, port } = http.listen;
  const anywhere = host === '0.0.0.0' || host === '::';
  const name = anywhere ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  return `${http.tls_cert === undefined ? 'http' : 'https'}://${name}:${port}/v1/events`;
}

function judge(url: string, status: number, text: string): CheckResult {
  const error = parse(text)?.error;
  const said = error?.message ? ` (it says: ${error.message})` : '';
  if (status === 200 && parse(text)?.accepted === 0) return { ok: true, text: `${url} takes events with this secret` };
  if (status === 401)
    return { ok: false, text: `${url} refuses the secret: the adapter's has to be that of tap.http.secret` };
  if (status === 503)
    return { ok: false, text: `${url} takes no events at the moment${said}; the adapter keeps them until it does` };
  if (status === 404 && error) return { ok: false, text: `${url}: the tap is at /v1/events on that address` };
  if (error) return { ok: false, text: `${url} answered ${status}${said}` };
  return {
    ok: false,
    text: `${url} answered ${status}, but it is not the tap of xmpp-event-pusher: check address, port and path`,
  };
}

function parse(text: string): { accepted?: number; error?: { message?: string } } | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // Whatever answers there does not speak JSON, which the caller says.
  }
}

/** Node's fetch wraps what happened in an error that says nothing. */
function unreachable(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code } = cause as { code?: string };
  if (code === 'ECONNREFUSED') return 'nothing listens there: is the daemon running, and is this its tap.http.listen?';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'there is no such host in the DNS';
  if (cause instanceof Error && cause.name === 'TimeoutError')
    return `no answer within ${ANSWER_TIMEOUT_MS / 1_000} s: does a firewall drop it?`;
  if (/CERT|SIGNED|SSL|TLS|ALTNAME/.test(code ?? ''))
    return `its certificate is not trusted here or not for this name (${messageOf(cause)}); the server's own CA settings count for the adapter`;
  if (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || /HPE_/.test(code ?? ''))
    return 'it closes the connection: does it speak http where https is asked, or the other way round?';
  return messageOf(cause);
}
