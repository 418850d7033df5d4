/** Chooses the HTTP proxy for an endpoint. Pure. */
import net from 'node:net';
import { PusherError } from '../errors.ts';

export interface HttpProxy {
  /** Scheme, host and port. */
  readonly origin: URL;
  /** Value of `Proxy-Authorization`; a secret. */
  readonly authorization: string | undefined;
  /** Its origin: the option, or an environment variable. */
  readonly source: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The proxy for an endpoint: the option's, else that of HTTPS_PROXY or HTTP_PROXY, depending on the endpoint's scheme,
 * unless NO_PROXY exempts the host. The environment's proxy is never used for this machine itself.
 * @param option the option `proxy`: a URL, `none` to ignore the environment, or undefined
 * @throws PusherError CONFIG_INVALID for a variable that is not an HTTP proxy
 */
export function proxyFor(
  endpoint: URL,
  option: URL | 'none' | undefined,
  environment: Environment,
): HttpProxy | undefined {
  if (option === 'none') return undefined;
  if (option) return proxyOf(option, 'proxy');
  const host = hostOf(endpoint);
  if (/^(localhost|127\..*|::1)$/.test(host)) return undefined;
  const name = endpoint.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const [source, value] = [name, name.toLowerCase()].map((each) => [each, environment[each]]).find(([, v]) => v) ?? [];
  if (!source || !value || isExempt(endpoint, environment.NO_PROXY || environment.no_proxy || '')) return undefined;
  const written = value.includes('://') ? value : `http://${value}`;
  const url = URL.canParse(written) ? new URL(written) : undefined;
  if (!url || !/^https?:$/.test(url.protocol))
    // Not the value, which may hold a password.
    throw new PusherError(
      'CONFIG_INVALID',
      `${source} of the environment names no HTTP proxy: it should be http://host:port or https://host:port`,
    );
  return proxyOf(url, source);
}

function proxyOf(url: URL, source: string): HttpProxy {
  const { username, password } = url;
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const authorization =
    username === '' && password === '' ? undefined : `Basic ${Buffer.from(login).toString('base64')}`;
  return { origin: new URL(url.origin), authorization, source };
}

/** `https://proxy.example.org:3128 (HTTPS_PROXY)`, without its login. */
export const proxyText = ({ origin, source }: Pick<HttpProxy, 'origin' | 'source'>): string =>
  `${origin.origin} (${source})`;

/** A host without the brackets of an IPv6 address. */
const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '');

/** Whether one of NO_PROXY's entries matches: a host, a domain with its subdomains, an address, a network, or `*`. */
function isExempt(endpoint: URL, list: string): boolean {
  const host = hostOf(endpoint);
  const port = endpoint.port || (endpoint.protocol === 'https:' ? '443' : '80');
  return list.split(/[\s,]+/).some((entry) => {
    const [, name = '', itsPort = port] = /^(?:\*?\.)?(.*?)(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [];
    if (entry === '*') return true;
    // In an IPv6 address without brackets colons start no port.
    if (net.isIPv6(entry.replace(/^\[|\]$/g, ''))) return entry.replace(/^\[|\]$/g, '') === host;
    if (name.includes('/')) return inNetwork(host, name);
    return name !== '' && itsPort === port && (host === name || host.endsWith(`.${name}`));
  });
}

function inNetwork(host: string, network: string): boolean {
  const [address = '', bits = ''] = network.split('/');
  const family = net.isIP(host);
  if (
    family === 0 ||
    net.isIP(address) !== family ||
    !/^\d{1,3}$/.test(bits) ||
    Number(bits) > (family === 4 ? 32 : 128)
  )
    return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const list = new net.BlockList();
  list.addSubnet(address, Number(bits), type);
  return list.check(host, type);
}
