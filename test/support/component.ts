/** An external component (XEP-0114), to which a server can grant privileges. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import { until } from './process.ts';

export interface Component extends AsyncDisposable {
  send(stanza: string): void;
  /** Everything it received. */
  received(): string;
}

export async function connectComponent(port: number, name: string, secret: string): Promise<Component> {
  const socket = net.connect(port, '127.0.0.1');
  await once(socket, 'connect');
  let received = '';
  socket.on('data', (data) => {
    received += data;
  });
  const open = `<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='${name}'>`;
  socket.write(open);
  await until('the stream', () => /<stream:stream [^>]*>/.test(received));
  const id = /\bid=['"]([^'"]*)['"]/.exec(received)?.[1] ?? '';
  socket.write(`<handshake>${createHash('sha1').update(`${id}${secret}`).digest('hex')}</handshake>`);
  await until('the handshake', () => /<handshake/.test(received));
  return {
    send: (stanza) => void socket.write(stanza),
    received: () => received,
    async [Symbol.asyncDispose]() {
      socket.destroy();
    },
  };
}
