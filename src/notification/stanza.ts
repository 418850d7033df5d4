/** The stanza as a plugin sees it: an ltx Element that is parsed when it is first looked at, for most plugins never do. */
import { createElement, Element, parse } from 'ltx';
import type { MessageEvent } from '../event.ts';

/** The event's stanza; a minimal one made from its fields where the server handed none over. */
export function lazyStanza(event: MessageEvent): Element {
  let element: Element | undefined;
  const parsed = (): Element => {
    element ??= event.stanza === undefined ? minimalStanza(event) : parse(event.stanza);
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

function minimalStanza({ from, to, type, stanza_id, body }: MessageEvent): Element {
  const attributes = { from, to, type, ...(stanza_id === undefined ? {} : { id: stanza_id }) };
  return createElement('message', attributes, createElement('body', {}, body));
}
