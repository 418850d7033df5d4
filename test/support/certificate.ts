/** Certificates as private endpoints have them: self-signed, or by a private authority. */
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { until } from './process.ts';

const run = async (folder: string, args: string[]) => {
  await promisify(execFile)('openssl', args, { cwd: folder }).catch((error: Error) => {
    throw new Error(`this test needs openssl: ${error.message}`);
  });
};

/** A certificate authority, and the file of its own certificate. */
export interface Authority {
  readonly file: string;
  /** @param name the subject, such as `DNS:localhost` or `IP:127.0.0.1` */
  certify(name: string, options?: CertificateOptions): Promise<{ cert: Buffer; key: Buffer }>;
}

export interface CertificateOptions {
  /** Its common name. */
  readonly subject?: string;
  /** How long it is valid; 0 for one that has expired. */
  readonly days?: number;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Creates an authority, with its files in that folder. */
export async function makeAuthority(folder: string): Promise<Authority> {
  const authority = ['-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=Test authority'];
  await run(folder, ['req', '-x509', ...NEW_KEY, ...authority]);
  return {
    file: path.join(folder, 'ca.pem'),
    async certify(name, { subject = 'test', days = 2 } = {}) {
      await run(folder, ['req', ...NEW_KEY, '-keyout', 'its.key', '-out', 'its.request', '-subj', `/CN=${subject}`]);
      await writeFile(path.join(folder, 'its.names'), `subjectAltName=${name}\n`);
      const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'its.names'];
      await run(folder, ['x509', '-req', '-in', 'its.request', ...signed, '-days', `${days}`, '-out', 'its.pem']);
      const [cert, key] = await Promise.all(['its.pem', 'its.key'].map((file) => readFile(path.join(folder, file))));
      const { validTo } = new X509Certificate(cert as Buffer);
      // Its last second counts, to some.
      if (days === 0) await until('it to expire', () => Date.now() > Date.parse(validTo) + 1_000);
      return { cert: cert as Buffer, key: key as Buffer };
    },
  };
}

/** Creates cert.pem and key.pem in a folder. @param name the subject, such as `DNS:localhost` or `IP:127.0.0.1` */
export async function makeCertificate(folder: string, name: string): Promise<{ cert: Buffer; key: Buffer }> {
  const subject = ['-subj', '/CN=test', '-addext', `subjectAltName=${name}`, '-days', '2'];
  await run(folder, ['req', '-x509', ...NEW_KEY, '-keyout', 'key.pem', '-out', 'cert.pem', ...subject]);
  const [cert, its] = await Promise.all(['cert.pem', 'key.pem'].map((file) => readFile(path.join(folder, file))));
  return { cert: cert as Buffer, key: its as Buffer };
}
