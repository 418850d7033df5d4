/** Secrets in requests. */
import { hash, timingSafeEqual } from 'node:crypto';

/**
 * Compares a text with the secret in constant time, so that neither differences nor lengths are revealed.
 * @param sent a text, or the bytes of a header: see {@link bytesOf}
 */
export function isSameSecret(sent: string | Uint8Array, secret: string): boolean {
  const digest = (value: string | Uint8Array) => hash('sha256', value, 'buffer');
  return timingSafeEqual(digest(sent), digest(secret));
}

/** The bytes of a header: clients send a secret as UTF-8, which Node.js decodes as Latin-1. */
export const bytesOf = (header: string): Uint8Array => Buffer.from(header, 'latin1');
