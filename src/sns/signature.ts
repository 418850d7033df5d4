/**
 * AWS Signature Version 4 for one service's POST requests:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
 */
import { hash } from 'node:crypto';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

type SignedHeaders = {
  readonly host: string;
  readonly 'content-type': string;
  readonly 'x-amz-date': string;
  readonly 'x-amz-security-token'?: string;
  readonly authorization: string;
};

export interface Signer {
  /** Headers for a POST of `body` at `now` (milliseconds since the Unix epoch). */
  sign(body: string | Buffer, credentials: AwsCredentials, now: number): SignedHeaders;
}

/**
 * Signs POSTs to one URL. Computes parts shared by all requests of a day or a second only once, which leaves two hashes
 * and one HMAC per request.
 * @param url host and path are signed
 * @param contentType the value of `content-type`, which is signed too
 */
export function createSigner(url: URL, region: string, service: string, contentType: string): Signer {
  const path = canonicalPath(url.pathname);
  let ofDay: { readonly day: string; readonly secret: string; readonly hmac: Hmac } | undefined;
  let ofSecond: { readonly second: number; readonly credentials: AwsCredentials; readonly parts: Parts } | undefined;

  const signingHmac = (day: string, secret: string): Hmac => {
    if (ofDay?.day === day && ofDay.secret === secret) return ofDay.hmac;
    let key: Buffer = Buffer.from(`AWS4${secret}`);
    for (const part of [day, region, service, 'aws4_request']) key = hmacOf(key)(part, 'buffer');
    ofDay = { day, secret, hmac: hmacOf(key) };
    return ofDay.hmac;
  };

  const partsOf = (now: number, credentials: AwsCredentials): Parts => {
    const second = Math.floor(now / 1_000);
    if (ofSecond?.second === second && ofSecond.credentials === credentials) return ofSecond.parts;
    const { accessKeyId, secretAccessKey, sessionToken } = credentials;
    const date = new Date(now).toISOString().replace(/[-:]|\.\d{3}/g, '');
    const day = date.slice(0, 8);
    const headers = {
      'content-type': contentType,
      host: url.host,
      'x-amz-date': date,
      ...(sessionToken && { 'x-amz-security-token': sessionToken }),
    };
    const names = Object.keys(headers).join(';');
    const canonicalHeaders = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
    const scope = `${day}/${region}/${service}/aws4_request`;
    const parts = {
      headers,
      canonical: `POST\n${path}\n\n${canonicalHeaders.join('')}\n${names}\n`,
      toSign: `AWS4-HMAC-SHA256\n${date}\n${scope}\n`,
      authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names}, Signature=`,
      hmac: signingHmac(day, secretAccessKey),
    };
    ofSecond = { second, credentials, parts };
    return parts;
  };

  return {
    sign(body, credentials, now) {
      const { headers, canonical, toSign, authorization, hmac } = partsOf(now, credentials);
      const signature = hmac(toSign + hash('sha256', canonical + hash('sha256', body)), 'hex');
      return { ...headers, authorization: authorization + signature };
    },
  };
}

/**
 * A path in the form that AWS signs for every service except S3: without empty segments, and escaped once more than
 * sent.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html#create-canonical-request
 */
function canonicalPath(path: string): string {
  // URL has resolved `.` and `..` already.
  const segments = path.split('/').filter(Boolean);
  const escaped = segments.map((segment) =>
    encodeURIComponent(segment).replace(
      /[!'()*]/g,
      (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
    ),
  );
  return `/${escaped.join('/')}${escaped.length > 0 && path.endsWith('/') ? '/' : ''}`;
}

/** The common parts of all requests of one second. */
interface Parts {
  readonly headers: Omit<SignedHeaders, 'authorization'>;
  /** The canonical request, the string to sign and the header's value, each up to its final hash. */
  readonly canonical: string;
  readonly toSign: string;
  readonly authorization: string;
  readonly hmac: Hmac;
}

interface Hmac {
  (text: string, form: 'hex'): string;
  (text: string, form: 'buffer'): Buffer;
}

const BLOCK_BYTES = 64;

/**
 * HMAC-SHA-256 with one key, of ASCII texts (RFC 2104). `createHmac` creates an OpenSSL object for each text, which
 * costs as much as the rest of a signature.
 */
function hmacOf(key: Buffer): Hmac {
  const padded = Buffer.alloc(BLOCK_BYTES);
  (key.length > BLOCK_BYTES ? hash('sha256', key, 'buffer') : key).copy(padded);
  let inner = Buffer.from(padded.map((byte) => byte ^ 0x36));
  const outer = Buffer.alloc(BLOCK_BYTES + 32);
  outer.set(padded.map((byte) => byte ^ 0x5c));
  return ((text: string, form: 'hex' | 'buffer') => {
    const end = BLOCK_BYTES + text.length;
    if (inner.length < end) inner = Buffer.concat([inner, Buffer.alloc(end)]);
    inner.write(text, BLOCK_BYTES, 'latin1');
    // Returns text: allocating a buffer costs more than the hash.
    outer.write(hash('sha256', inner.subarray(0, end), 'latin1'), BLOCK_BYTES, 'latin1');
    return hash('sha256', outer, form);
  }) as Hmac;
}
