/** EUnit tests of the modules that the Erlang adapters share. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { globSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { compileAdapter } from '../support/ejabberd.ts';
import { compileErlang } from '../support/erlang.ts';

const run = promisify(execFile);
const tests = globSync(path.join(import.meta.dirname, 'erlang/*_tests.erl')).toSorted();

describe('the modules of the Erlang adapters', () => {
  let adapter: string;
  let dir: string;
  before(async () => {
    adapter = await compileAdapter();
    dir = await compileErlang(tests);
  });

  for (const file of tests) {
    const module = path.basename(file, '.erl');
    test(module, async () => {
      const ask = `Result = eunit:test(${module}, [verbose]), halt(case Result of ok -> 0; _ -> 1 end).`;
      const { stdout } = await run('erl', ['-noshell', '-pa', adapter, '-pa', dir, '-eval', ask]).catch(
        (error: { stdout: string; stderr: string }) => assert.fail(`${error.stdout}\n${error.stderr}`),
      );
      assert.match(stdout, /All \d+ tests passed|Test passed/);
    });
  }
});
