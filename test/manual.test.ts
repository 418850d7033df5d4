/** The package's manual page. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Command } from 'commander';
import { manualPage } from '../scripts/deb/manual.ts';
import { all, treeOf } from '../src/cli/completion/tree.ts';
import { EXIT } from '../src/cli/exit-codes.ts';
import { createProgram } from '../src/cli/main.ts';

const tree = treeOf(await createProgram());
const page = manualPage(tree, '1.2.3', '2026-11-29');
/** As a reader sees it, without the requests at the beginnings of lines. */
const lines = page
  .replace(/^\.(SH|SS|B|I|BR|TH) /gm, '')
  .replaceAll('\\-', '-')
  .replaceAll('\\e', '\\')
  .split('\n');

describe('the manual page', () => {
  it('lists every command with every argument and option', () => {
    const commands = all(tree).filter(({ commands }) => commands.length === 0);
    assert.ok(commands.length > 15, `${commands.length} commands`);
    for (const { path, arguments: given, options } of commands) {
      const title = [path.join(' '), ...given.map(({ form }) => form)].join(' ');
      const start = lines.indexOf(title);
      assert.notEqual(start, -1, title);
      const end = lines.findIndex((line, at) => at > start && line === '.TP' && lines[at + 1] === '0');
      const section = lines.slice(start, end);
      for (const { form, flags } of options)
        if (!flags.includes('--help')) assert.ok(section.includes(form), `${title}: ${form}`);
    }
  });

  it("shows the options' default values and choices, as the help does", async () => {
    const descendants = (command: Command): Command[] => [command, ...command.commands.flatMap(descendants)];
    const options = descendants(await createProgram()).flatMap((command) => command.options);
    const text = lines.join('\n');
    const defaults = options.filter(({ defaultValue }) => !['undefined', 'boolean'].includes(typeof defaultValue));
    assert.ok(defaults.length > 2, `${defaults.length} default values`);
    for (const { flags, defaultValue, description } of defaults)
      assert.ok(text.includes(`${flags}\n${description} (`), `${flags}: ${defaultValue}`);
    assert.match(text, /--tap-listen <address>\n.* \(default: "127\.0\.0\.1:5290"\)\n/);
    assert.match(text, /--server <name>\n.* \(choices: "prosody", "ejabberd", "mongooseim", "none"\)\n/);
  });

  it('lists the options of the program itself', () => {
    const start = lines.indexOf('OPTIONS');
    const section = lines.slice(start, lines.indexOf('COMMANDS'));
    assert.ok(start > 0);
    for (const option of ['-V, --version', '-h, --help']) assert.ok(section.includes(option), section.join('\n'));
  });

  it('has no line that roff takes for a request by mistake', () => {
    for (const line of page.split('\n'))
      if (/^[.']/.test(line)) assert.match(line, /^\.(TH|SH|SS|TP|B|I|BR)( |$)/, line);
  });

  it('lists every exit code', () => {
    for (const code of Object.values(EXIT)) assert.ok(lines.includes(String(code)), String(code));
  });
});
