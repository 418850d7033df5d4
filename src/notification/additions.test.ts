import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { MessageEvent, PresenceEvent, XmppEvent } from '../event.ts';
import { type AdditionOptions, additionProblems, compileAdditions, mostAttributes } from './additions.ts';
import { FIELDS } from './fields.ts';
import { attributeProblem } from './lint.ts';
import { type Notification, type Route, translate } from './notification.ts';
import { messageBody, presenceBody } from './schema.ts';
import { compileTemplate } from './template.ts';

const PRESENCE: PresenceEvent = {
  kind: 'presence',
  id: 'prosody/example.org@chat1/9f2c/7',
  at: 1763820191340,
  host: 'example.org',
  jid: 'Alice@Example.org/Phone',
  present: true,
  sessions: 1,
};
const PM: MessageEvent = {
  kind: 'message',
  id: 'prosody/example.org@chat1/9f2c/8',
  at: 1763820191340,
  host: 'example.org',
  type: 'chat',
  from: 'Alice@Example.org/Phone',
  to: 'tea@conference.example.org/Al / Great',
  body: 'Hi 👩‍🚀',
  stanza_id: 'm1',
  stanza: `<message xml:lang='de' id="m1"><thread>t &amp; 1</thread><body xml:lang="fr">Hi</body></message>`,
};
const MUC: MessageEvent = { ...PM, type: 'groupchat', to: 'Tea@Conference.example.org' };

const value = (template: string, event: XmppEvent) => compileTemplate(template)(event);

describe('a template', () => {
  for (const [template, expected] of Object.entries({
    '{type}': ['presence', 'pm', 'muc'],
    '{user}': ['Alice@Example.org/Phone', 'Alice@Example.org/Phone', 'Alice@Example.org/Phone'],
    '{user.bare}': ['alice@example.org', 'alice@example.org', 'alice@example.org'],
    '{from.local}': [undefined, 'alice', 'alice'],
    '{from.resource}': [undefined, 'Phone', 'Phone'],
    '{to.domain}': [undefined, 'conference.example.org', 'conference.example.org'],
    '{to.resource}': [undefined, 'Al / Great', undefined],
    '{room}': [undefined, undefined, 'tea@conference.example.org'],
    '{present} {sessions}': ['true 1', undefined, undefined],
    '{source}|{epoch}|{seq}': [
      'prosody/example.org@chat1|9f2c|7',
      'prosody/example.org@chat1|9f2c|8',
      'prosody/example.org@chat1|9f2c|8',
    ],
    '{time}': ['2025-11-22T14:03:11.340Z', '2025-11-22T14:03:11.340Z', '2025-11-22T14:03:11.340Z'],
    '{stanza_id}': [undefined, 'm1', 'm1'],
    '{thread}/{lang}': [undefined, 't & 1/de', 't & 1/de'],
    '{body.length}': [undefined, '6', '6'],
    prod: ['prod', 'prod', 'prod'],
    'a{{{type}}}z': ['a{presence}z', 'a{pm}z', 'a{muc}z'],
  }))
    it(`${template} gives its text, or nothing if a name in it has no value`, () => {
      assert.deepEqual(
        [PRESENCE, PM, MUC].map((event) => value(template, event)),
        expected,
      );
    });

  it('a template leaves out source, epoch and number of an event without them', () => {
    const event = { ...PM, id: crypto.randomUUID() };
    assert.deepEqual(
      ['{source}', '{epoch}', '{seq}'].map((name) => value(name, event)),
      [undefined, undefined, undefined],
    );
  });

  it('reads language and thread only from the stanza itself, and only valid ones', () => {
    for (const [stanza, lang, thread] of [
      ['<message/>', undefined, undefined],
      ['not XML <thread', undefined, undefined],
      ['<message><body xml:lang="fr">xml:lang="de"</body></message>', undefined, undefined],
      [`<message a=" xml:lang='de' " xml:lang = "fr"/>`, 'fr', undefined],
      ['<message><forwarded><thread>inner</thread></forwarded></message>', undefined, undefined],
      ['<message><thread>a&#2;b</thread></message>', undefined, undefined],
      ['<message><thread/></message>', undefined, undefined],
      ['<message xml:lang="a&#2;"/>', undefined, undefined],
    ] as const)
      assert.deepEqual(
        [value('{lang}', { ...PM, stanza }), value('{thread}', { ...PM, stanza })],
        [lang, thread],
        stanza,
      );
  });
});

const route = (options: Partial<AdditionOptions>, more: Partial<Route> = {}): Route => ({
  topics: { presence: 'p', pm: 'c', muc: 'm' },
  plugin: {},
  presence: 'user',
  additions: compileAdditions({ attributes: [], ...options }),
  maxBytes: () => 262_144,
  ...more,
});
async function published(
  event: XmppEvent,
  options: Partial<AdditionOptions>,
  more?: Partial<Route>,
): Promise<Notification> {
  const translation = await translate(event, route(options, more));
  assert.ok(translation.kind === 'publish', JSON.stringify(translation));
  return translation.notification;
}

