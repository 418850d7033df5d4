import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EXCHANGES } from '../../../test/support/rabbit-tap.ts';
import { isMalformed } from '../../event.ts';
import { bindingsOf, type Exchanges, exchangesOf } from './exchanges.ts';
import { readMessage } from './message.ts';

const ONE: Exchanges = {
  presence: { ...EXCHANGES.presence, name: 'all' },
  chat: { ...EXCHANGES.chat, name: 'all' },
  groupchat: { ...EXCHANGES.groupchat, name: 'all' },
};
const NOW = 1_800_000_000_000;
const PRESENCE = { user_id: 'alice@localhost/phone', present: true };
const CHAT = { to_user_id: 'bob@localhost', from_user_id: 'alice@localhost/phone', message: 'hello' };

const read = (exchange: string, routingKey: string, body: unknown, more: object = {}, exchanges = EXCHANGES) => {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  return readMessage({ exchange, routingKey, body: bytes, ...more }, exchanges, NOW);
};
const problemOf = (...given: Parameters<typeof read>) => {
  const event = read(...given);
  return event && isMalformed(event) ? event.problem : undefined;
};

describe("MongooseIM's messages as events", () => {
  it('reads presence, private and group messages of MongooseIM', () => {
    assert.deepEqual(read('presence', 'alice@localhost', PRESENCE), {
      kind: 'presence',
      at: NOW,
      host: 'localhost',
      jid: 'alice@localhost/phone',
      present: true,
      sessions: undefined,
    });
    const message = {
      kind: 'message',
      at: NOW,
      host: 'localhost',
      from: 'alice@localhost/phone',
      to: 'bob@localhost',
      body: 'hello',
      stanza_id: undefined,
    };
    assert.deepEqual(read('chat_msg', 'alice@localhost.chat_msg_sent', CHAT), { ...message, type: 'chat' });
    assert.deepEqual(read('groupchat_msg', 'alice@localhost.groupchat_msg_sent', CHAT), {
      ...message,
      type: 'groupchat',
    });
  });

  it('skips the copies for recipients, even if one exchange has all kinds', () => {
    assert.equal(read('chat_msg', 'bob@localhost.chat_msg_recv', CHAT), undefined);
    assert.equal(read('chat_msg', 'bob@localhost', CHAT), undefined);
    for (const key of ['b@localhost.chat_msg_recv', 'b@localhost.groupchat_msg_recv'])
      assert.equal(read('all', key, CHAT, {}, ONE), undefined);
    const kinds = [
      read('all', 'alice@localhost', PRESENCE, {}, ONE),
      read('all', 'a@localhost.chat_msg_sent', CHAT, {}, ONE),
      read('all', 'a@localhost.groupchat_msg_sent', CHAT, {}, ONE),
    ].map((event) => event && !isMalformed(event) && (event.kind === 'presence' ? event.kind : event.type));
    assert.deepEqual(kinds, ['presence', 'chat', 'groupchat']);
  });

  it('uses known metadata in the documented form, and ignores other keys', () => {
    const metadata = { timestamp: 1_795_947_742_366_474, session_count: 2, acc_ref: '#Ref<0.1>' };
    const presence = read('presence', 'alice@localhost', { ...PRESENCE, ...metadata });
    assert.ok(presence && !isMalformed(presence) && presence.kind === 'presence');
    assert.deepEqual([presence.at, presence.sessions], [1_795_947_742_366, 2]);
    assert.equal(Object.hasOwn(presence, 'acc_ref'), false);
    const message = read('chat_msg', 'a@localhost.chat_msg_sent', { ...CHAT, ...metadata, stanza_id: 'm1' });
    assert.ok(message && !isMalformed(message) && message.kind === 'message');
    assert.deepEqual([message.at, message.stanza_id], [1_795_947_742_366, 'm1']);
    const odd = { timestamp: '2026-11-29T12:00:00Z', session_count: -1, stanza_id: 5 };
    for (const other of [
      odd,
      { timestamp: 1_795_947_742, session_count: 1.5, stanza_id: '\u0001' },
      { timestamp: 1e300 },
    ]) {
      const event = read('presence', 'alice@localhost', { ...PRESENCE, ...other });
      assert.ok(event && !isMalformed(event) && event.kind === 'presence');
      assert.deepEqual([event.at, event.sessions], [NOW, undefined]);
      assert.equal(problemOf('chat_msg', 'a@localhost.chat_msg_sent', { ...CHAT, ...other }), undefined);
    }
  });

  it('accepts an empty body, unusual JIDs and addresses without a local part', () => {
    const from = "änna.b#c*d'e@localhost/Büro 1 ❤";
    const event = read('chat_msg', 'x.chat_msg_sent', { to_user_id: 'localhost', from_user_id: from, message: '' });
    assert.ok(event && !isMalformed(event) && event.kind === 'message');
    assert.deepEqual([event.from, event.to, event.body, event.host], [from, 'localhost', '', 'localhost']);
    const bare = read('chat_msg', 'x.chat_msg_sent', { ...CHAT, from_user_id: 'alice@Localhost' });
    assert.equal(bare && !isMalformed(bare) && bare.host, 'localhost');
  });

  it("names a mistake in MongooseIM's terms, and keeps the message", () => {
    const presence = ['presence', 'alice@localhost'] as const;
    const chat = ['chat_msg', 'alice@localhost.chat_msg_sent'] as const;
    assert.equal(problemOf(...presence, Buffer.alloc(0)), 'is empty, should be a JSON object');
    assert.equal(problemOf(...presence, Buffer.from('{"user_id"')), 'should be JSON in UTF-8');
    assert.equal(problemOf(...presence, Buffer.from([0x22, 0xff, 0x22])), 'should be JSON in UTF-8');
    for (const body of [5, null, [], 'text']) assert.equal(problemOf(...presence, body), 'should be a JSON object');
    assert.equal(problemOf(...presence, { ...PRESENCE, user_id: '@' }), 'user_id: should be a JID');
    assert.equal(problemOf(...presence, { user_id: 'a@b/c' }), 'present: should be true or false');
    assert.equal(problemOf(...presence, {}), 'user_id: should be a JID; present: should be true or false');
    assert.equal(problemOf(...chat, { ...CHAT, from_user_id: 7 }), 'from_user_id: should be a JID');
    assert.equal(problemOf(...chat, { ...CHAT, to_user_id: '' }), 'to_user_id: should be a JID');
    assert.equal(problemOf(...chat, { ...CHAT, message: null }), 'message: should be a text, possibly empty');
    assert.equal(
      problemOf(...chat, CHAT, { contentEncoding: 'gzip' }),
      'has the content encoding "gzip", should be plain JSON',
    );
    assert.equal(problemOf('other', 'k', CHAT), 'came from the exchange "other", which is not configured');
    const text = read(...presence, Buffer.from('nonsense ❤'), { contentEncoding: 'utf-8' });
    assert.deepEqual(text && isMalformed(text) && text.raw, {
      exchange: 'presence',
      routing_key: 'alice@localhost',
      content_encoding: 'utf-8',
      body: 'nonsense ❤',
    });
    const bytes = read(...presence, Buffer.from([0xff]));
    assert.deepEqual(bytes && isMalformed(bytes) && bytes.raw, {
      exchange: 'presence',
      routing_key: 'alice@localhost',
      content_encoding: undefined,
      body_base64: '/w==',
    });
  });
});

describe('exchanges of MongooseIM', () => {
  it('binds a queue to all presence and to sent messages', () => {
    assert.deepEqual(bindingsOf(EXCHANGES), [
      { exchange: 'presence', key: '#' },
      { exchange: 'chat_msg', key: '#.chat_msg_sent' },
      { exchange: 'groupchat_msg', key: '#.groupchat_msg_sent' },
    ]);
  });

  it('binds to everything of a fanout or headers exchange, and to nothing of a direct one', () => {
    const mixed: Exchanges = {
      presence: { ...EXCHANGES.presence, type: 'fanout' },
      chat: { ...EXCHANGES.chat, type: 'headers' },
      groupchat: { ...EXCHANGES.groupchat, type: 'direct' },
    };
    assert.deepEqual(bindingsOf(mixed), [
      { exchange: 'presence', key: '' },
      { exchange: 'chat_msg', key: '' },
    ]);
  });

  it('lists an exchange for several kinds once', () => {
    assert.deepEqual(
      exchangesOf(ONE).map(({ name }) => name),
      ['all'],
    );
    assert.equal(exchangesOf(EXCHANGES).length, 3);
  });
});
