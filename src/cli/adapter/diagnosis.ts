/** Explains to the person who wrote a tap's URL why the tap didn't answer. */
import { connect } from 'node:tls';
import { type Dispatcher, request } from 'undici';
import { messageOf } from '../../errors.ts';
import { beginning } from '../beginning.ts';

const PROBE_TIMEOUT_MS = 3_000;

/** Explains a request's error; after a broken connection, tests whether the server speaks the other protocol. */
export async function unreachable(error: unknown, url: URL, timeoutMs: number): Promise<string> {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const { code = '' } = cause as { code?: string };
  if (code === 'ECONNREFUSED') return 'nothing listens there: is the daemon running, and is this its tap.http.listen?';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the DNS has no such host';
  if (code === 'EHOSTUNREACH' || code === 'ENETUNREACH') return `this machine has no route to it (${code})`;
  if (cause instanceof Error && (cause.name === 'TimeoutError' || /TIMEOUT|TIMEDOUT/.test(code)))
    return `no answer within ${timeoutMs / 1_000} s: does a firewall drop the packets?`;
  const certificate = certificateProblem(code, cause, url);
  if (certificate !== undefined) return certificate;
  if (url.protocol === 'https:' && /EPROTO|WRONG_VERSION|PACKET_LENGTH|SSL/.test(code))
    return `it does not speak HTTPS (${code}): if it is the tap, begin the URL with http://`;
  if (
    /UND_ERR_SOCKET|ECONNRESET|EPIPE|HPE_/.test(code) ||
    (cause instanceof Error && cause.name === 'HTTPParserError')
  ) {
    if (url.protocol === 'http:' && (await speaksTls(url))) return 'it speaks HTTPS, so begin the URL with https://';
    return `no HTTP response (${messageOf(cause)}): something other than the tap listens there`;
  }
  return messageOf(cause);
}

/** The problem with a server's certificate; undefined for other errors. */
function certificateProblem(code: string, cause: unknown, { hostname }: URL): string | undefined {
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return `its certificate is not for ${hostname} (${messageOf(cause)}): use one of the certificate's names in the URL`;
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return `its certificate has expired or is not valid yet (${code}): renew it, or correct this machine's clock`;
  if (/SELF_SIGNED|UNABLE_TO_|CERT_UNTRUSTED|INVALID_CA|CERT_SIGNATURE|CERT_CHAIN/.test(code))
    return `this machine does not trust the authority of its certificate (${code}): pass the authority's certificate with --ca, and make the XMPP server trust it as well (cafile of ssl in Prosody, ca_file in ejabberd)`;
  return code.startsWith('CERT_') ? `its certificate was rejected: ${messageOf(cause)}` : undefined;
}

/** Whether a TLS handshake with that address succeeds, whatever its certificate. */
export function speaksTls({ hostname, port }: URL): Promise<boolean> {
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port || 80), rejectUnauthorized: false });
    const settle = (spoken: boolean) => {
      socket.destroy();
      resolve(spoken);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => settle(false));
    socket.once('secureConnect', () => settle(true)).once('error', () => settle(false));
  });
}

/** Whether a daemon's admin address answers at a URL: only that has probes. */
export async function isAdmin(url: string, dispatcher: Dispatcher): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
    const { body } = await request(new URL('/readyz', url), { dispatcher, signal });
    return /^\{"status":"(not )?ready"/.test(await beginning(body));
  } catch {
    return false; // It answered before, but not like a daemon.
  }
}