describe('attributes by configuration', () => {
  const options = {
    attributes: ['event_id', 'type'],
    message_attributes: { env: 'prod', room: '{room}', size: { number: '{body.length}' }, type: 'my-{type}' },
    presence_attributes: { online: '{present}' },
  } as const;

  it('configured attributes follow the built-in ones, replace those of the same name, and are left out when empty', async () => {
    assert.deepEqual((await published(PM, options)).attributes, [
      { name: 'event_id', type: 'String', value: PM.id },
      { name: 'env', type: 'String', value: 'prod' },
      { name: 'size', type: 'Number', value: '6' },
      { name: 'type', type: 'String', value: 'my-pm' },
    ]);
    assert.deepEqual(
      (await published(PRESENCE, options)).attributes.map(({ name, value }) => `${name} ${value}`),
      [`event_id ${PRESENCE.id}`, 'type presence', 'online true'],
    );
  });

  it("a plugin's attributes replace configured ones of the same name", async () => {
    const plugin = { messageAttributes: () => ({ env: 'test', size: 'XL' }) };
    assert.deepEqual(
      (await published(MUC, options, { plugin })).attributes.map(({ name, value }) => `${name} ${value}`),
      ['env test', 'size XL', `event_id ${MUC.id}`, 'room tea@conference.example.org', 'type my-muc'],
    );
  });

  it('adds CloudEvents attributes on request', async () => {
    const { attributes, message } = await published(PM, { cloudevents: true });
    assert.deepEqual(Object.fromEntries(attributes.map(({ name, value }) => [name, value])), {
      ce_specversion: '1.0',
      ce_id: PM.id,
      ce_source: 'prosody/example.org@chat1',
      ce_type: 'xmpp-event-pusher.pm',
      ce_time: '2025-11-22T14:03:11.340Z',
      ce_datacontenttype: 'application/json',
    });
    assert.equal(message, (await published(PM, {})).message);
    const unnumbered = { ...PM, id: crypto.randomUUID() };
    assert.equal((await published(unnumbered, { cloudevents: true })).attributes[2]?.value, 'example.org');
  });
});

describe('fields of the body', () => {
  it('body fields follow the notification’s keys, never replace them, and are left out when empty', async () => {
    const fields = { body_fields: ['type', 'event_id', 'timestamp', 'room', 'body.length'] };
    assert.equal(
      (await published(PRESENCE, fields)).message,
      '{"user_id":"alice@example.org","present":true,"type":"presence","event_id":"prosody/example.org@chat1/9f2c/7","timestamp":1763820191340}',
    );
    assert.equal(
      (await published(MUC, fields)).message,
      '{"to_user_id":"tea@conference.example.org","message":"Hi 👩‍🚀","from_user_id":"alice@example.org","type":"muc","event_id":"prosody/example.org@chat1/9f2c/8","timestamp":1763820191340,"room":"tea@conference.example.org","body.length":6}',
    );
  });

  it("body fields count for the notification's size", async () => {
    const { bytes, message } = await published(PM, { body_fields: ['thread'] });
    assert.equal(bytes, Buffer.byteLength(message));
  });

  it('body fields give JSON of the published schema, whatever the event holds', async () => {
    const names = Object.keys(FIELDS).filter((name) => name !== 'present');
    const text = fc.string({ unit: 'binary' });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(PM, MUC, PRESENCE), text, text, async (event, host, id) => {
        const { message } = await published({ ...event, host, id } as XmppEvent, { body_fields: names });
        const schema = event.kind === 'presence' ? presenceBody : messageBody;
        assert.ok(schema.safeParse(JSON.parse(message)).success, message);
      }),
    );
  });
});

describe('other parameters', () => {
  it('computes other parameters by templates, and omits them without', async () => {
    const options = {
      subject: '{type} of {user.local}',
      message_group_id: '{to.bare}',
      message_deduplication_id: '{stanza_id}',
    };
    assert.deepEqual((await published(PM, options)).parameters, {
      Subject: 'pm of alice',
      MessageGroupId: 'tea@conference.example.org',
      MessageDeduplicationId: 'm1',
    });
    assert.equal('parameters' in (await published(PM, {})), false);
    const none = { Subject: undefined, MessageGroupId: undefined, MessageDeduplicationId: undefined };
    assert.deepEqual((await published(PRESENCE, { message_group_id: '{room}' })).parameters, none);
  });

  it('computes a subject that SNS accepts', async () => {
    const subjectOf = async (subject: string, event = PM) => (await published(event, { subject })).parameters?.Subject;
    assert.equal(
      await subjectOf('{thread}', { ...PM, stanza: '<message><thread>\n ä😀 b</thread></message>' }),
      '?? b',
    );
    assert.equal((await subjectOf('x'.repeat(200)))?.length, 99);
    assert.equal(await subjectOf('  '), undefined);
  });
});

describe('the number of attributes', () => {
  it('counts the attributes of the notification with most, each name once', () => {
    assert.equal(mostAttributes({ attributes: [] }), 0);
    const options = { attributes: ['host', 'type', 'host'], cloudevents: true } as const;
    assert.equal(mostAttributes(options), 8);
    assert.equal(mostAttributes({ ...options, presence_attributes: { host: 'x', a: 'x' }, message_attributes: {} }), 9);
  });
});

describe('without options that add something', () => {
  it('computes nothing for an event without options that add something', () => {
    const { attributes, members, subject, groupId, deduplicationId } = compileAdditions({
      attributes: [],
      body_fields: [],
      cloudevents: false,
    });
    assert.deepEqual([attributes, members, subject, groupId, deduplicationId], Array(5).fill(undefined));
  });
});

describe('templates that the start lets pass', () => {
  it('templates accepted at the start never produce an attribute that SNS refuses', async () => {
    const names = Object.keys(FIELDS);
    const message_attributes = Object.fromEntries(names.map((name) => [name, `{${name}}`]));
    const options = { message_attributes, presence_attributes: message_attributes };
    assert.deepEqual(additionProblems(options), []);
    for (const event of [PRESENCE, PM, MUC])
      for (const attribute of (await published(event, options)).attributes)
        assert.equal(attributeProblem(attribute), undefined);
  });
});
