/** Secrets that come with requests. */
import { hash, timingSafeEqual } from 'node:crypto';

/**
 * Compares a text with the secret in a time that reveals neither where they differ nor their lengths.
 * @param sent a text, or the bytes of a header: see {@link bytesOf}
 */
export function isSameSecret(sent: string | Uint8Array, secret: string): boolean {
  const digest = (value: string | Uint8Array) => hash('sha256', value, 'buffer');
  return timingSafeEqual(digest(sent), digest(secret));
}

/** The bytes of a header: clients send a secret's UTF-8, and Node.js hands a header out as if it were Latin-1. */
export const bytesOf = (header: string): Uint8Array => Buffer.from(header, 'latin1');
