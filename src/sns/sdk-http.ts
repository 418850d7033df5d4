/**
 * The HTTP handler with which AWS's SDK fetches credentials (STS, SSO): uses our proxy and always verifies
 * certificates.
 */
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici';
import { proxyFor } from './proxy.ts';

/** The SDK's request; https://github.com/smithy-lang/smithy-typescript describes it as HttpRequest. */
interface SdkRequest {
  readonly method: string;
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

interface SdkResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: unknown;
}

/** A request handler of the SDK's. */
export interface SdkHttp {
  readonly metadata: { readonly handlerProtocol: string };
  handle(request: SdkRequest, options?: { readonly abortSignal?: unknown }): Promise<{ response: SdkResponse }>;
  updateHttpClientConfig(): void;
  httpHandlerConfigs(): Record<string, never>;
  destroy(): void;
}

const TIMEOUT_MS = 5_000;

/** @param proxy the option `proxy` */
export function createSdkHttp(proxy: URL | 'none' | undefined): SdkHttp {
  const dispatchers = new Map<string, Dispatcher>();
  const tls = { rejectUnauthorized: true, timeout: TIMEOUT_MS };
  const dispatcherFor = (url: URL): Dispatcher => {
    const through = proxyFor(url, proxy, process.env);
    const key = through?.origin.origin ?? '';
    const known = dispatchers.get(key);
    if (known) return known;
    const made = through
      ? new ProxyAgent({
          uri: through.origin.href,
          ...(through.authorization !== undefined && { token: through.authorization }),
          requestTls: tls,
          proxyTls: tls,
        })
      : new Agent({ connect: tls });
    dispatchers.set(key, made);
    return made;
  };
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    async handle({ method, headers, body, ...parts }) {
      const url = urlOf(parts);
      const response = await request(url, {
        method: method as Dispatcher.HttpMethod,
        headers: { ...headers },
        body: bodyOf(body),
        dispatcher: dispatcherFor(url),
        headersTimeout: TIMEOUT_MS,
        bodyTimeout: TIMEOUT_MS,
      });
      const flat = Object.entries(response.headers).map(([name, value]) => [name, [value ?? []].flat().join(', ')]);
      return {
        response: { statusCode: response.statusCode, headers: Object.fromEntries(flat), body: response.body },
      };
    },
    updateHttpClientConfig() {},
    httpHandlerConfigs: () => ({}),
    destroy() {
      for (const dispatcher of dispatchers.values()) void dispatcher.destroy();
      dispatchers.clear();
    },
  };
}

function urlOf({ protocol, hostname, port, path, query = {} }: Omit<SdkRequest, 'method' | 'headers'>): URL {
  const url = new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}`);
  for (const [name, value] of Object.entries(query))
    for (const each of value === null ? [''] : [value].flat()) url.searchParams.append(name, each);
  return url;
}

function bodyOf(body: unknown): string | Uint8Array | null {
  if (typeof body === 'string' || body instanceof Uint8Array) return body;
  if (body === undefined || body === null) return null;
  throw new Error('a request for credentials has no streamed body');
}
