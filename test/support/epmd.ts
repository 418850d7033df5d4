/**
 * Erlang's port mapper, for tests that stand between nodes: it may answer with other ports than the nodes listen on
 * (https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html).
 */
import net from 'node:net';
import { freePorts } from './process.ts';

const ALIVE2_REQ = 120;
const ALIVE2_RESP = 121;
const ALIVE2_X_RESP = 118;
const PORT_PLEASE2_REQ = 122;
const PORT2_RESP = 119;
const NAMES_REQ = 110;
/** Nodes of this version of the protocol and later expect ALIVE2_X_RESP. */
const LARGE_CREATION = 6;

export interface Epmd extends AsyncDisposable {
  readonly port: number;
}

/** @param portOf the port to give others for a node that listens on one; called once for each start of a node */
export async function startEpmd(portOf: (name: string, port: number) => Promise<number>): Promise<Epmd> {
  const [own] = (await freePorts(1)) as [number];
  /** The answers to others, by the nodes' names. */
  const nodes = new Map<string, { readonly port: number; readonly answer: Buffer }>();
  let creation = 1;

  const register = async (socket: net.Socket, request: Buffer) => {
    const highest = request.readUInt16BE(5);
    const name = request.toString('utf8', 11, 11 + request.readUInt16BE(9));
    const port = await portOf(name, request.readUInt16BE(1));
    const known = Buffer.from(request.subarray(1));
    known.writeUInt16BE(port);
    nodes.set(name, { port, answer: Buffer.concat([Buffer.from([PORT2_RESP, 0]), known]) });
    socket.on('close', () => nodes.delete(name));
    const answer = Buffer.alloc(highest >= LARGE_CREATION ? 6 : 4);
    answer[0] = highest >= LARGE_CREATION ? ALIVE2_X_RESP : ALIVE2_RESP;
    answer.writeUInt16BE(++creation, answer.length - 2);
    socket.write(answer);
  };

  const listener = net.createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', (data: Buffer) => {
      const request = data.subarray(2);
      const [tag] = request;
      if (tag === ALIVE2_REQ) void register(socket, request);
      else if (tag === PORT_PLEASE2_REQ)
        socket.end(nodes.get(request.toString('utf8', 1))?.answer ?? Buffer.from([PORT2_RESP, 1]));
      else if (tag === NAMES_REQ) {
        const head = Buffer.alloc(4);
        head.writeUInt32BE(own);
        const lines = [...nodes].map(([name, { port }]) => `name ${name} at port ${port}\n`);
        socket.end(Buffer.concat([head, Buffer.from(lines.join(''))]));
      } else socket.destroy();
    });
  });
  await new Promise<void>((resolve) => listener.listen(own, '127.0.0.1', resolve));
  return {
    port: own,
    async [Symbol.asyncDispose]() {
      await new Promise<void>((resolve) => {
        listener.close(() => resolve());
      });
    },
  };
}

/** The name with which a node begins a connection to another one; undefined for what is no node, such as erl_call. */
export function nodeNameOf(first: Buffer): string | undefined {
  const tag = String.fromCharCode(first[2] ?? 0);
  // Behind the length: the tag, then flags, and in the newer form the creation and the name's length.
  const name = tag === 'N' ? first.subarray(17) : tag === 'n' ? first.subarray(9) : Buffer.alloc(0);
  return name.length > 0 ? name.toString('utf8', 0, tag === 'N' ? first.readUInt16BE(15) : undefined) : undefined;
}
