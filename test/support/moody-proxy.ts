/** A proxy before the tap that answers 503 at random, like a daemon whose outbox is full. */
import { createServer, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface MoodyProxy extends AsyncDisposable {
  readonly url: string;
  /** How often it answered 503 itself. */
  readonly refusals: number;
  /** The full JID of each forwarded presence event, by event id. */
  readonly jids: ReadonlyMap<string, string>;
  /** Share of requests to refuse, 0 to 1. */
  mood: number;
}

interface Batch {
  readonly source: string;
  readonly epoch: string;
  readonly first_seq: number;
  readonly events: readonly { readonly jid?: string }[];
}

export async function startMoodyProxy(tapUrl: string, mood: number): Promise<MoodyProxy> {
  let refusals = 0;
  const jids = new Map<string, string>();
  const remember = ({ source, epoch, first_seq, events }: Batch) => {
    for (const [index, { jid }] of events.entries()) if (jid) jids.set(`${source}/${epoch}/${first_seq + index}`, jid);
  };
  const proxy = { mood };
  const refuse = (response: ServerResponse, retryAfter: string) => {
    response.writeHead(503, { 'content-type': 'application/json', 'retry-after': retryAfter });
    response.end('{"error":{"code":"moody","message":"not now"}}');
  };
  const server = createServer((incoming, response) => {
    if (Math.random() < proxy.mood) {
      refusals += 1;
      incoming.resume();
      refuse(response, '1');
      return;
    }
    const { headers } = incoming;
    const outgoing = request(tapUrl, { method: 'POST', headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
      answer.once('error', () => response.destroy());
    });
    // The daemon is away: closes the connection, as without this proxy.
    outgoing.once('error', () => response.destroy());
    const pieces: Buffer[] = [];
    incoming.on('data', (piece: Buffer) => pieces.push(piece));
    incoming.once('end', () => remember(JSON.parse(Buffer.concat(pieces).toString())));
    incoming.pipe(outgoing);
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return Object.defineProperties(proxy, {
    url: { value: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/events` },
    refusals: { get: () => refusals },
    jids: { value: jids },
    [Symbol.asyncDispose]: {
      value: async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    },
  }) as MoodyProxy;
}
