import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { JID } from '@xmpp/jid';
import type { Element } from 'ltx';
import type { MessageEvent, PresenceEvent, XmppEvent } from '../event.ts';
import { compileAdditions } from './additions.ts';
import { bareJid, kindOf } from './kind.ts';
import { type Notification, type Route, type Translation, translate } from './notification.ts';
import type { SnsPlugin } from './plugin.ts';

const TOPICS = {
  presence: 'arn:aws:sns:eu-west-1:123456789012:presence',
  pm: 'arn:aws:sns:eu-west-1:123456789012:pm',
  muc: 'arn:aws:sns:eu-west-1:123456789012:muc',
};

const presence = (fields: Partial<PresenceEvent> = {}): PresenceEvent => ({
  kind: 'presence',
  id: 's/x/1',
  at: 1_763_820_191_120,
  host: 'localhost',
  jid: 'Alice@Localhost/Phone',
  present: true,
  ...fields,
});

const message = (fields: Partial<MessageEvent> = {}): MessageEvent => ({
  kind: 'message',
  id: 's/x/2',
  at: 1_763_820_191_340,
  host: 'localhost',
  type: 'chat',
  from: 'Alice@Localhost/Phone',
  to: 'Bob@Localhost',
  body: 'Hello, Bob',
  ...fields,
});

const route = (fields: Partial<Route> = {}): Route => ({
  topics: TOPICS,
  plugin: {},
  presence: 'user',
  additions: compileAdditions({ attributes: [] }),
  maxBytes: () => 262_144,
  ...fields,
});

function notificationOf(translation: Translation): Notification {
  assert.equal(translation.kind, 'publish', JSON.stringify(translation));
  return (translation as Extract<Translation, { kind: 'publish' }>).notification;
}

const published = async (event: XmppEvent, fields: Partial<Route> = {}): Promise<Notification> =>
  notificationOf(await translate(event, route(fields)));
const bodyOf = async (event: XmppEvent, fields?: Partial<Route>) => (await published(event, fields)).message;

