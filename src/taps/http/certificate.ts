/** The certificate and key that a tap serves HTTPS with. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
import type { HttpTapOptions } from '../../config/options.ts';
import { messageOf, PusherError } from '../../errors.ts';

/** Both in PEM. */
export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/**
 * Reads both files; undefined where the tap speaks plain HTTP.
 * @param folder what relative paths are relative to
 * @throws PusherError LISTEN_FAILED when they can't be read, or don't belong together
 */
export function readCertificate({ tls_cert, tls_key }: HttpTapOptions, folder: string): Certificate | undefined {
  if (tls_cert === undefined || tls_key === undefined) return undefined;
  const read = (key: 'tls_cert' | 'tls_key', file: string) => {
    try {
      return readFileSync(path.resolve(folder, file));
    } catch (error) {
      throw new PusherError('LISTEN_FAILED', `tap.http.${key}: can't read ${file}: ${messageOf(error)}`, error);
    }
  };
  const certificate = { cert: read('tls_cert', tls_cert), key: read('tls_key', tls_key) };
  try {
    createSecureContext(certificate);
  } catch (error) {
    const problem = `not a certificate and its key: ${messageOf(error)}`;
    throw new PusherError('LISTEN_FAILED', `tap.http.tls_cert and tls_key: ${problem}`, error);
  }
  return certificate;
}
