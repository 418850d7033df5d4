/**
 * The load of `npm run bench:adapters`, a process of its own: in each pair of users, one writes to the other as fast as
 * the other receives. Gets {@link Order} as its argument, sends `ready` to its parent after warming up, runs against
 * the server that the parent names, and answers with {@link LoadTimes}.
 *
 * One process writes to all servers under comparison: compiled code differs in speed by a tenth from process to
 * process, which would look like a difference between the servers.
 */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { password, type XmppServer } from '../test/support/server.ts';
import { connect, post } from '../test/support/xmpp.ts';
import { clock } from './measure.ts';

/**
 * `clients`: xmpp.js, one stanza at a time, as real programs do, with TLS if the server has it. `sockets`: bare sockets
 * that write many stanzas at once and only count what arrives, so that the server is the bottleneck.
 */
export type Kind = 'clients' | 'sockets';

type Server = Pick<XmppServer, 'host' | 'c2sPort'>;

export interface Order {
  readonly kind: Kind;
  readonly servers: readonly Server[];
  /** Sender and receiver. */
  readonly pairs: readonly (readonly [string, string])[];
  /** Messages of each pair in each run, including the warm-up. */
  readonly messages: number;
}

export interface LoadTimes {
  /** Milliseconds since 1970: when the first message was sent, and when the last one had come. */
  readonly begin: number;
  readonly end: number;
}

interface Pair {
  send(first: number, count: number): Promise<void>;
  received(): number;
}

/** Limit for messages of a pair in transit. */
const WINDOW = 100;
const BODY = 'the quick brown fox jumps over the lazy dog';

/** Sends messages and waits until they have arrived. */
async function write(pair: Pair, count: number): Promise<void> {
  const before = pair.received();
  let sent = 0;
  for (;;) {
    const come = pair.received() - before;
    if (come >= count) return;
    const more = Math.min(WINDOW - (sent - come), count - sent);
    // Send in larger portions.
    if (more >= WINDOW / 4 || (more > 0 && sent + more === count)) {
      await pair.send(sent, more);
      sent += more;
    } else {
      await sleep(1);
    }
  }
}

async function clientPair(server: Server, [from, to]: readonly [string, string]): Promise<Pair> {
  // The users are registered already.
  const known = { ...server, register: async () => {} } as unknown as XmppServer;
  const [sender, receiver] = [await connect(known, from, 'bench'), await connect(known, to, 'bench')];
  let seen = 0;
  let messages = 0;
  return {
    async send(first, count) {
      for (let n = first; n < first + count; n++) {
        await post(sender, { to: receiver.bare, id: `m${n}`, body: `${n} ${BODY}` });
      }
    },
    received() {
      for (; seen < receiver.received.length; seen++) if (receiver.received[seen]?.is('message')) messages += 1;
      return messages;
    },
  };
}

async function socketPair(server: Server, [from, to]: readonly [string, string]): Promise<Pair> {
  const [sender, receiver] = [await logIn(server, from), await logIn(server, to)];
  const end = Buffer.from('</message>');
  let rest: Buffer = Buffer.alloc(0);
  let messages = 0;
  sender.resume();
  receiver.on('data', (data: Buffer) => {
    const text = rest.length > 0 ? Buffer.concat([rest, data]) : data;
    let next = 0;
    for (let at = text.indexOf(end); at >= 0; at = text.indexOf(end, next)) {
      messages += 1;
      next = at + end.length;
    }
    rest = text.subarray(Math.max(next, text.length - end.length + 1));
  });
  const open = `<message to='${to}@${server.host}' type='chat' id='m`;
  return {
    async send(first, count) {
      let stanzas = '';
      for (let n = first; n < first + count; n++) stanzas += `${open}${n}'><body>${n} ${BODY}</body></message>`;
      sender.write(stanzas);
    },
    received: () => messages,
  };
}

async function logIn({ host, c2sPort }: Server, user: string): Promise<net.Socket> {
  const socket = net.connect(c2sPort, '127.0.0.1');
  await once(socket, 'connect');
  const say = async (text: string, answer: RegExp) => {
    let heard = '';
    socket.write(text);
    while (!answer.test(heard)) heard += String((await once(socket, 'data'))[0]);
  };
  const stream = `<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='${host}' version='1.0'>`;
  const plain = Buffer.from(`\0${user}\0${password}`).toString('base64');
  await say(stream, /<\/stream:features>/);
  await say(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${plain}</auth>`, /<success/);
  await say(stream, /<\/stream:features>/);
  await say(
    "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>bench</resource></bind></iq>",
    /<\/iq>/,
  );
  await say("<presence/><iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>", /<iq [^>]*id=['"]p['"]/);
  return socket;
}

const order = JSON.parse(process.argv[2] ?? '') as Order;
process.on('disconnect', () => process.exit());
const pairsOf: Pair[][] = [];
for (const server of order.servers) {
  const pairs: Pair[] = [];
  for (const pair of order.pairs) {
    pairs.push(await (order.kind === 'clients' ? clientPair : socketPair)(server, pair));
  }
  pairsOf.push(pairs);
}
const writeAll = (pairs: readonly Pair[]) => Promise.all(pairs.map((pair) => write(pair, order.messages)));
for (const pairs of pairsOf) await writeAll(pairs);
// Stays until it is killed, so that no end of a session is measured.
process.on('message', async (server: number) => {
  const begin = clock();
  await writeAll(pairsOf[server] as Pair[]);
  process.send?.({ begin, end: clock() } satisfies LoadTimes);
});
process.send?.('ready');
