/** Checks an adapter's path to the tap. */
import { readFileSync } from 'node:fs';
import { getCACertificates } from 'node:tls';
import { Agent, type Dispatcher, request } from 'undici';
import { messageOf, PusherError } from '../../errors.ts';
import { beginning } from '../beginning.ts';
import { isAdmin, speaksTls, unreachable } from './diagnosis.ts';
import type { TapAccess } from './server.ts';

export interface CheckResult {
  readonly ok: boolean;
  readonly text: string;
}

export interface CheckOptions {
  readonly tap: Pick<TapAccess, 'url'> & { readonly secret: string | undefined };
  /** A file of certificates in PEM to trust instead of the system's. */
  readonly ca?: string;
  /** The tap's URL from the configuration, mentioned when another one is checked. */
  readonly right?: string;
}

const ANSWER_TIMEOUT_MS = 10_000;

/** Posts a batch without events, which the tap answers like any other and which changes nothing. */
export async function adapterCheck({ tap, ca, right }: CheckOptions): Promise<CheckResult> {
  const { url, secret } = tap;
  if (!URL.canParse(url)) return fail(`${url} is not a URL; the tap's looks like http://127.0.0.1:5290/v1/events`);
  const dispatcher = new Agent({ connect: { ca: authorities(ca), timeout: ANSWER_TIMEOUT_MS } });
  try {
    const answer = await post(url, secret, dispatcher);
    return await judge({ url, right, ...answer }, dispatcher);
  } catch (error) {
    return fail(`${url}: ${await unreachable(error, new URL(url), ANSWER_TIMEOUT_MS)}`);
  } finally {
    await dispatcher.destroy();
  }
}

interface Answer {
  readonly status: number;
  readonly location: string | undefined;
  readonly text: string;
}

async function post(url: string, secret: string | undefined, dispatcher: Dispatcher): Promise<Answer> {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  const { statusCode, headers, body } = await request(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      // Its UTF-8 bytes, as adapters send it.
      ...(secret !== undefined && { authorization: Buffer.from(`Bearer ${secret}`).toString('latin1') }),
    },
    body: JSON.stringify({ source: 'adapter check', events: [] }),
    dispatcher,
    signal,
  });
  const text = await beginning(body);
  return { status: statusCode, location: headers.location?.toString(), text };
}

/** The trusted authorities: by default the system's store, as in the adapters, rather than Node.js's own. */
function authorities(file: string | undefined): string[] {
  if (file === undefined) return getCACertificates('system');
  try {
    return [readFileSync(file, 'utf8')];
  } catch (error) {
    throw new PusherError('ADAPTER_INSTALL', `--ca: can't read ${file}: ${messageOf(error)}`, error);
  }
}

const fail = (text: string): CheckResult => ({ ok: false, text });

async function judge(
  { url, right, status, location, text }: Answer & { url: string; right: string | undefined },
  dispatcher: Dispatcher,
): Promise<CheckResult> {
  const { accepted, error } = parse(text);
  const said = error?.message ? ` (it says: ${error.message})` : '';
  if (status === 200 && accepted === 0) return { ok: true, text: `${url} accepts events with this secret` };
  const elsewhere =
    right === undefined || right === url ? 'the tap is tap.http.listen of its configuration' : `the tap is ${right}`;
  if (await isAdmin(url, dispatcher)) return fail(`${url} is the daemon's admin address, not its tap: ${elsewhere}`);
  if (status === 401 && error)
    return fail(`${url} rejects the secret: the adapter's secret must equal tap.http.secret`);
  if (status === 503 && error)
    return fail(`${url} accepts no events at the moment${said}; the adapter keeps them and retries`);
  if (status === 404 && error) return fail(`${url}: not found; the tap's path is /v1/events`);
  if (error) return fail(`${url} answered ${status}${said}`);
  if (location !== undefined)
    return fail(
      `${url} answered ${status}, a redirect to ${location}; adapters do not follow redirects: use the tap's own URL`,
    );
  if (status === 400 && new URL(url).protocol === 'http:' && (await speaksTls(new URL(url))))
    return fail(`${url}: it speaks HTTPS, so begin the URL with https://`);
  return fail(`${url} answered ${status}, but it is not the tap of xmpp-event-pusher: check address, port and path`);
}

interface TapAnswer {
  readonly accepted?: number;
  readonly error?: { readonly message?: string };
}

/** A tap's answer; empty if something else answers. */
function parse(text: string): TapAnswer {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {}; // Not JSON; the caller reports it.
  }
}
