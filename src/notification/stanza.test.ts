import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Element } from 'ltx';
import type { MessageEvent } from '../event.ts';
import { lazyStanza } from './stanza.ts';

const event: MessageEvent = {
  kind: 'message',
  id: 's/x/1',
  at: 1,
  host: 'localhost',
  type: 'chat',
  from: 'alice@localhost/phone',
  to: 'bob@localhost',
  body: '<b>&amp;</b> 👩‍👩‍👧‍👦',
  stanza_id: 'm1',
};
const STANZA =
  '<message xmlns="jabber:client" type="chat" id="m1" to="bob@localhost"><body>Hello</body><request xmlns="urn:xmpp:receipts"/></message>';

describe('the stanza a plugin sees', () => {
  it('a stanza is an element with its attributes, children, text and XML', () => {
    const stanza = lazyStanza({ ...event, stanza: STANZA });
    assert.ok(stanza instanceof Element);
    assert.equal(stanza.name, 'message');
    assert.equal(stanza.attrs.id, 'm1');
    assert.equal(stanza.getChildText('body'), 'Hello');
    assert.ok(stanza.getChild('request', 'urn:xmpp:receipts'));
    assert.equal(stanza.getChild('request')?.parent?.name, 'message');
    assert.equal(stanza.children.length, 2);
    assert.equal(stanza.toString(), STANZA);
    assert.equal(`${stanza.root()}`, STANZA);
    assert.ok('attrs' in stanza);
    assert.ok(Object.keys(stanza).includes('children'));
    assert.deepEqual({ ...stanza }.attrs, stanza.attrs);
  });

  for (const [what, children, text] of [
    ['after one of another namespace', "<body xmlns='urn:foo'>foreign</body><body>own</body>", 'own'],
    ['around other elements', "<body>See <a href='x'>this link</a> now</body>", 'See  now'],
    ['before another one', "<body>first</body><body xml:lang='de'>zweiter</body>", 'first'],
    ['after one inside another element', "<x xmlns='urn:x'><body>inside</body></x><body>own</body>", 'own'],
    ['with its namespace written out', "<body xmlns='jabber:client'>own</body>", 'own'],
  ] as const)
    for (const xmlns of ['', " xmlns='jabber:client'"])
      it(`reads the stanza's own body ${what}${xmlns && ', in a stanza with its namespace written out'}`, () => {
        const stanza = lazyStanza({ ...event, stanza: `<message${xmlns}>${children}</message>` });
        assert.equal(stanza.getChildText('body'), text);
      });

  it('finds children of other namespaces by name too', () => {
    const stanza = lazyStanza({ ...event, stanza: "<message><x xmlns='urn:one'/><x xmlns='urn:two'/></message>" });
    assert.equal(stanza.getChild('x')?.attrs.xmlns, 'urn:one');
    assert.equal(stanza.getChild('x', 'urn:two')?.attrs.xmlns, 'urn:two');
    assert.equal(stanza.getChild('y'), undefined);
  });

  it('allows changes to the stanza like to any element', () => {
    const stanza = lazyStanza({ ...event, stanza: STANZA });
    stanza.attr('id', 'm2');
    stanza.c('mark').up();
    stanza.name = 'copy';
    assert.equal(stanza.attrs.id, 'm2');
    assert.equal(stanza.getChild('mark')?.name, 'mark');
    assert.equal(stanza.name, 'copy');
    Reflect.deleteProperty(stanza, 'name');
    assert.equal(stanza.name, undefined);
  });

  it('builds a stanza from the event if the server sent none', () => {
    const stanza = lazyStanza(event);
    assert.deepEqual(stanza.attrs, { from: event.from, to: event.to, type: 'chat', id: 'm1' });
    assert.equal(stanza.getChildText('body'), event.body);
    assert.equal(lazyStanza({ ...event, stanza_id: undefined }).attrs.id, undefined);
    assert.equal(lazyStanza({ ...event, body: '' }).getChildText('body'), '');
  });

  for (const malformed of ['<message>', 'no XML at all', '', '<a></b>'])
    it(`does not parse a stanza before it is read: ${JSON.stringify(malformed)}`, () => {
      const stanza = lazyStanza({ ...event, stanza: malformed });
      assert.ok(stanza instanceof Element);
      assert.throws(() => stanza.name);
    });

  it('parses a stanza once', () => {
    const stanza = lazyStanza({ ...event, stanza: STANZA });
    assert.equal(stanza.children, stanza.children);
  });
});
