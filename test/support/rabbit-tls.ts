/** Listeners of RabbitMQ for TLS, opened while it runs, each with a certificate of its own. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { freePorts } from './process.ts';
import type { RabbitNode } from './rabbitmq.ts';

export interface TlsListener {
  /** A folder for its files. */
  readonly folder: string;
  readonly certificate: { readonly cert: Buffer; readonly key: Buffer };
  /** Asks for client certificates of this authority, by `verify_peer` and `fail_if_no_peer_cert`. */
  readonly clientsOf?: string;
}

/** Opens it; settles with its port. */
export async function listenTls(
  node: RabbitNode,
  { folder, certificate: { cert, key }, clientsOf }: TlsListener,
): Promise<number> {
  const [port] = (await freePorts(1)) as [number];
  const [certFile, keyFile] = [path.join(folder, `${port}.pem`), path.join(folder, `${port}.key`)];
  await Promise.all([writeFile(certFile, cert), writeFile(keyFile, key)]);
  const files = `{certfile, "${certFile}"}, {keyfile, "${keyFile}"}`;
  const clients = `{cacertfile, "${clientsOf}"}, {verify, verify_peer}, {fail_if_no_peer_cert, true}`;
  const options = clientsOf === undefined ? `[${files}]` : `[${files}, ${clients}]`;
  const listen = `ok = rabbit_networking:start_ssl_listener({"127.0.0.1", ${port}}, ${options}, 1)`;
  // A login with a certificate asks whether the options of the whole node verify it.
  const configure = clientsOf === undefined ? '' : `, application:set_env(rabbit, ssl_options, ${options})`;
  await node.evaluate(`{ok, _} = application:ensure_all_started(ssl), ${listen}${configure}.`);
  return port;
}
