/**
 * SNS's signing certificates: fetched from SNS's own hosts only, verified up to a root that Node trusts, and cached.
 */
import { X509Certificate } from 'node:crypto';
import { rootCertificates } from 'node:tls';

export interface CertificateOptions {
  /** Trusted roots, as PEM; default: Node.js's. */
  readonly roots?: readonly string[];
  /** Fetches certificates and confirms subscriptions; default: the global `fetch`. */
  readonly fetch?: typeof fetch;
  readonly now?: () => number;
}

/** Fetches a signing certificate. Throws if it can't; returns the reason if it must not be trusted. */
export type Certificates = (url: string) => Promise<X509Certificate | { readonly problem: string }>;

/** SNS's hosts for certificates and confirmations: its regional endpoints. */
const SNS_HOST = /^sns\.[a-z0-9-]{1,40}\.amazonaws\.(?:com|com\.cn|eu)$/;
/** Hosts where Amazon's authorities publish their own certificates, for a chain that SNS serves without them. */
const ISSUER_HOST = /^(?:[a-z0-9-]+\.)+(?:amazontrust\.com|digicert\.com)$/;
const SUBJECT = /^sns(?:\.[a-z0-9-]+)?\.amazonaws\.(?:com|com\.cn|eu)$/;
const MAX_DEPTH = 5;
const MAX_KEPT = 32;
const MAX_BYTES = 64 * 1_024;
const KEEP_MS = 24 * 3_600_000;
const TIMEOUT_MS = 10_000;

/** Whether a URL is an HTTPS one of an SNS endpoint: no port, no user, no other host. */
export function isSnsUrl(text: unknown): text is string {
  if (typeof text !== 'string' || !URL.canParse(text)) return false;
  const { protocol, hostname, port, username, password } = new URL(text);
  return protocol === 'https:' && SNS_HOST.test(hostname) && port === '' && username === '' && password === '';
}

/** Caches certificates by URL, verified ones for a day; concurrent requests share a fetch. */
export function certificateCache(options: CertificateOptions = {}): Certificates {
  const { now = Date.now } = options;
  const kept = new Map<string, { readonly until: number; readonly certificate: ReturnType<Certificates> }>();
  let roots: readonly X509Certificate[] | undefined;
  return async (url) => {
    if (!isSnsUrl(url) || !new URL(url).pathname.endsWith('.pem'))
      return { problem: "its SigningCertURL is not SNS's" };
    const known = kept.get(url);
    if (known && known.until > now()) return known.certificate;
    roots ??= (options.roots ?? rootCertificates).map((pem) => new X509Certificate(pem));
    const certificate = trusted(url, roots, options);
    kept.delete(url);
    kept.set(url, { until: now() + KEEP_MS, certificate });
    const [oldest] = kept.keys();
    if (kept.size > MAX_KEPT && oldest !== undefined) kept.delete(oldest);
    const forget = () => {
      if (kept.get(url)?.certificate === certificate) kept.delete(url);
    };
    // A failed fetch is repeated at the next message.
    certificate.then((result) => 'problem' in result && forget(), forget);
    return certificate;
  };
}

async function trusted(
  url: string,
  roots: readonly X509Certificate[],
  { fetch = globalThis.fetch, now = Date.now }: CertificateOptions,
): ReturnType<Certificates> {
  const pem = (await download(fetch, url)).toString('latin1');
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const [leaf, ...served] = blocks.map((block) => new X509Certificate(block));
  if (!leaf) return { problem: 'its SigningCertURL holds no certificate' };
  if (!namesOf(leaf).some((name) => SUBJECT.test(name))) return { problem: "its certificate is not SNS's" };
  let certificate = leaf;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const time = now();
    if (time < Date.parse(certificate.validFrom) || time > Date.parse(certificate.validTo))
      return { problem: 'a certificate of its chain is not valid now' };
    if (roots.some((root) => issued(root, certificate))) return leaf;
    const issuer = served.find((other) => issued(other, certificate)) ?? (await fetchIssuer(fetch, certificate));
    if (!issuer?.ca || !issued(issuer, certificate)) return { problem: "its certificate's issuer is not trusted" };
    certificate = issuer;
  }
  return { problem: "its certificate's chain is too long" };
}

const issued = (issuer: X509Certificate, certificate: X509Certificate): boolean =>
  certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);

/** Fetches the issuer's certificate from the URL in a certificate, over plain HTTP as usual: it is signed itself. */
async function fetchIssuer(fetch: typeof globalThis.fetch, { infoAccess = '' }: X509Certificate) {
  const [, url] = /^CA Issuers - URI:(http:\/\/\S+)$/m.exec(infoAccess) ?? [];
  if (url === undefined || !URL.canParse(url) || !ISSUER_HOST.test(new URL(url).hostname)) return undefined;
  return new X509Certificate(await download(fetch, url));
}

async function download(fetch: typeof globalThis.fetch, url: string): Promise<Buffer> {
  const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new Error(`a certificate's address answered ${response.status}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  if (bytes.length > MAX_BYTES) throw new Error(`a certificate's address answered ${bytes.length} bytes`);
  return bytes;
}

/** Common name and alternative names. */
function namesOf({ subject, subjectAltName = '' }: X509Certificate): string[] {
  const common = subject.split('\n').flatMap((line) => (line.startsWith('CN=') ? [line.slice(3)] : []));
  return [...common, ...subjectAltName.split(', ').flatMap((name) => (name.startsWith('DNS:') ? [name.slice(4)] : []))];
}
