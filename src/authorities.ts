/** Reads files of certificate authorities: Node.js accepts any text as one, and then trusts nobody. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { messageOf, PusherError } from './errors.ts';

/**
 * Reads a PEM file of certificate authorities.
 * @param option the option that names the file, for messages
 * @throws PusherError CONFIG_INVALID when it can't be read, or has no certificate
 */
export function readAuthorities(file: string, option: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new PusherError('CONFIG_INVALID', `${option}: can't read ${file}: ${messageOf(error)}`, error);
  }
  try {
    new X509Certificate(text);
  } catch (error) {
    throw new PusherError('CONFIG_INVALID', `${option}: ${file} has no certificate in PEM: ${messageOf(error)}`, error);
  }
  return text;
}
