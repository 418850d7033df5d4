/** A tap's certificate and key for HTTPS. */
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
 * Reads both files; undefined if the tap uses plain HTTP.
 * @param folder for resolving relative paths
 * @throws PusherError LISTEN_FAILED if they can't be read, or do not match
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
