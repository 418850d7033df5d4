import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, describe, it } from 'node:test';
import { isFromEnvFile, parseEnvFile, readEnvFile } from './env-file.ts';

describe('an environment file', () => {
  for (const [what, text, expected] of [
    ['a plain value', 'A=b', { A: 'b' }],
    ['an empty value', 'A=\nB=', { A: '', B: '' }],
    ['white space around', '  A =  b c  \n', { A: 'b c' }],
    ['comments and empty lines', '# A=1\n\n; B=2\n  # C=3\nD=4#5', { D: '4#5' }],
    ['a comment that goes on in the next line', '# one \\\nA=1\nB=2', { B: '2' }],
    ['equals signs', 'A=b=c==', { A: 'b=c==' }],
    ['double quotes', 'A=" b "\nB="c', { A: ' b ', B: 'c' }],
    ['escapes in double quotes', 'A="\\"\\\\\\$\\`\\n"', { A: '"\\$`\\n' }],
    ['single quotes', String.raw`A=' \"$b '`, { A: String.raw` \"$b ` }],
    ['quotes one after the other', `A='b'"c" d`, { A: 'bcd' }],
    ['quotes inside', `A=it's "so"`, { A: `it's "so"` }],
    ['a value of several lines', 'A="b\nc"\nD=e', { A: 'b\nc', D: 'e' }],
    ['a line that goes on', 'A=b\\\nc\nD="e\\\nf"', { A: 'bc', D: 'ef' }],
    ['escapes outside of quotes', 'A=\\"b\\ \\c ', { A: '"b c' }],
    ['the same name twice', 'A=1\nA=2', { A: '2' }],
    ['line ends of Windows', 'A=1\r\nB=2\r\n', { A: '1', B: '2' }],
    ['Unicode', 'A=ü 😀', { A: 'ü 😀' }],
    ['no substitution', 'A=$B${C}', { A: '$B${C}' }],
  ] as const)
    it(`reads ${what} as systemd does`, () => {
      const { variables, ignored } = parseEnvFile(text);
      assert.deepEqual([Object.fromEntries(variables), ignored], [expected, []]);
    });

  it('names lines that set no variable', () => {
    const { variables, ignored } = parseEnvFile('A=1\nexport B=2\nhello\n3=4\n=5\nC="x\ny"\nnothing');
    assert.deepEqual(
      [[...variables.keys()], ignored],
      [
        ['A', 'C'],
        [2, 3, 4, 5, 8],
      ],
    );
  });
});

describe('the environment of a command', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'env-file-'));
  const file = path.join(folder, 'environment');
  after(() => rmSync(folder, { recursive: true }));
  afterEach(() => readEnvFile(path.join(folder, 'none'), { named: false }, {}));

  it('combines the environment file with the inherited variables', () => {
    writeFileSync(file, 'A=file\nB=file\n');
    const environment: NodeJS.ProcessEnv = { B: 'real' };
    readEnvFile(file, { named: false }, environment);
    assert.deepEqual(environment, { A: 'file', B: 'real' });
    assert.deepEqual([isFromEnvFile('A'), isFromEnvFile('B')], [true, false]);
  });

  it('follows changes of the environment file at a reload, and can restore the former ones', () => {
    const environment: NodeJS.ProcessEnv = {};
    writeFileSync(file, 'A=1\nB=1\n');
    readEnvFile(file, { named: false }, environment);
    writeFileSync(file, 'A=2\nC=2\n');
    const { undo } = readEnvFile(file, { named: false }, environment);
    assert.deepEqual(environment, { A: '2', C: '2' });
    undo();
    assert.deepEqual(environment, { A: '1', B: '1' });
    readEnvFile(path.join(folder, 'none'), { named: false }, environment);
    assert.deepEqual(environment, {});
  });

  it("keeps the environment if the file can't be read", () => {
    const environment: NodeJS.ProcessEnv = { A: '1' };
    const { fault } = readEnvFile(folder, { named: false }, environment);
    assert.equal(fault?.code, 'EISDIR');
    assert.deepEqual(environment, { A: '1' });
  });
});
