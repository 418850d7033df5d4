/** The certificates of a connection to RabbitMQ, read from their files. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
import { messageOf, PusherError } from '../errors.ts';
import type { BrokerTls } from './connection.ts';

/** Options that name files, relative to the configuration's folder. */
interface TlsFiles {
  readonly ca_file?: string | undefined;
  readonly cert_file?: string | undefined;
  readonly key_file?: string | undefined;
}

/**
 * @param section the section of the options, for messages
 * @throws PusherError CONFIG_INVALID when one can't be read, or certificate and key don't belong together
 */
export function readBrokerTls({ ca_file, cert_file, key_file }: TlsFiles, folder: string, section: string): BrokerTls {
  const read = (option: string, file: string | undefined) => {
    try {
      return file === undefined ? undefined : readFileSync(path.resolve(folder, file));
    } catch (error) {
      throw new PusherError('CONFIG_INVALID', `${section}.${option}: can't read ${file}: ${messageOf(error)}`, error);
    }
  };
  const tls = { ca: read('ca_file', ca_file), cert: read('cert_file', cert_file), key: read('key_file', key_file) };
  try {
    createSecureContext(tls);
  } catch (error) {
    const problem = `ca_file, cert_file or key_file is not what it should be: ${messageOf(error)}`;
    throw new PusherError('CONFIG_INVALID', `${section}: ${problem}`, error);
  }
  return tls;
}
