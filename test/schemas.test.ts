/**
 * The schemas in schemas/: up to date, valid for two strict validators, and in agreement with the daemon about every
 * input.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { withFields } from '../scripts/docs.ts';
import { schemaFiles } from '../scripts/schemas.ts';
import { isMalformed, parseEvent } from '../src/event.ts';
import { FIELDS } from '../src/notification/fields.ts';
import { batchSchema } from '../src/taps/http/payload.ts';
import { version } from '../src/version.ts';

const ROOT = new URL('../', import.meta.url);
const read = (name: string) => readFileSync(new URL(name, ROOT), 'utf8');
const schema = (name: string) => JSON.parse(read(`schemas/${name}`));

const TAP = schema('tap-protocol.schema.json');
const NOTIFICATION = schema('notification.schema.json');
const ENVELOPE = schema('sns-envelope.schema.json');
const ASYNC_API = schema('asyncapi.json');

const EVENT = {
  $schema: TAP.$schema,
  ...TAP.$defs.event,
};

const ajv = new Ajv2020({ strict: true, allErrors: true });

/** Verdicts of Python's jsonschema, whose regular expressions differ from JavaScript's. */
function pythonVerdicts(document: object, instances: readonly unknown[]): boolean[] {
  const program = `
import json, sys
from jsonschema import Draft202012Validator
document, instances = json.load(sys.stdin)
Draft202012Validator.check_schema(document)
validator = Draft202012Validator(document)
print(json.dumps([validator.is_valid(instance) for instance in instances]))`;
  const input = JSON.stringify([document, instances]);
  const run = spawnSync('/usr/bin/python3', ['-c', program], {
    input,
    encoding: 'utf8',
    maxBuffer: 64 * 1_024 * 1_024,
  });
  assert.equal(run.status, 0, run.stderr);
  return JSON.parse(run.stdout);
}

const validEvents = [
  { kind: 'presence', at: 1, host: 'localhost', jid: 'alice@localhost/phone', present: true, sessions: 1 },
  {
    kind: 'message',
    at: 1,
    host: 'localhost',
    type: 'chat',
    from: 'a@b/c',
    to: 'b@c',
    body: '',
    stanza_id: 'm',
    stanza: '<m/>',
  },
];
/** Texts at the limits of XML, JIDs and names, in the middle and at the end, where regular expressions differ. */
const BORDERS = [
  ...[
    0x0, 0x8, 0x9, 0xa, 0xb, 0xc, 0xd, 0xe, 0x1f, 0x20, 0x7f, 0x85, 0x9f, 0xa0, 0x1680, 0x2003, 0x2028, 0x202f, 0x3000,
  ],
  ...[
    0x180e, 0x200b, 0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000, 0xfdd0, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0x1f600,
    0x10ffff,
  ],
].map((code) => String.fromCodePoint(code));
const AROUND = ['', ...BORDERS.flatMap((character) => [character, `a${character}`, `${character}b`, `a${character}b`])];
const LONG = ['x', 'ä', '😀'].flatMap((character) =>
  [255, 256, 257, 3_071, 3_072].map((count) => character.repeat(count)),
);
const values = fc.oneof(
  fc.constantFrom(...AROUND, ...LONG),
  fc.constantFrom(...AROUND).map((text) => `${text}@${text}/${text}`),
  fc.constantFrom(...AROUND).map((text) => `a@${text}`),
  fc.constantFrom(...AROUND).map((text) => `a@b/${text}`),
  fc.string({ unit: 'binary' }),
  fc.constantFrom(
    null,
    true,
    0,
    -1,
    1.5,
    2 ** 53,
    1e300,
    7,
    [],
    {},
    'chat',
    'groupchat',
    'presence',
    'message',
    'error',
  ),
);
const fields = [
  'kind',
  'at',
  'host',
  'jid',
  'present',
  'sessions',
  'type',
  'from',
  'to',
  'body',
  'stanza_id',
  'stanza',
];
/** A valid event with some fields changed or omitted. */
const anyEvent = fc
  .tuple(
    fc.constantFrom(...validEvents),
    fc.array(fc.tuple(fc.constantFrom(...fields, 'more'), values), { maxLength: 2 }),
    fc.option(fc.constantFrom(...fields)),
  )
  .map(([event, changes, left]) =>
    Object.fromEntries(Object.entries({ ...event, ...Object.fromEntries(changes) }).filter(([name]) => name !== left)),
  );
