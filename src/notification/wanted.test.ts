import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Named, wantedOf } from './wanted.ts';

const MESSAGE: Named = {
  eventId: 'prosody/example.org@chat1/9f2c/4583',
  names: ['Alice@Example.org/Phone', 'bob@bücher.example', 'M-"17"'],
  messageId: '94f20ce6-13c5-43a0-9a9e-ca52d816e90b',
};
const GROUP: Named = { eventId: 's/x/2', names: ['carol@localhost/desk', 'Room@conference.localhost/Nick', 'm2'] };

describe('what somebody looks for', () => {
  for (const [what, asked, named, expected] of [
    ['a user by the bare JID', 'alice@example.org', MESSAGE, true],
    ['a user in another case', 'ALICE@EXAMPLE.ORG', MESSAGE, true],
    ['a user with spaces around', '  alice@example.org\n', MESSAGE, true],
    ['a session by the full JID', 'alice@example.org/Phone', MESSAGE, true],
    ['no other session of the user', 'alice@example.org/phone', MESSAGE, false],
    ['a recipient', 'bob@bücher.example', MESSAGE, true],
    ['a domain in its ASCII form', 'bob@xn--bcher-kva.example', MESSAGE, true],
    ['a domain in decomposed Unicode', 'bob@bu\u0308cher.example', MESSAGE, true],
    ['a room', 'room@conference.localhost', GROUP, true],
    ['somebody in a room', 'room@conference.localhost/Nick', GROUP, true],
    ['a stanza id with odd characters', 'M-"17"', MESSAGE, true],
    ['an event id with slashes', 'prosody/example.org@chat1/9f2c/4583', MESSAGE, true],
    ['no event id that begins alike', 'prosody/example.org@chat1/9f2c/458', MESSAGE, false],
    ["the sink's id", '94F20CE6-13C5-43A0-9A9E-CA52D816E90B', MESSAGE, true],
    ['no part of a user', 'lice@example.org', MESSAGE, false],
    ['nothing for an empty text', ' ', { eventId: '', names: [''] }, false],
  ] as const)
    it(`a search finds ${what}`, () => {
      const wanted = wantedOf(asked);
      assert.equal(wanted.matches(named), expected);
      if (expected) assert.ok(wanted.mayBeIn(JSON.stringify(named).toLowerCase()));
    });

  it('finds a JID with another form of its domain, in either direction', () => {
    const recorded = { eventId: 'e', names: ['bob@xn--bcher-kva.example/x'] };
    for (const asked of ['bob@bücher.example', 'bob@xn--bcher-kva.example', 'Bob@BÜCHER.example/x']) {
      assert.ok(wantedOf(asked).matches(recorded), asked);
      assert.ok(wantedOf(asked).mayBeIn(JSON.stringify(recorded).toLowerCase()), asked);
    }
  });

  it('the quick search never misses an id, whatever its characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.string({ unit: 'grapheme' }), (id, other) => {
        const named = { eventId: other, names: ['a@b', id] };
        const wanted = wantedOf(id);
        if (wanted.matches(named)) assert.ok(wanted.mayBeIn(JSON.stringify(named).toLowerCase()));
      }),
      { numRuns: 300 },
    );
  });
});
