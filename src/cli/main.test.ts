import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import type { Command } from 'commander';
import { commandLine } from '../../test/support/command-line.ts';

import { BIN } from '../../test/support/daemon.ts';
import { launch } from '../../test/support/process.ts';

import { createProgram } from './main.ts';

describe('the command line', () => {
  it('--version prints the release', async () => {
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
    it(`prints help for ${command.join(' ')} --help`, async (t) => {
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
    [
      'nothing chosen',
      ['dead-letters', 'purge'],
      /error: say which: their numbers, --reason, --topic and --match, or --all/,
    ],
    ['all and a number', ['dead-letters', 'replay', '--all', '1'], /error: say which in one way: their numbers/],
    ['a number and a reason', ['dead-letters', 'purge', '1', '--reason', 'x'], /error: say which in one way/],
    ['all and a topic', ['dead-letters', 'purge', '--all', '--topic', 'x'], /error: say which in one way/],
    ['a source and all', ['sources', 'acknowledge', 'a', '--all'], /error: name a source, or say --all/],
    ['no source and not all', ['sources', 'acknowledge'], /error: name a source, or say --all/],
    [
      'a tap and a configuration',
      ['adapter', 'check', '--url', 'x', '-c', 'y'],
      /--url <url>' cannot be used with option '-c/,
    ],
    ['a server that is none', ['adapter', 'install', 'openfire'], /Allowed choices are prosody, ejabberd, mongooseim/],
    ['a key that is no ARN', ['iam-policy', '--kms-key', 'alias/mine'], /It should be the ARN of a key/],
    ['an option twice', ['check', '-c', 'a', '--config', 'b'], /error: option '-c, --config <file>' is given twice/],
    ['an option with nothing', ['dead-letters', 'purge', '--reason', ''], /'--reason <reason>' has an empty value/],
    ['an argument with nothing', ['sources', 'acknowledge', ''], /error: argument 'source' is empty/],
    ['a source of spaces', ['sources', 'retire', ' '], /error: argument 'source' is empty/],
    ['nothing to find', ['find', ''], /error: argument 'what' is empty/],
    ['too many findings', ['find', 'a', '--limit', '1001'], /'1001' is invalid.*at most 1,000/],
    ['a region that is none', ['capacity', '--users', '1', '--region', 'toString'], /should be a region such as/],
    ['more users than there can be', ['capacity', '--users', '1e300'], /'1e300' is invalid.*It is too large/],
    ['no quota', ['capacity', '--users', '1', '--quota', '0'], /'0' is invalid.*above 0/],
    ['no time to come back', ['capacity', '--users', '1', '--reconnect', '0'], /'0' is invalid.*above 0/],
    ...['0', '-1', '1.5', '1e3', '0x10', ' ', '١'].map(
      (text) => [`${text} for a number`, ['dead-letters', 'list', '--limit', text], /whole number above zero/] as const,
    ),
    ['a negative number', ['dead-letters', 'show', '-1'], /'-1' is invalid.*whole number above zero/],
    ['zero', ['dead-letters', 'replay', '1', '0'], /'0' is invalid.*whole number above zero/],
    ['a huge number', ['dead-letters', 'show', '9'.repeat(20)], /is invalid.*It is too large/],
  ] as const)
    it(`exits with 2 at ${what}`, async (t) => {
      const { code, output } = await commandLine(t, ...args);
      assert.equal(code, 2);
      assert.match(output, problem);
    });

  it('exits with 2 and runs nothing at unexpected arguments', async (t) => {
    const leaves = (command: Command): Command[] =>
      command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
    const pathOf = (command: Command): string[] => (command.parent ? [...pathOf(command.parent), command.name()] : []);
    const all = leaves(await createProgram());
    assert.ok(all.length > 12, `${all.length} commands`);
    for (const command of all) {
      const args = [...pathOf(command), ...command.registeredArguments.map(({ argChoices }) => argChoices?.[0] ?? '1')];
      for (const { mandatory, long } of command.options) if (mandatory) args.push(long ?? '', '1');
      const { code, output } = await commandLine(t, ...args, 'surplus');
      assert.equal(code, 2, `${args.join(' ')}: ${output}`);
      assert.match(output, /too many arguments|'surplus' is invalid/);
    }
  });

  it("exits with 78 if the configuration can't be read", async (t) => {
    const { code, output } = await commandLine(t, 'dead-letters', 'list', '--config', '/nowhere/pusher.toml');
    assert.equal(code, 78);
    assert.match(output, /can't read the configuration \/nowhere\/pusher\.toml: ENOENT/);
    assert.doesNotMatch(output, /\n\s+at /, 'no stack for what is not a bug');
  });
});
