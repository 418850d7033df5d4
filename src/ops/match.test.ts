import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { matcherOf, type Wanted } from './match.ts';

const TOPIC = 'arn:aws:sns:eu-west-1:123456789012:user_message_sent';
const body = { to_user_id: 'Bob@localhost', message: 'the old mill', from_user_id: 'alice@localhost', sent: 17 };
const NOTIFICATION = {
  eventId: 'prosody@chat1/9f2c/4583',
  topic: TOPIC,
  orderKey: 'room@conference.localhost',
  at: 0,
  message: JSON.stringify(body),
  attributes: [
    { name: 'message.id', type: 'String', value: 'stanza-17' },
    { name: 'excerpt', type: 'String', value: 'a secret' },
  ],
  bytes: 1,
  names: ['Carol@localhost/desk', 'dave@localhost', 'm-4711'],
} as const;

const matches = (wanted: Wanted, bodies = false) => matcherOf(wanted, bodies)?.(NOTIFICATION);

describe('the filter of the live feed', () => {
  it('no filter accepts everything', () => {
    assert.deepEqual([matcherOf({}, false), matcherOf({ match: ' ' }, true)], [undefined, undefined]);
  });

  for (const [what, match] of [
    ['the sender', 'ALICE@'],
    ['the recipient', 'bob@localhost'],
    ['who sent it, where a plugin publishes another name', 'carol@localhost/desk'],
    ["a stanza's id that is not published", 'm-4711'],
    ['the room', 'room@conference'],
    ['the topic', 'message_sent'],
    ['the id of a stanza', 'stanza-17'],
    ['the id of the event', 'chat1/9f2c/4583'],
  ] as const)
    it(`finds ${what}`, () => assert.equal(matches({ match }), true));

  it('searches message texts only if bodies are requested', () => {
    assert.deepEqual([matches({ match: 'old mill' }), matches({ match: 'old mill' }, true)], [false, true]);
    assert.equal(matches({ match: 'a secret' }), false);
  });

  it('combines a topic, by name or ARN, with other criteria', () => {
    assert.equal(matches({ topic: TOPIC }), true);
    assert.equal(matches({ topic: 'user_message_sent', match: 'alice' }), true);
    assert.equal(matches({ topic: 'user_message_sent', match: 'erin' }), false);
    assert.equal(matches({ topic: 'message_sent', match: 'alice' }), false);
  });

  it('accepts a body that is not a JSON object', () => {
    const other = { ...NOTIFICATION, message: '"alice"', attributes: [], orderKey: 'x', names: [] };
    assert.equal(matcherOf({ match: 'alice' }, false)?.(other), false);
  });

  it('finds no names in a body that is not JSON', () => {
    const other = { ...NOTIFICATION, message: 'alice', attributes: [], orderKey: 'x', names: [] };
    assert.equal(matcherOf({ match: 'alice' }, false)?.(other), false);
  });
});
