import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { cleanCode, cleanHeader, cleanText } from './clean.ts';

const sent = (...texts: string[]) => ({ secrets: [], texts });
const MESSAGE = JSON.stringify({
  to_user_id: 'bob@localhost',
  message: 'meet me at "nine"\nbring €',
  from_user_id: 'a@b',
});

describe('a code of an answer', () => {
  it('reduces an error code to 80 letters, digits and dots', () => {
    for (const code of ['NotFound', 'KMS.Throttling', 'x'.repeat(80)]) assert.equal(cleanCode(code), code);
    for (const code of ['', 'Not Found', 'a\nb', '<b>', 'é', 'x'.repeat(81)]) assert.equal(cleanCode(code), 'unknown');
  });
});

describe('a text of an answer', () => {
  it('keeps a text that quotes nothing', () => {
    const text = 'Invalid parameter: TopicArn Reason: A cn-northwest-1 ARN must begin with arn:aws-cn';
    assert.equal(cleanText(text, sent(MESSAGE)), text);
  });

  it('reduces a text to one line of 300 characters', () => {
    assert.equal(cleanText('a\r\n\u0000b\u202ec\u2028d'), 'a b c d');
    assert.equal(cleanText('y'.repeat(5_000)).length, 300);
    assert.ok(cleanText('y'.repeat(5_000)).endsWith('y…'));
  });

  it('removes signatures and keys from a text', () => {
    const secrets = ['wJalrXUtnFEMI', 'token=='];
    const text = `Signature=${'0a'.repeat(32)}, wJalrXUtnFEMI and token== and ${'AB'.repeat(32)}`;
    assert.equal(cleanText(text, { secrets, texts: [] }), 'Signature=…, … and … and …');
  });

  for (const [how, quote] of [
    ['whole', MESSAGE],
    ['percent-encoded', encodeURIComponent(MESSAGE)],
    ['as JSON in JSON', JSON.stringify(MESSAGE)],
    ['in part', 'meet me at'],
    ['between quotation marks', '"a@b"'],
  ] as const)
    it(`does not quote the message ${how}`, () => {
      const text = cleanText(`Invalid parameter: ${quote} is refused`, sent('other', MESSAGE));
      assert.match(text, /^Invalid parameter: \S* ?is refused$/);
      assert.match(text, /…/);
      assert.doesNotMatch(text, /meet|nine|bring|a@b|bob/);
    });

  it('removes every quote of eight characters or more of the request', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 8 }), fc.string(), fc.string(), (body, before, after) => {
        const message = JSON.stringify({ message: body });
        const shown = cleanText(`${before}${message}${after}`, sent(message));
        for (let start = 0; start + 8 <= shown.length; start++)
          assert.ok(!message.includes(shown.slice(start, start + 8)), shown);
      }),
    );
  });
});

describe('a header of an answer', () => {
  it('reduces a header to one short line', () => {
    assert.equal(cleanHeader('nginx\u0007/1'), 'nginx /1');
    assert.equal(cleanHeader('x'.repeat(500)).length, 80);
  });
});
