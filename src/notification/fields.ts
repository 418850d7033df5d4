/**
 * The fields of an event: one table of names for built-in attributes, body fields and templates. The documents, the
 * JSON Schema and the configuration's error messages come from it too.
 */

import type { MessageEvent, XmppEvent } from '../event.ts';
import { parseEventId } from '../event-id.ts';
import { bareJid, kindOf } from './kind.ts';
import { stanzaLang, stanzaThread } from './stanza.ts';

export interface Field {
  /** Its data type as a message attribute; in a body a Number is a JSON number. */
  readonly type: 'String' | 'Number';
  /** Its description in Markdown. */
  readonly text: string;
  /** Empty if the event lacks it. */
  readonly of: (event: XmppEvent) => string;
}

const EMPTY = '';

const string = (text: string, of: Field['of']): Field => ({ type: 'String', text, of });
const number = (text: string, of: (event: XmppEvent) => number | undefined): Field => ({
  type: 'Number',
  text,
  of: (event) => String(of(event) ?? EMPTY),
});
const ofMessage =
  <T>(of: (message: MessageEvent) => T) =>
  (event: XmppEvent): T | undefined =>
    event.kind === 'message' ? of(event) : undefined;

const domainOf = (jid: string): string => {
  const bare = bareJid(jid);
  return bare.slice(bare.indexOf('@') + 1);
};
const localOf = (jid: string): string => {
  const bare = bareJid(jid);
  return bare.slice(0, Math.max(0, bare.indexOf('@')));
};
const resourceOf = (jid: string): string => {
  const slash = jid.indexOf('/');
  return slash < 0 ? EMPTY : jid.slice(slash + 1);
};

/** A whole address and its parts. */
function address<Name extends string>(name: Name, what: string, of: (event: XmppEvent) => string | undefined) {
  const part = (text: string, partOf: (jid: string) => string): Field =>
    string(text, (event) => {
      const jid = of(event);
      return jid === undefined ? EMPTY : partOf(jid);
    });
  return {
    [name]: part(`${what}, unchanged`, (jid) => jid),
    [`${name}.bare`]: part('… without resource, in lower case', bareJid),
    [`${name}.local`]: part('… the part before the `@`, in lower case', localOf),
    [`${name}.domain`]: part('… its domain, in lower case', domainOf),
    [`${name}.resource`]: part('… its resource; in a room the nickname', resourceOf),
  } as Record<Name | `${Name}.${'bare' | 'local' | 'domain' | 'resource'}`, Field>;
}

const length = (text: string): number => {
  let count = 0;
  for (const _ of text) count++;
  return count;
};

export const FIELDS = {
  type: string('`presence`, `pm` or `muc`', kindOf),
  host: string('the XMPP domain (virtual host)', (event) => event.host),
  ...address('user', 'the session of a presence, or the sender of a message', (event) =>
    event.kind === 'presence' ? event.jid : event.from,
  ),
  ...address(
    'from',
    'the sender of a message',
    ofMessage(({ from }) => from),
  ),
  ...address(
    'to',
    "a message's destination",
    ofMessage(({ to }) => to),
  ),
  room: string(
    'the room of a group message, without resource, in lower case',
    (event) => ofMessage(({ type, to }) => (type === 'groupchat' ? bareJid(to) : EMPTY))(event) ?? EMPTY,
  ),
  present: string('`true` or `false`, for presence', (event) =>
    event.kind === 'presence' ? String(event.present) : EMPTY,
  ),
  sessions: number(
    "the number of the user's available sessions after a presence, if the server can count them",
    (event) => (event.kind === 'presence' ? event.sessions : undefined),
  ),
  event_id: string(
    'the id of the event, the same in every repetition: `<source>/<epoch>/<number>`, or a UUID from a source that does not number its events',
    (event) => event.id,
  ),
  source: string('the XMPP server node', (event) => parseEventId(event.id)?.source ?? EMPTY),
  epoch: string('one run of the adapter on that node', (event) => parseEventId(event.id)?.epoch ?? EMPTY),
  seq: number("the event's number in that run: 1, 2, 3 …", (event) => parseEventId(event.id)?.seq),
  timestamp: number('the time of the event on the server, in milliseconds since 1970', (event) => event.at),
  time: string('the same time as `2025-11-22T14:03:11.340Z` (RFC 3339)', (event) => new Date(event.at).toISOString()),
  stanza_id: string(
    "the `id` of a message's stanza, if its client set one",
    (event) => ofMessage(({ stanza_id }) => stanza_id)(event) ?? EMPTY,
  ),
  thread: string("the text of a message's `<thread/>`", (event) => ofMessage(stanzaThread)(event) ?? EMPTY),
  lang: string("a message's `xml:lang`", (event) => ofMessage(stanzaLang)(event) ?? EMPTY),
  'body.length': number(
    'the number of characters (Unicode code points) of a message',
    ofMessage(({ body }) => length(body)),
  ),
  traceparent: string('the W3C trace context of the event', (event) => event.traceparent ?? EMPTY),
} satisfies Record<string, Field>;
