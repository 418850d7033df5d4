/** The stanza for a plugin: an ltx Element, parsed on first use because most plugins never read it. */
import { createElement, Element, parse, unescapeXML } from 'ltx';
import type { MessageEvent } from '../event.ts';
import { forbiddenCharacter } from '../xml.ts';

/** The event's stanza; built from the event's fields if the server sent none. */
export function lazyStanza(event: MessageEvent): Element {
  let element: Element | undefined;
  const parsed = (): Element => {
    element ??= event.stanza === undefined ? minimalStanza(event) : parseStanza(event.stanza);
    return element;
  };
  return new Proxy(Object.create(Element.prototype) as Element, {
    get: (_, key) => Reflect.get(parsed(), key),
    set: (_, key, value) => Reflect.set(parsed(), key, value),
    has: (_, key) => Reflect.has(parsed(), key),
    deleteProperty: (_, key) => Reflect.deleteProperty(parsed(), key),
    ownKeys: () => Reflect.ownKeys(parsed()),
    getOwnPropertyDescriptor: (_, key) => Reflect.getOwnPropertyDescriptor(parsed(), key),
  });
}

/** The namespace of a stanza that declares none, as servers send it. */
const CLIENT = 'jabber:client';

/**
 * Parses a stanza. A search for a child by name alone prefers the stanza's own namespace: `<body xmlns='urn:other'/>`
 * is not the message's body.
 */
function parseStanza(xml: string): Element {
  const stanza = parse(xml);
  const isOwn = (child: Element) => (child.getNS() || CLIENT) === (stanza.getNS() || CLIENT);
  const getChild = (name: string, xmlns?: string) => {
    const children = stanza.getChildren(name, xmlns);
    return (xmlns ? undefined : children.find(isOwn)) ?? children[0];
  };
  return Object.defineProperty(stanza, 'getChild', { value: getChild, configurable: true, writable: true });
}

function minimalStanza({ from, to, type, stanza_id, body }: MessageEvent): Element {
  const attributes = { from, to, type, ...(stanza_id === undefined ? {} : { id: stanza_id }) };
  return createElement('message', attributes, createElement('body', {}, body));
}

/** The stanza's `xml:lang`, if any. Reads the opening tag only. */
export function stanzaLang({ stanza }: MessageEvent): string | undefined {
  if (!stanza?.includes('xml:lang')) return undefined;
  const [, attributes = ''] = /^<[^\s/>]+((?:\s+[^\s=/>]+\s*=\s*(?:"[^"]*"|'[^']*'))*)/.exec(stanza) ?? [];
  for (const [, name, double, single] of attributes.matchAll(/\s([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g))
    if (name === 'xml:lang') return legible(() => unescapeXML(double ?? single ?? ''));
  return undefined;
}

/** The text of the message's `<thread/>`, if any. */
export function stanzaThread({ stanza }: MessageEvent): string | undefined {
  return stanza?.includes('<thread') ? legible(() => parseStanza(stanza).getChildText('thread') ?? '') : undefined;
}

/**
 * The text if SNS accepts it, otherwise undefined: a character reference can denote characters that XML forbids, and
 * ltx throws.
 */
function legible(read: () => string): string | undefined {
  try {
    const text = read();
    return forbiddenCharacter(text) ? undefined : text;
  } catch {
    return undefined;
  }
}
