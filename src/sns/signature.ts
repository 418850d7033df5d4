/** AWS Signature Version 4 for one service's POST requests: https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html */
import { createHmac, hash } from 'node:crypto';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

export interface SignedHeaders {
  readonly host: string;
  readonly 'content-type': string;
  readonly 'x-amz-date': string;
  readonly 'x-amz-security-token'?: string;
  readonly authorization: string;
}

export interface Signer {
  /** Headers for a POST of `body` at `now` (milliseconds since the Unix epoch). */
  sign(body: string, credentials: AwsCredentials, now: number): SignedHeaders;
}

/**
 * Signs POSTs to one URL. The signing key is derived once a day and key, which leaves two hashes and one HMAC a request.
 * @param url host and path are signed; the path must be in its escaped form already, as URL gives it
 * @param contentType the value of `content-type`, which is signed too
 */
export function createSigner(url: URL, region: string, service: string, contentType: string): Signer {
  let cached: { readonly day: string; readonly secret: string; readonly key: Buffer } | undefined;

  const signingKey = (day: string, secret: string): Buffer => {
    if (cached?.day === day && cached.secret === secret) return cached.key;
    let key: Buffer = Buffer.from(`AWS4${secret}`);
    for (const part of [day, region, service, 'aws4_request']) key = hmac(key, part);
    cached = { day, secret, key };
    return key;
  };

  return {
    sign(body, { accessKeyId, secretAccessKey, sessionToken }, now) {
      const date = new Date(now).toISOString().replace(/[-:]|\.\d{3}/g, '');
      const day = date.slice(0, 8);
      const headers: [string, string][] = [
        ['content-type', contentType],
        ['host', url.host],
        ['x-amz-date', date],
      ];
      if (sessionToken) headers.push(['x-amz-security-token', sessionToken]);
      const names = headers.map(([name]) => name).join(';');
      const canonicalHeaders = headers.map(([name, value]) => `${name}:${value}\n`).join('');
      const canonical = `POST\n${url.pathname}\n\n${canonicalHeaders}\n${names}\n${hash('sha256', body)}`;
      const scope = `${day}/${region}/${service}/aws4_request`;
      const toSign = `AWS4-HMAC-SHA256\n${date}\n${scope}\n${hash('sha256', canonical)}`;
      const signature = hmac(signingKey(day, secretAccessKey), toSign).toString('hex');
      return {
        ...(Object.fromEntries(headers) as Omit<SignedHeaders, 'authorization'>),
        authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`,
      };
    },
  };
}

const hmac = (key: Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();