describe('a notification', () => {
  it('a presence notification has exactly these bytes', async () => {
    assert.equal(await bodyOf(presence()), '{"user_id":"alice@localhost","present":true}');
    assert.equal(await bodyOf(presence({ present: false })), '{"user_id":"alice@localhost","present":false}');
  });

  it('a message notification has exactly these bytes', async () => {
    assert.equal(
      await bodyOf(message()),
      '{"to_user_id":"bob@localhost","message":"Hello, Bob","from_user_id":"alice@localhost"}',
    );
  });

  it('a group message names the room, and the sender by its real JID', async () => {
    const event = message({ type: 'groupchat', to: 'Tea@Conference.localhost', body: 'Hi!' });
    const { message: json, topic } = await published(event);
    assert.equal(json, '{"to_user_id":"tea@conference.localhost","message":"Hi!","from_user_id":"alice@localhost"}');
    assert.equal(topic, TOPICS.muc);
  });

  it("a private message to a room's occupant is a pm to the room", async () => {
    const { message: json, topic } = await published(message({ to: 'tea@conference.localhost/Al the Great' }));
    assert.match(json, /^\{"to_user_id":"tea@conference\.localhost",/);
    assert.equal(topic, TOPICS.pm);
  });

  for (const [body, json] of [
    ['', '""'],
    [' ', '" "'],
    ['"quoted" \\ back\\slash', '"\\"quoted\\" \\\\ back\\\\slash"'],
    ['line\nbreak\ttab\r', '"line\\nbreak\\ttab\\r"'],
    ['Grüße, 世界 👩‍👩‍👧‍👦', '"Grüße, 世界 👩‍👩‍👧‍👦"'],
    ['<b>&amp;</b>', '"<b>&amp;</b>"'],
    ['\u2028\u2029\u0085\u007f', '"\u2028\u2029\u0085\u007f"'],
    ['</script>', '"</script>"'],
  ] as const)
    it(`a notification carries the text ${json}`, async () => {
      assert.equal(
        await bodyOf(message({ body })),
        `{"to_user_id":"bob@localhost","message":${json},"from_user_id":"alice@localhost"}`,
      );
    });

  it('a notification has what the outbox and the publisher need', async () => {
    assert.deepEqual(await published(message()), {
      eventId: 's/x/2',
      topic: TOPICS.pm,
      orderKey: 'alice@localhost',
      at: 1_763_820_191_340,
      message: '{"to_user_id":"bob@localhost","message":"Hello, Bob","from_user_id":"alice@localhost"}',
      attributes: [],
      bytes: 86,
      names: ['Alice@Localhost/Phone', 'Bob@Localhost'],
    });
  });

  it('a notification has the searchable names of the event', async () => {
    const namesOf = async (event: XmppEvent) => (await published(event)).names;
    assert.deepEqual(await namesOf(presence({ jid: 'Alice@Localhost/Phone' })), ['Alice@Localhost/Phone']);
    const sent = message({ to: 'Room@conf/nick', stanza_id: 'm"1' });
    assert.deepEqual(await namesOf(sent), ['Alice@Localhost/Phone', 'Room@conf/nick', 'm"1']);
  });

  it('the order key is the user, the sender of a pm, or the room of a group message', async () => {
    assert.equal((await published(presence())).orderKey, 'alice@localhost');
    assert.equal((await published(message({ to: 'Room@conf/nick' }))).orderKey, 'alice@localhost');
    assert.equal((await published(message({ type: 'groupchat', to: 'Room@Conf' }))).orderKey, 'room@conf');
    const plugin = { userGuid: (jid: JID) => `guid of ${jid.local}` };
    assert.equal((await published(presence(), { plugin })).orderKey, 'alice@localhost');
  });
});

describe('a bare JID in lower case', () => {
  for (const [jid, bare] of [
    ['Alice@Localhost/Phone', 'alice@localhost'],
    ['alice@localhost', 'alice@localhost'],
    ['localhost', 'localhost'],
    ['Localhost/x', 'localhost'],
    ['a@b/c/d@e', 'a@b'],
    ['ÄÖÜ@Straße.example/x', 'äöü@straße.example'],
  ] as const)
    it(`the bare JID of ${jid} is ${bare}`, () => assert.equal(bareJid(jid), bare));
});

describe('what is not published, and why', () => {
  const skipped = async (event: XmppEvent, with_: Route | undefined) => {
    const translation = await translate(event, with_);
    return translation.kind === 'skip' ? translation.reason : translation.kind;
  };

  it('skips every event of a virtual host without a section', async () => {
    assert.equal(await skipped(presence(), undefined), 'host-has-no-sns');
  });

  it('skips a kind without a topic', async () => {
    for (const [event, kind] of [
      [presence(), 'presence'],
      [message(), 'pm'],
      [message({ type: 'groupchat' }), 'muc'],
    ] as const) {
      assert.equal(kindOf(event), kind);
      const { [kind]: _, ...topics } = TOPICS;
      assert.equal(await skipped(event, route({ topics })), 'no-topic');
      assert.equal(await skipped(event, route({ topics: { [kind]: TOPICS[kind] } })), 'publish');
    }
  });

  for (const [present, sessions, user] of [
    [true, 0, 'publish'],
    [true, 1, 'publish'],
    [true, 2, 'not-first-session'],
    [true, undefined, 'publish'],
    [false, 0, 'publish'],
    [false, 1, 'sessions-left'],
    [false, 2, 'sessions-left'],
    [false, undefined, 'publish'],
  ] as const)
    it(`presence = "user": ${present ? 'online' : 'offline'} with ${sessions ?? 'an unknown number of'} sessions: ${user}`, async () => {
      const event = presence({ present, ...(sessions !== undefined && { sessions }) });
      assert.equal(await skipped(event, route({ presence: 'user' })), user);
      assert.equal(await skipped(event, route({ presence: 'session' })), 'publish');
    });

  it('skips an event for which the filter returns false; any value but a boolean makes a dead letter', async () => {
    for (const answer of [false, true, undefined, null, 0, '', 'false', {}])
      for (const filter of [() => answer as boolean, async () => answer as boolean]) {
        const made = await translate(message(), route({ plugin: { filter } }));
        if (answer === true) assert.equal(made.kind, 'publish');
        else if (answer === false) assert.deepEqual(made, { kind: 'skip', reason: 'filtered' });
        else {
          const returned = answer === null ? 'null' : typeof answer;
          const detail = `filter should return true or false, and returned ${returned}`;
          assert.deepEqual(made, { kind: 'dead', reason: 'plugin', detail });
        }
      }
  });

  it('decides what to skip before it calls the plugin', async () => {
    const plugin = { filter: () => assert.fail('asked') };
    assert.equal(await skipped(presence({ sessions: 2 }), route({ plugin })), 'not-first-session');
    assert.equal(await skipped(presence(), route({ plugin, topics: {} })), 'no-topic');
  });
});

describe('a plugin', () => {
  it('translates synchronously without a plugin', () => {
    assert.equal(translate(message(), route()) instanceof Promise, false);
    assert.equal(translate(message(), route({ plugin: { userGuid: () => 'x' } })) instanceof Promise, true);
  });

  it('calls a plugin with topic, JIDs and what happened', async () => {
    const calls: unknown[][] = [];
    const plugin: SnsPlugin = {
      userGuid: (jid) => jid.local.toUpperCase(),
      presenceAttributes: (topic, jid, online) => {
        calls.push([topic, jid.toString(), jid.resource, online]);
        return { a: 'x' };
      },
      messageAttributes: (topic, from, to, type, stanza) => {
        calls.push([topic, from.toString(), to.bare().toString(), type, stanza.getChildText('body')]);
        return { a: 'y' };
      },
    };
    const online = await published(presence(), { plugin });
    assert.equal(online.message, '{"user_id":"ALICE","present":true}');
    assert.deepEqual(online.attributes, [{ name: 'a', type: 'String', value: 'x' }]);
    const pm = await published(message({ to: 'bob@localhost/laptop' }), { plugin });
    assert.equal(pm.message, '{"to_user_id":"BOB","message":"Hello, Bob","from_user_id":"ALICE"}');
    assert.deepEqual(pm.attributes, [{ name: 'a', type: 'String', value: 'y' }]);
    await published(message({ type: 'groupchat', to: 'tea@conf' }), { plugin });
    assert.deepEqual(calls, [
      [TOPICS.presence, 'alice@localhost/Phone', 'Phone', true],
      [TOPICS.pm, 'alice@localhost/Phone', 'bob@localhost', 'pm', 'Hello, Bob'],
      [TOPICS.muc, 'alice@localhost/Phone', 'tea@conf', 'muc', 'Hello, Bob'],
    ]);
  });

  it('passes the frozen event, with the parts of its id, as the last argument to each plugin function', async () => {
    const seen: [string, unknown][] = [];
    const see =
      (name: string) =>
      (...parameters: unknown[]) => {
        seen.push([name, parameters.at(-1)]);
        return name === 'userGuid' ? 'x' : name === 'filter' ? true : undefined;
      };
    const names = ['filter', 'userGuid', 'presenceAttributes', 'messageAttributes'];
    const plugin = Object.fromEntries(names.map((name) => [name, see(name)])) as unknown as SnsPlugin;
    const id = 'prosody/a@b/e1/7';
    const online = presence({ id, sessions: 1 });
    await published(online, { plugin });
    await published(message({ id }), { plugin });
    const parts = { source: 'prosody/a@b', epoch: 'e1', seq: 7 };
    const called = ['filter', 'userGuid', 'presenceAttributes', 'filter', 'userGuid', 'userGuid', 'messageAttributes'];
    assert.deepEqual(
      seen,
      called.map((name, index) => [name, { ...(index < 3 ? online : message({ id })), ...parts }]),
    );
    assert.ok(seen.every(([, event]) => Object.isFrozen(event)));
    const changing: SnsPlugin = { filter: (event) => Boolean(Object.assign(event, { host: 'x' })) };
    assert.equal((await translate(online, route({ plugin: changing }))).kind, 'dead');
  });

  it('accepts an async plugin, and one that returns nothing', async () => {
    const plugin: SnsPlugin = {
      userGuid: async (jid) => `later ${jid.local}`,
      presenceAttributes: async () => ({ n: 5 }),
      messageAttributes: async () => undefined as never,
    };
    const online = await published(presence(), { plugin });
    assert.equal(online.message, '{"user_id":"later alice","present":true}');
    assert.deepEqual(online.attributes, [{ name: 'n', type: 'Number', value: '5' }]);
    assert.deepEqual((await published(message(), { plugin })).attributes, []);
  });

  it('a plugin that hides JIDs also hides them in FIFO group ids, while the order still follows the JID', async () => {
    const plugin = { userGuid: (jid: { local: string }) => `guid:${jid.local}` };
    const topics = { presence: 'p.fifo', pm: 'pm.fifo', muc: 'muc.fifo' };
    const group = async (event: XmppEvent) => {
      const { parameters, orderKey } = await published(event, { plugin, topics });
      return [parameters?.MessageGroupId, orderKey];
    };
    assert.deepEqual(await group(presence()), ['guid:alice', 'alice@localhost']);
    const chat = message({ from: 'alice@localhost/x', to: 'bob@localhost' });
    assert.deepEqual(await group(chat), ['guid:alice', 'alice@localhost']);
    const room = message({ type: 'groupchat', from: 'alice@localhost/x', to: 'tea@rooms.localhost' });
    assert.deepEqual(await group(room), ['guid:tea', 'tea@rooms.localhost']);
    assert.equal((await published(chat, { plugin })).parameters, undefined, 'a standard topic has no groups');
    assert.equal((await published(chat, { plugin: {}, topics })).parameters, undefined, 'the JID is no secret');
  });

  it("a plugin's name for a user is the same in both places", async () => {
    let calls = 0;
    const plugin = { userGuid: () => `guid ${++calls}` };
    const self = message({ from: 'alice@localhost', to: 'alice@localhost' });
    const { to_user_id, from_user_id } = JSON.parse(await bodyOf(self, { plugin }));
    assert.equal(to_user_id, from_user_id);
  });

  const deadOf = async (event: XmppEvent, plugin: SnsPlugin): Promise<string> => {
    const translation = await translate(event, route({ plugin }));
    assert.equal(translation.kind, 'dead', JSON.stringify(translation));
    const { reason, detail } = translation as Extract<Translation, { kind: 'dead' }>;
    assert.equal(reason, 'plugin');
    return detail;
  };
  const fail = (what: string): never => {
    throw new Error(what);
  };

  for (const [what, plugin, detail] of [
    ['throws', { filter: () => fail('no') }, 'filter: no'],
    ['rejects', { filter: async () => fail('no') }, 'filter: no'],
    ['throws something else', { userGuid: () => Promise.reject('a text') }, 'userGuid: a text'],
    ['throws for attributes', { messageAttributes: () => fail('no') }, 'messageAttributes: no'],
    [
      'names a user with an empty text',
      { userGuid: () => '' },
      'userGuid should return a string that is not empty, and returned ""',
    ],
    [
      'names a user with a number',
      { userGuid: () => 5 as never },
      'userGuid should return a string that is not empty, and returned 5',
    ],
    [
      'does not name a user',
      { userGuid: () => undefined as never },
      'userGuid should return a string that is not empty, and returned undefined',
    ],
    [
      'names a user with what SNS does not take',
      { userGuid: () => 'a\uffff' },
      'userGuid returned a string that holds U+FFFF, which SNS does not allow',
    ],
    [
      'gives an attribute that SNS does not take',
      { messageAttributes: () => ({ a: '' }) },
      'messageAttributes: attribute "a": its value is empty',
    ],
    [
      'gives attributes that are none',
      { messageAttributes: () => 'x' as never },
      'messageAttributes: attributes should be an object, not string',
    ],
  ] as const satisfies readonly (readonly [string, SnsPlugin, string])[])
    it(`a plugin that ${what} makes a dead letter of that event: ${detail}`, async () => {
      assert.equal(await deadOf(message(), plugin), detail);
    });

  it("escapes control characters in a plugin's name for a user", async () => {
    const plugin = { userGuid: () => 'a\u0001\ud800' };
    assert.equal(await bodyOf(presence(), { plugin }), '{"user_id":"a\\u0001\\ud800","present":true}');
  });

  for (const name of ['filter', 'userGuid', 'presenceAttributes', 'messageAttributes'] as const)
    it(`a plugin that hangs in ${name} makes a dead letter of that event after 5 s`, async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout'] });
      const plugin = { [name]: () => new Promise<never>(() => undefined) };
      const event = name === 'presenceAttributes' ? presence() : message();
      const translation = translate(event, route({ plugin }));
      // Let it reach its timer.
      await new Promise((resolve) => setImmediate(resolve));
      t.mock.timers.tick(5_000);
      assert.deepEqual(await translation, {
        kind: 'dead',
        reason: 'plugin',
        detail: `${name}: did not answer within 5 s`,
      });
    });

  describe('and the stanza', () => {
    const malformed = message({ stanza: '<message><body>' });

    it('does not parse the stanza for a plugin that ignores it', async () => {
      const plugin = { messageAttributes: () => ({ a: 'x' }) };
      assert.equal((await published(malformed, { plugin })).attributes.length, 1);
    });

    it('a plugin that reads a malformed stanza makes a dead letter', async () => {
      const look = {
        messageAttributes: (...[, , , , stanza]: Parameters<Required<SnsPlugin>['messageAttributes']>) => ({
          a: stanza.name,
        }),
      };
      assert.match(await deadOf(malformed, look), /^messageAttributes: /);
    });

    it('passes on the whole stanza if the server sent it', async () => {
      let seen: Element | undefined;
      const plugin: SnsPlugin = {
        messageAttributes: (_topic, _from, _to, _type, stanza) => {
          seen = stanza;
          return {};
        },
      };
      await published(message({ stanza: '<message to="x"><body>y</body><z/></message>' }), { plugin });
      assert.equal(seen?.toString(), '<message to="x"><body>y</body><z/></message>');
    });
  });
});

