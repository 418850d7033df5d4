/**
 * TCP ports that lead to others until they are shut. Nothing passes then and neither side hears of it, as behind a
 * firewall that drops packets; connections that were held are reset when the gate opens again.
 */
import net from 'node:net';
import { freePorts } from './process.ts';

export interface Gate extends AsyncDisposable {
  readonly port: number;
  /** Asks again whose connections are held. */
  update(): void;
}

interface Passage {
  readonly client: net.Socket;
  readonly server: net.Socket;
  /** Who the client is, as its first bytes say. */
  readonly name: string | undefined;
  held: boolean;
}

/**
 * @param isShut whether nothing passes of a client
 * @param nameOf reads a client's name from its first bytes
 */
export async function openGate(
  target: number,
  isShut: (client: string | undefined) => boolean,
  nameOf: (first: Buffer) => string | undefined = () => undefined,
): Promise<Gate> {
  const [port] = (await freePorts(1)) as [number];
  const passages = new Set<Passage>();
  const hold = (passage: Passage) => {
    passage.held = true;
    passage.client.pause();
    passage.server.pause();
  };
  const end = ({ client, server }: Passage) => {
    client.destroy();
    server.destroy();
  };
  const listener = net.createServer((client) => {
    client.on('error', () => client.destroy());
    client.once('data', (first: Buffer) => {
      const server = net.connect(target, '127.0.0.1');
      const passage: Passage = { client, server, name: nameOf(first), held: false };
      passages.add(passage);
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        from.on('data', (chunk) => to.write(chunk));
        from.on('error', () => from.destroy());
        from.on('close', () => {
          to.destroy();
          passages.delete(passage);
        });
      }
      if (isShut(passage.name)) hold(passage);
      else server.write(first);
    });
  });
  await new Promise<void>((resolve) => listener.listen(port, '127.0.0.1', resolve));
  return {
    port,
    update() {
      for (const passage of passages)
        if (isShut(passage.name)) hold(passage);
        else if (passage.held) end(passage);
    },
    async [Symbol.asyncDispose]() {
      for (const passage of passages) end(passage);
      await new Promise<void>((resolve) => listener.close(() => resolve()));
    },
  };
}