const anyBatch = fc
  .record(
    { source: values, epoch: values, first_seq: values, events: fc.constantFrom([], null, validEvents) },
    { requiredKeys: [] },
  )
  .map((batch) => ({ source: 'node', events: [], ...batch }));

describe('schemas/', () => {
  for (const [name, text] of schemaFiles(version))
    it(`${name} is up to date: run npm run docs`, () => {
      if (name.endsWith('.json')) assert.deepEqual(JSON.parse(read(name)), JSON.parse(text));
      else assert.equal(read(name).replaceAll(/\s+/g, ' '), text.replaceAll(/\s+/g, ' '));
    });

  it('every schema is valid for ajv in strict mode and for Python', () => {
    for (const document of [TAP, NOTIFICATION, ENVELOPE]) {
      ajv.compile(document);
      pythonVerdicts(document, []);
    }
  });

  it('the schemas agree with the daemon about every event, in ajv and in Python', () => {
    const validate = ajv.compile(EVENT);
    const edges = ['host', 'jid', 'from', 'to', 'body', 'stanza_id'].flatMap((field) =>
      [...AROUND, ...LONG].map((text) => ({ ...validEvents[field === 'jid' ? 0 : 1], [field]: text })),
    );
    const cases: object[] = [...validEvents, ...edges, ...fc.sample(anyEvent, 2_000)];
    const verdicts = pythonVerdicts(EVENT, cases);
    cases.forEach((event, index) => {
      const daemon = !isMalformed(parseEvent(event));
      const shown = JSON.stringify(event).slice(0, 200);
      assert.equal(validate(event), daemon, `ajv: ${shown}`);
      assert.equal(verdicts[index], daemon, `Python: ${shown}`);
    });
  });

  it('the schemas agree with the daemon about every batch, in ajv and in Python', () => {
    const validate = ajv.compile(TAP);
    const names = [...AROUND, ...LONG].map((text) => ({ source: text, events: [], epoch: text, first_seq: 1 }));
    const cases = [...names, ...fc.sample(anyBatch, 500)];
    const verdicts = pythonVerdicts(TAP, cases);
    cases.forEach((batch, index) => {
      const daemon = batchSchema.safeParse(batch).success;
      const shown = JSON.stringify(batch).slice(0, 200);
      assert.equal(validate(batch), daemon, `ajv: ${shown}`);
      assert.equal(verdicts[index], daemon, `Python: ${shown}`);
    });
  });

  it('asyncapi.json is an AsyncAPI 3 document', () => {
    const file = new URL(import.meta.resolve('@asyncapi/specs/schemas/3.0.0-without-$id.json'));
    const specification = JSON.parse(readFileSync(file, 'utf8'));
    const validate = new Ajv({ strict: false, validateFormats: false }).compile(specification);
    assert.ok(validate(ASYNC_API), JSON.stringify(validate.errors?.slice(0, 3)));
  });

  it('every reference in asyncapi.json resolves', () => {
    const references = JSON.stringify(ASYNC_API).matchAll(/"\$ref":"#\/([^"]+)"/g);
    const targets = [...references].map(([, target = '']) => target);
    assert.ok(targets.length >= 9);
    for (const target of targets) {
      const found = target.split('/').reduce<unknown>((at, key) => (at as Record<string, unknown>)?.[key], ASYNC_API);
      assert.ok(found, target);
    }
  });

  it('the table of fields in docs/notifications.md is up to date: run npm run docs', () => {
    assert.equal(read('docs/notifications.md'), withFields(read('docs/notifications.md')));
    for (const name of Object.keys(FIELDS)) assert.ok(read('docs/notifications.md').includes(`| \`${name}\` |`), name);
  });

  it('notification.schema.json knows every name that body_fields may add', () => {
    for (const name of Object.keys(FIELDS)) assert.ok(name in NOTIFICATION.$defs.presence.properties, name);
  });
});
