/** The package's manual page. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { manualPage } from '../scripts/deb/manual.ts';
import { all, treeOf } from '../src/cli/completion/tree.ts';
import { EXIT } from '../src/cli/exit-codes.ts';
import { createProgram } from '../src/cli/main.ts';

const tree = treeOf(createProgram());
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

  it('has no line that roff takes for a request by mistake', () => {
    for (const line of page.split('\n'))
      if (/^[.']/.test(line)) assert.match(line, /^\.(TH|SH|SS|TP|B|I|BR)( |$)/, line);
  });

  it('lists every exit code', () => {
    for (const code of Object.values(EXIT)) assert.ok(lines.includes(String(code)), String(code));
  });
});