describe('built-in attributes', () => {
  const all = ['event_id', 'timestamp', 'stanza_id', 'host'] as const;

  it('adds the chosen built-in attributes, in that order', async () => {
    const { attributes } = await published(message({ stanza_id: 'm1' }), {
      additions: compileAdditions({ attributes: all }),
    });
    assert.deepEqual(attributes, [
      { name: 'event_id', type: 'String', value: 's/x/2' },
      { name: 'timestamp', type: 'Number', value: '1763820191340' },
      { name: 'stanza_id', type: 'String', value: 'm1' },
      { name: 'host', type: 'String', value: 'localhost' },
    ]);
    assert.deepEqual(
      (
        await published(message(), { additions: compileAdditions({ attributes: ['host', 'event_id'] }) })
      ).attributes.map(({ name }) => name),
      ['host', 'event_id'],
    );
  });

  it('omits built-in attributes that the event lacks', async () => {
    for (const event of [presence(), message(), message({ stanza_id: '' })])
      assert.deepEqual(
        (await published(event, { additions: compileAdditions({ attributes: all }) })).attributes.map(
          ({ name }) => name,
        ),
        ['event_id', 'timestamp', 'host'],
      );
  });

  it("built-in attributes follow the plugin's, which win under the same name", async () => {
    const plugin = { presenceAttributes: () => ({ host: 'mine', z: 1 }) };
    assert.deepEqual(
      (await published(presence(), { plugin, additions: compileAdditions({ attributes: ['host', 'timestamp'] }) }))
        .attributes,
      [
        { name: 'host', type: 'String', value: 'mine' },
        { name: 'z', type: 'Number', value: '1' },
        { name: 'timestamp', type: 'Number', value: '1763820191120' },
      ],
    );
  });

  it('adds a built-in attribute once, even when chosen twice', async () => {
    assert.equal(
      (await published(presence(), { additions: compileAdditions({ attributes: ['host', 'host'] }) })).attributes
        .length,
      1,
    );
  });
});

