/** The certificates of a connection to RabbitMQ, read from their files. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
import { readAuthorities } from '../authorities.ts';
import { messageOf, PusherError } from '../errors.ts';

/** What TLS needs beside the address; each as PEM. */
export interface BrokerTls {
  /** Certificate authorities to trust instead of the public ones. */
  readonly ca?: string | Buffer | undefined;
  /** A client certificate and its key. Without a user in the url, the client also logs in with it (EXTERNAL). */
  readonly cert?: Buffer | undefined;
  readonly key?: Buffer | undefined;
}

/** The same for each connection, or asked for each: then renewed files count. */
export type TlsSource = BrokerTls | (() => BrokerTls);

/** Options that name files, relative to the configuration's folder. */
interface TlsFiles {
  readonly ca_file?: string | undefined;
  readonly cert_file?: string | undefined;
  readonly key_file?: string | undefined;
}

/**
 * The certificates that an option's section names; they are read again for each connection, so that renewed ones count.
 * @param section the section of the options, for messages
 * @throws PusherError CONFIG_INVALID, now and later, when one can't be read, or certificate and key don't belong together
 */
export function brokerTls(files: TlsFiles, folder: string, section: string): () => BrokerTls {
  const read = () => readBrokerTls(files, folder, section);
  read();
  return read;
}

function readBrokerTls({ ca_file, cert_file, key_file }: TlsFiles, folder: string, section: string): BrokerTls {
  const read = (option: string, file: string | undefined) => {
    if (file === undefined) return undefined;
    try {
      return readFileSync(path.resolve(folder, file));
    } catch (error) {
      throw new PusherError('CONFIG_INVALID', `${section}.${option}: can't read ${file}: ${messageOf(error)}`, error);
    }
  };
  const ca = ca_file === undefined ? undefined : readAuthorities(path.resolve(folder, ca_file), `${section}.ca_file`);
  const tls = { ca, cert: read('cert_file', cert_file), key: read('key_file', key_file) };
  try {
    createSecureContext(tls);
  } catch (error) {
    throw new PusherError('CONFIG_INVALID', `${section}: ${pairProblem(error)}: ${messageOf(error)}`, error);
  }
  return tls;
}

function pairProblem(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH') return 'key_file is not the key of cert_file';
  if (code === 'ERR_OSSL_BAD_DECRYPT')
    return 'key_file has a passphrase: it has to be without (openssl pkey -in … -out …)';
  return 'cert_file has to be a certificate in PEM, and key_file its private key in PEM';
}
