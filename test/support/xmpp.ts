/** Clients for the tests: @xmpp/client over TCP and WebSocket, our own small one over BOSH. */
import { client as createClient, type XmppJsClient, type XmppParser, xml } from '@xmpp/client';
import type { Element } from 'ltx';
import { openBosh } from './bosh.ts';
import { until } from './process.ts';
import { password, type Reachable } from './server.ts';

export { xml };

/** One session of one user. */
export interface Client {
  /** Full JID. */
  readonly jid: string;
  readonly bare: string;
  /** All received stanzas, in order. */
  readonly received: readonly Element[];
  send(stanza: Element): Promise<void>;
  /** Sends unavailable presence and closes the stream. */
  logout(): Promise<void>;
  /** Closes the stream without unavailable presence. */
  closeStream(): Promise<void>;
  /** Cuts the connection silently, like a phone that loses its network. */
  cut(): void;
}

export interface ConnectOptions {
  via?: 'tcp' | 'websocket' | 'bosh';
  /** Sends initial presence and waits until the server has handled it; default: true. */
  available?: boolean;
  /** Uses stream management with resumption (TCP and WebSocket); default: false. */
  smacks?: boolean;
}

/** A session that can be resumed after `cut`. */
export interface ResumableClient extends Client {
  /** True if the server resumed the session, false if it made a new one with the same address. */
  resume(): Promise<boolean>;
}

let lastId = 0;
const nextId = () => `t${++lastId}`;

export async function connect(
  server: Reachable,
  user: string,
  resource: string,
  options: ConnectOptions = {},
): Promise<ResumableClient> {
  const { via = 'tcp', available = true, smacks = false } = options;
  await server.register(user);
  const client =
    via === 'bosh'
      ? await openBosh(server, user, resource)
      : await openStream(server, via === 'tcp' ? `xmpp://127.0.0.1:${server.c2sPort}` : server.webSocketUrl, {
          user,
          resource,
          smacks,
        });
  if (available) await presence(client);
  return client;
}

async function openStream(
  server: Reachable,
  service: string,
  { user, resource, smacks }: { user: string; resource: string; smacks: boolean },
): Promise<ResumableClient> {
  const entity = createClient({
    service,
    domain: server.host,
    resource,
    username: user,
    // xmpp.js refuses PLAIN without TLS, and Prosody's test logins offer nothing else.
    credentials: (authenticate, mechanisms) => authenticate({ username: user, password }, mechanisms[0]!),
  });
  entity.timeout = 20_000;
  entity.reconnect.stop();
  // Without an encoding the library decodes each read separately and breaks characters split across two reads.
  entity.on('connect', () => {
    entity.socket?.setEncoding?.('utf8');
    entity.Parser = upToTags(entity.Parser);
  });
  const failure: { error?: Error } = {};
  entity.on('error', (error: Error) => {
    failure.error = error;
  });
  // xmpp.js enables stream management wherever offered; hide the offer from clients without it.
  if (!smacks) {
    entity.prependListener('element', (element: Element) => {
      if (element.is('features')) element.remove('sm', 'urn:xmpp:sm:3');
    });
  }
  const received: Element[] = [];
  entity.on('stanza', (stanza: Element) => received.push(stanza));
  await entity.start();
  const jid = entity.jid!.toString();
  // The session is bound, but a connection cut before `enabled` can't be resumed.
  if (smacks) await until('stream management', () => entity.streamManagement.enabled);
  const send = (stanza: Element) => entity.send(stanza);
  const closeStream = async () => {
    if (entity.status === 'online') await entity.stop();
  };
  return {
    jid,
    bare: bareOf(jid),
    received,
    send,
    closeStream,
    async logout() {
      await send(xml('presence', { type: 'unavailable' }));
      await closeStream();
    },
    cut: () => cutConnection(entity),
    async resume() {
      await until('the cut connection to be seen', () => entity.status === 'disconnect');
      const resumed = new Promise<boolean>((resolve) => {
        entity.streamManagement.once('resumed', () => resolve(true));
        entity.once('online', () => resolve(false));
      });
      await entity.reconnect.reconnect();
      return resumed;
    },
  };
}

/**
 * A parser that gets no text without the tag after it: the library's looks for that tag anew at each character, which
 * takes seconds when a read ends in a large text.
 */
function upToTags(Parser: XmppParser): XmppParser {
  return class extends Parser {
    #text = '';
    override write(data: string) {
      const end = data.lastIndexOf('>') + 1;
      const text = this.#text;
      this.#text = end === 0 ? text + data : data.slice(end);
      if (end > 0) super.write(text + data.slice(0, end));
    }
  };
}

function cutConnection(entity: XmppJsClient): void {
  if (entity.socket?.destroy) entity.socket.destroy();
  else entity.socket?.socket?.close();
}

export const bareOf = (jid: string) => jid.split('/')[0]!;

/** Waits until the server has handled everything that this client sent. */
export async function settle(client: Client): Promise<void> {
  const id = nextId();
  await client.send(
    xml('iq', { type: 'get', id, to: client.bare.split('@')[1] }, xml('ping', { xmlns: 'urn:xmpp:ping' })),
  );
  await until('the ping to come back', () => client.received.some((s) => s.is('iq') && s.attrs.id === id));
}

/** Broadcasts presence (default: available) and waits until the server has handled it. */
export async function presence(client: Client, type?: 'unavailable', ...children: Element[]): Promise<void> {
  await client.send(xml('presence', { type }, ...children));
  await settle(client);
}

export interface MessageOptions {
  to: string;
  type?: string;
  /** Omitted: no `<body/>`. */
  body?: string;
  id?: string;
  extra?: Element[];
}

/** Sends a message and waits until the server has handled it. */
export async function message(client: Client, options: MessageOptions): Promise<void> {
  await post(client, options);
  await settle(client);
}

/** Sends a message without waiting. */
export async function post(client: Client, { to, type = 'chat', body, id, extra = [] }: MessageOptions): Promise<void> {
  const children = body === undefined ? extra : [xml('body', {}, body), ...extra];
  await client.send(xml('message', { to, type, id }, ...children));
}

/** Joins a room, creating it if necessary, and waits for the server's confirmation. */
export async function join(client: Client, room: string, nick: string): Promise<void> {
  await client.send(xml('presence', { to: `${room}/${nick}` }, xml('x', { xmlns: 'http://jabber.org/protocol/muc' })));
  await until(`${client.jid} in ${room}`, () =>
    client.received.some((s) => s.is('presence') && s.attrs.from === `${room}/${nick}` && s.attrs.type === undefined),
  );
}