describe('a notification that is too large', () => {
  const EMPTY = '{"to_user_id":"bob@localhost","message":"","from_user_id":"alice@localhost"}'.length;

  it("a notification one byte above the topic's limit makes a dead letter that names the sizes", async () => {
    const fits = message({ body: 'x'.repeat(262_144 - EMPTY) });
    assert.equal((await published(fits)).bytes, 262_144);
    assert.deepEqual(await translate({ ...fits, body: `${fits.body}x` }, route()), {
      kind: 'dead',
      reason: 'too-large',
      detail: 'message of 262145 bytes and attributes of 0 bytes make 262145, the topic takes 262144',
    });
  });

  it("a notification's size is in bytes and includes its attributes", async () => {
    const attributeBytes = 'host'.length + 'String'.length + 'localhost'.length;
    const euros = message({ body: '€'.repeat(100) });
    const bytes = EMPTY + 300 + attributeBytes;
    assert.equal(
      (await published(euros, { additions: compileAdditions({ attributes: ['host'] }), maxBytes: () => bytes })).bytes,
      bytes,
    );
    const translation = await translate(
      euros,
      route({ additions: compileAdditions({ attributes: ['host'] }), maxBytes: () => bytes - 1 }),
    );
    assert.equal(translation.kind, 'dead');
  });

  it("applies each topic's own size limit", async () => {
    const maxBytes = (arn: string) => (arn === TOPICS.pm ? 10 : 262_144);
    assert.equal((await translate(message(), route({ maxBytes }))).kind, 'dead');
    assert.equal((await translate(message({ type: 'groupchat' }), route({ maxBytes }))).kind, 'publish');
  });

  it('a body of 300 KB makes a dead letter', async () => {
    assert.equal((await translate(message({ body: 'x'.repeat(300_000) }), route())).kind, 'dead');
  });
});
