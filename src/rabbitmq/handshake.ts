/**
 * Finds out why a broker closed a connection before it was open. amqplib says no more than that: it writes at once, and
 * a broker that refuses TLS closes the socket with that unread, which discards its alert.
 */
import { connect } from 'node:tls';
import { ExplainedError } from './explain.ts';
import type { BrokerTls } from './tls.ts';

/** How long a broker may take to refuse a handshake, in milliseconds. */
const PATIENCE_MS = 2_000;

const NEEDS_TLS = new ExplainedError({
  kind: 'network',
  reason: 'it speaks TLS there',
  advice: "begin the url with amqps://, or correct the port (5672 is RabbitMQ's without TLS)",
});

/** Shakes hands and writes nothing; settles with the reason, undefined when that shows none. */
export function reasonOfCut({ protocol, hostname, port }: URL, tls: BrokerTls): Promise<Error | undefined> {
  const host = hostname.replace(/^\[|\]$/g, '');
  const isTls = protocol === 'amqps:';
  const address = { host, port: Number(port || (isTls ? 5671 : 5672)) };
  return new Promise((resolve) => {
    const socket = connect(isTls ? { ...address, ...tls } : { ...address, rejectUnauthorized: false });
    const settle = (reason?: Error) => {
      clearTimeout(late);
      socket.destroy();
      resolve(reason);
    };
    const late = setTimeout(settle, PATIENCE_MS);
    socket.on('secureConnect', () => !isTls && settle(NEEDS_TLS));
    // In TLS 1.3 the broker's answer to the client's certificate comes after the handshake.
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (isTls) settle(error);
      else settle(/ALERT/.test(String(error.code)) ? NEEDS_TLS : undefined);
    });
    socket.on('close', () => settle());
  });
}
