import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ABSENT, changed, show } from '../test/support/varied.ts';
import { eventSchema, isMalformed, parseEvent, problemOf } from './event.ts';

const PRESENCE = {
  kind: 'presence',
  at: 1_763_820_191_120,
  host: 'localhost',
  jid: 'alice@localhost/phone',
  present: true,
  sessions: 1,
};

const MESSAGE = {
  kind: 'message',
  at: 1_763_820_191_340,
  host: 'localhost',
  type: 'chat',
  from: 'alice@localhost/phone',
  to: 'bob@localhost',
  body: 'Hello, Bob',
  stanza_id: 'm1',
  stanza: '<message/>',
};

const problem = (input: unknown): string | undefined => {
  const result = parseEvent(input);
  if (!isMalformed(result)) return undefined;
  assert.equal(result.raw, input, 'kept as it came');
  return result.problem;
};

describe('an event of the tap protocol', () => {
  it('accepts an event with all its fields, and with the required ones only', () => {
    assert.deepEqual(parseEvent(PRESENCE), PRESENCE);
    assert.deepEqual(parseEvent(MESSAGE), MESSAGE);
    const { sessions: _, ...presence } = PRESENCE;
    assert.deepEqual(parseEvent(presence), presence);
    const { stanza: __, stanza_id: ___, ...message } = MESSAGE;
    assert.deepEqual(parseEvent(message), message);
  });

  it('drops unknown fields of an event', () => {
    assert.deepEqual(parseEvent({ ...PRESENCE, priority: 5, id: 'theirs' }), PRESENCE);
  });

  for (const jid of [
    'alice@localhost/phone',
    'alice@localhost',
    'localhost',
    'localhost/resource',
    'tea@conference.localhost/Al the Great @ home/work',
    'ÄÖÜ@straße.example/👩‍👩‍👧‍👦',
    'a@127.0.0.1',
    'a@[::1]/x',
    `${'a'.repeat(1_023)}@${'b'.repeat(1_023)}/${'c'.repeat(1_023)}`,
  ])
    it(`accepts the sender ${jid.slice(0, 40)}`, () => {
      assert.equal(problem({ ...PRESENCE, jid }), undefined);
      assert.equal(problem({ ...MESSAGE, from: jid, to: jid }), undefined);
    });

  for (const jid of [
    '',
    '@localhost',
    'alice@',
    'alice@localhost/',
    '/phone',
    'a@b@c',
    'a b@localhost',
    'alice@local host',
    'alice\u0000@localhost',
    'alice@localhost/\u0000',
    'alice@localhost/\ud800',
    'alice\ud800@localhost',
    'alice@\udfff',
    'alice\ufffe@localhost',
    'alice@local\uffffhost',
    'alice@localhost/\uffff',
    5,
    null,
    ABSENT,
    ['alice@localhost'],
  ])
    it(`refuses the sender ${show(jid)}`, () => {
      assert.equal(problem(changed(PRESENCE, 'jid', jid)), 'jid: should be a JID');
      assert.equal(problem(changed(MESSAGE, 'from', jid)), 'from: should be a JID');
      assert.equal(problem(changed(MESSAGE, 'to', jid)), 'to: should be a JID');
    });

  it('refuses a JID longer than three parts of 1,023 octets', () => {
    const jid = `${'a'.repeat(2_000)}@${'b'.repeat(1_072)}`;
    assert.equal(problem({ ...PRESENCE, jid }), 'jid: should be a JID of at most 3,071 characters');
  });

  const WHOLE = 'should be a whole number of milliseconds since 1970';
  for (const [field, value, expected] of [
    ['at', -1, 'should not be negative'],
    ['at', 1.5, WHOLE],
    ['at', '1763820191120', WHOLE],
    ['at', 2 ** 60, WHOLE],
    ['at', null, WHOLE],
    ['at', ABSENT, WHOLE],
    ['host', '', 'should be an XMPP domain, not empty'],
    ['host', 5, 'should be an XMPP domain'],
    ['host', ABSENT, 'should be an XMPP domain'],
    ['host', 'x'.repeat(257), 'should be an XMPP domain of at most 256 characters'],
    ['host', 'a\u0000', 'holds U+0000, which XML does not allow'],
    ['host', 'a\nb', 'should be an XMPP domain without control characters'],
    ['present', 'true', 'should be true or false'],
    ['present', 1, 'should be true or false'],
    ['present', ABSENT, 'should be true or false'],
    ['sessions', -1, 'should not be negative'],
    ['sessions', 0.5, 'should be a whole number'],
    ['sessions', '1', 'should be a whole number'],
    ['sessions', null, 'should be a whole number'],
  ] as const)
    it(`refuses presence with ${field} ${show(value)}: ${expected}`, () => {
      assert.equal(problem(changed(PRESENCE, field, value)), `${field}: ${expected}`);
    });

  for (const [field, value, expected] of [
    ['type', 'normal', 'should be "chat" or "groupchat"'],
    ['type', ABSENT, 'should be "chat" or "groupchat"'],
    ['body', ABSENT, 'should be a text, possibly empty'],
    ['body', null, 'should be a text, possibly empty'],
    ['body', 5, 'should be a text, possibly empty'],
    ['body', 'a\u0000b', 'holds U+0000, which XML does not allow'],
    ['body', 'a\ud800b', 'holds U+D800, which XML does not allow'],
    ['body', '\uffff', 'holds U+FFFF, which XML does not allow'],
    ['stanza_id', 5, 'should be a text'],
    ['stanza_id', '\u0001', 'holds U+0001, which XML does not allow'],
    ['stanza', 5, 'should be a text'],
    ['stanza', null, 'should be a text'],
    ['at', -1, 'should not be negative'],
    ['host', '', 'should be an XMPP domain, not empty'],
  ] as const)
    it(`refuses a message with ${field} ${show(value)}: ${expected}`, () => {
      assert.equal(problem(changed(MESSAGE, field, value)), `${field}: ${expected}`);
    });

  for (const body of ['', ' ', '\t\r\n', '\u0085\u007f\u2028', '👩‍👩‍👧‍👦', '\u{10ffff}', 'x'.repeat(300_000)])
    it(`accepts the body ${show(body)}`, () => assert.equal(problem({ ...MESSAGE, body }), undefined));

  it("accepts a stanza id of any length, so that it can't be used to hide a message", () => {
    assert.equal(problem({ ...MESSAGE, stanza_id: 'x'.repeat(100_000) }), undefined);
  });

  for (const input of [null, undefined, 5, 'text', true, [], [PRESENCE]])
    it(`refuses ${show(input)} as an event`, () => assert.equal(problem(input), 'should be an object'));

  it('refuses an event of an unknown kind', () => {
    for (const kind of ['iq', '', null, 5, ABSENT])
      assert.equal(problem(changed(PRESENCE, 'kind', kind)), 'kind: should be "presence" or "message"');
  });

  it('lists every mistake of an event without quoting it', () => {
    assert.equal(
      problem({ ...MESSAGE, at: 'hidden', from: 'hidden hidden', body: 'hidden\u0000', stanza: ['hidden'] }),
      `at: ${WHOLE}; from: should be a JID; body: holds U+0000, which XML does not allow; stanza: should be a text`,
    );
  });

  it('the compiled schema gives the same errors as the schema itself', () => {
    const values = fc.oneof(
      fc.constantFrom(...Object.values(PRESENCE), ...Object.values(MESSAGE), undefined, null, -1, '', '\u0000', 1.5),
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.jsonValue({ maxDepth: 2 }),
    );
    const changes = fc.dictionary(fc.constantFrom(...Object.keys({ ...PRESENCE, ...MESSAGE }), 'more'), values);
    fc.assert(
      fc.property(fc.constantFrom(PRESENCE, MESSAGE), changes, (event, change) => {
        const input = { ...event, ...change };
        const plain = eventSchema.safeParse(input);
        const expected = plain.success ? plain.data : { problem: problemOf(plain.error), raw: input };
        assert.deepEqual(parseEvent(input), expected);
      }),
      { numRuns: 500 },
    );
  });

  it('keeps a malformed event without parts nested too deep to write', () => {
    const nested = (depth: number) => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`);
    for (const input of [
      { ...MESSAGE, body: nested(10_000) },
      { ...PRESENCE, jid: JSON.parse(`${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`) },
      nested(10_000),
    ]) {
      const found = parseEvent(input);
      assert.ok(isMalformed(found));
      assert.equal(found.problem, 'should not be nested deeper than 32');
      assert.ok(JSON.stringify(found).length < 200);
    }
    assert.equal(problem({ ...MESSAGE, body: nested(20) }), 'body: should be a text, possibly empty');
    assert.deepEqual(parseEvent({ ...MESSAGE, more: nested(10_000) }), MESSAGE, 'what it does not know is left out');
  });
});
