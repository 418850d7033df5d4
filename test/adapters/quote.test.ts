/** Quoted texts, read back by Lua, YAML, TOML and a shell. Needs Prosody's Lua. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { parse as parseToml } from 'smol-toml';
import { parse as parseYaml } from 'yaml';
import { loadHttpTap } from '../../src/config/load.ts';
import { luaString, shellWord, tomlString, yamlString } from '../../src/quote.ts';

const nasty = [
  '"',
  "'",
  '\\',
  '\\\\"',
  '%s %% %d',
  '${HOME} $${x} $(id) `id`',
  'line\nnext\r\n\ttab',
  '\u00007',
  '\u007f\u0085\u2028\ufeff',
  ' # -- [[x]] ]] ',
  'yes',
  '0x10',
  'ümläut 😀',
];
const texts = [...nasty, ...fc.sample(fc.string({ unit: 'binary', minLength: 1 }), { numRuns: 200, seed: 7 })];

describe('a literal is the text again', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'quote-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('a Lua literal gives the text back', () => {
    const file = path.join(folder, 'texts.lua');
    const hex = 'print((text:gsub(".", function (c) return ("%02x"):format(c:byte()) end)))';
    writeFileSync(file, texts.map((text) => `do local text = ${luaString(text)}; ${hex} end`).join('\n'));
    const [interpreter = ''] = readFileSync('/usr/bin/prosodyctl', 'utf8').split('\n');
    const [command = '', ...args] = interpreter.replace(/^#!\s*/, '').split(' ');
    const lines = execFileSync(command, [...args, file], { encoding: 'utf8' })
      .trimEnd()
      .split('\n');
    assert.deepEqual(
      lines,
      texts.map((text) => Buffer.from(text).toString('hex')),
    );
  });

  it('a YAML literal gives the text back', () => {
    for (const text of texts)
      assert.equal(parseYaml(`a: ${yamlString(text)}`, { version: '1.1' }).a, text, JSON.stringify(text));
  });

  it('a TOML literal gives the text back, and no variable ${NAME}', () => {
    for (const text of texts) {
      const read = parseToml(`a = ${tomlString(text)}`).a as string;
      assert.equal(read.replaceAll('$${', '${'), text, JSON.stringify(text));
      assert.doesNotMatch(read.replaceAll('$${', ''), /\$\{/);
    }
    const file = path.join(folder, 'pusher.toml');
    writeFileSync(file, `[tap.http]\nsecret = ${tomlString('a"b\\c${D}')}\n`);
    assert.equal(loadHttpTap(file, {}).options.secret, 'a"b\\c${D}');
  });

  it('a shell literal gives the text back', () => {
    const words = texts.map((text) => text.replaceAll('\0', ''));
    const printed = execFileSync('sh', ['-c', `printf '%s\\0' ${words.map(shellWord).join(' ')}`], {
      encoding: 'utf8',
    });
    assert.deepEqual(printed.split('\0').slice(0, -1), words);
  });
});
