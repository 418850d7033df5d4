import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { forbiddenCharacter } from '../xml.ts';
import { attributeBytes, attributeProblem, type MessageAttribute, sizeProblem } from './lint.ts';

const attribute = (fields: Partial<MessageAttribute>): MessageAttribute => ({
  name: 'name',
  type: 'String',
  value: 'value',
  ...fields,
});

describe("SNS's rules for a message attribute", () => {
  for (const name of [
    'a',
    'A-Z_0.9',
    'a.b.c',
    '_',
    '-',
    '0',
    'aws',
    'awsome',
    'my.aws.x',
    'amazonas.x',
    'x'.repeat(256),
  ])
    it(`accepts the attribute name ${name.slice(0, 20)}`, () =>
      assert.equal(attributeProblem(attribute({ name })), undefined));

  const FORM = 'its name may hold ASCII letters, digits, _, - and single dots inside, and must not be empty';
  const RESERVED = 'names that start with "aws." or "amazon." are reserved';
  for (const [name, problem] of [
    ['', FORM],
    ['.a', FORM],
    ['a.', FORM],
    ['a..b', FORM],
    ['.', FORM],
    ['a b', FORM],
    ['größe', FORM],
    ['a:b', FORM],
    ['a\n', FORM],
    ['aws.x', RESERVED],
    ['AWS.x', RESERVED],
    ['Amazon.x', RESERVED],
    ['x'.repeat(257), 'its name has 257 characters, at most 256 are allowed'],
  ] as const)
    it(`refuses the attribute name ${JSON.stringify(name.slice(0, 20))}`, () =>
      assert.equal(attributeProblem(attribute({ name })), problem));

  for (const value of [
    ' ',
    '\t',
    '\n',
    '\r',
    '\ud7ff',
    '\ue000',
    '\ufffd',
    '👩‍👩‍👧‍👦',
    '\u{10ffff}',
    '\u007f',
    '\u0085',
  ])
    it(`accepts the attribute value ${JSON.stringify(value)}`, () =>
      assert.equal(attributeProblem(attribute({ value })), undefined));

  for (const [value, character] of [
    ['a\u0000b', 'U+0000'],
    ['\u0008', 'U+0008'],
    ['\u000b', 'U+000B'],
    ['\u001f', 'U+001F'],
    ['\ud800', 'U+D800'],
    ['x\udc00', 'U+DC00'],
    ['\udfff\ud800', 'U+DFFF'],
    ['\ufffe', 'U+FFFE'],
    ['\uffff', 'U+FFFF'],
  ] as const)
    it(`refuses the attribute value ${JSON.stringify(value)}`, () => {
      assert.equal(forbiddenCharacter(value), character);
      assert.equal(attributeProblem(attribute({ value })), `its value holds ${character}, which SNS does not allow`);
    });

  it('refuses empty values of every type', () => {
    for (const empty of [
      { type: 'String', value: '' },
      { type: 'Number', value: '' },
      { type: 'Binary', value: '' },
      { type: 'String.Array', value: '[]' },
    ] as const)
      assert.equal(attributeProblem(attribute(empty)), 'its value is empty');
    assert.equal(attributeProblem(attribute({ type: 'String', value: '[]' })), undefined);
    assert.equal(attributeProblem(attribute({ type: 'String.Array', value: '[""]' })), undefined);
  });
});

describe("SNS's sizes", () => {
  it("counts an attribute's name, type and value in bytes, a Binary before base64", () => {
    assert.equal(attributeBytes(attribute({ name: 'ab', type: 'String', value: 'äö' })), 2 + 6 + 4);
    assert.equal(attributeBytes(attribute({ name: 'ab', type: 'Number', value: '12' })), 2 + 6 + 2);
    assert.equal(attributeBytes(attribute({ name: 'ab', type: 'String.Array', value: '["a"]' })), 2 + 12 + 5);
    for (const length of [1, 2, 3, 4, 100])
      assert.equal(
        attributeBytes(attribute({ name: 'b', type: 'Binary', value: Buffer.alloc(length, 7).toString('base64') })),
        1 + 6 + length,
      );
  });

  it('limits message and attributes together, to the byte', () => {
    assert.equal(sizeProblem(262_000, 144, 262_144), undefined);
    assert.equal(
      sizeProblem(262_000, 145, 262_144),
      'message of 262000 bytes and attributes of 145 bytes make 262145, the topic takes 262144',
    );
  });
});
