/** Events as servers report them, for testing a plugin: each kind, and cases that plugins tend to forget. */
import type { XmppEvent } from '../event.ts';

const common = { at: 1_763_820_191_340, host: 'example.org' };
const id = (seq: number) => `prosody/example.org@chat1/9f2c41d07a/${seq}`;
const stanza = (type: string, to: string, body: string) =>
  `<message xmlns="jabber:client" type="${type}" from="alice@example.org/phone" to="${to}" id="m1"><body>${body}</body></message>`;

const message = (seq: number, type: 'chat' | 'groupchat', to: string, body: string): XmppEvent => ({
  ...common,
  id: id(seq),
  kind: 'message',
  type,
  from: 'alice@example.org/phone',
  to,
  body,
  stanza_id: 'm1',
  stanza: stanza(type, to, body),
});

export const SAMPLE_EVENTS: readonly XmppEvent[] = [
  { ...common, id: id(1), kind: 'presence', jid: 'alice@example.org/phone', present: true, sessions: 1 },
  message(2, 'chat', 'bob@example.org', 'Hello, Bob 👋'),
  message(3, 'chat', 'bob@example.net/laptop', ''),
  message(4, 'chat', 'tea@conference.example.org/Bob', 'Just for you'),
  message(5, 'groupchat', 'tea@conference.example.org', 'Hi, all'),
  {
    ...common,
    id: id(6),
    kind: 'message',
    type: 'chat',
    from: 'alice@example.org',
    to: 'example.org',
    body: 'sent through the server’s API, to a domain, without a stanza',
  },
  { ...common, id: id(7), kind: 'presence', jid: 'alice@example.org/phone', present: false, sessions: 0 },
];
