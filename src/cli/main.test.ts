import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { commandLine } from '../../test/support/command-line.ts';
import { BIN } from '../../test/support/daemon.ts';
import { launch } from '../../test/support/process.ts';

describe('the command line', () => {
  it('says which release it is', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    const child = await launch(process.execPath, [BIN, '--version']);
    assert.equal(await child.exited, 0);
    assert.equal(child.output(), `${version}\n`);
  });

  for (const command of [
    [],
    ['run'],
    ['check'],
    ['dead-letters'],
    ['dead-letters', 'list'],
    ['dead-letters', 'replay'],
    ['dead-letters', 'show'],
  ])
    it(`explains itself: ${command.join(' ')} --help`, async (t) => {
      const { code, output } = await commandLine(t, ...command, '--help');
      assert.equal(code, 0);
      assert.match(output, new RegExp(`^Usage: xmpp-event-pusher ${command.join(' ')}`));
    });

  for (const [what, args, problem] of [
    ['no command', [], /^Usage: xmpp-event-pusher/],
    ['an unknown command', ['runn'], /error: unknown command 'runn'\n\(Did you mean run\?\)/],
    ['an unknown option', ['run', '--confg', 'x'], /error: unknown option '--confg'\n\(Did you mean --config\?\)/],
    ['an option without its value', ['check', '--config'], /error: option '-c, --config <file>' argument missing/],
    ['a number that is none', ['dead-letters', 'show', 'first'], /'first' is invalid.*whole number above zero/],
    ['nothing chosen', ['dead-letters', 'purge'], /error: say which: their numbers, --reason, --topic or --all/],
  ] as const)
    it(`exits with 2 at ${what}`, async (t) => {
      const { code, output } = await commandLine(t, ...args);
      assert.equal(code, 2);
      assert.match(output, problem);
    });

  it('exits with 78 when the configuration can not be read', async (t) => {
    const { code, output } = await commandLine(t, 'dead-letters', 'list', '--config', '/nowhere/pusher.toml');
    assert.equal(code, 78);
    assert.match(output, /can't read the configuration \/nowhere\/pusher\.toml: ENOENT/);
    assert.doesNotMatch(output, /\n\s+at /, 'no stack for what is not a bug');
  });
});
