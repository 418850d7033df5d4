/**
 * Commands and configurations in the documents: each command is one that its program takes, each block of TOML loads.
 * `npm run test:first-hour` runs those of the quick starts in a fresh Debian.
 */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { createProgram } from '../src/cli/main.ts';
import { parseConfig } from '../src/config/load.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PAGES = [
  'README.md',
  ...globSync('docs/*.md', { cwd: ROOT }),
  ...globSync('adapters/*/README.md', { cwd: ROOT }),
];
const QUICK_STARTS = PAGES.filter((page) => /quick-start/.test(page));
const read = (page: string) => readFileSync(path.join(ROOT, page), 'utf8');

/** The blocks of one language between fences. */
const blocks = (page: string, language: string): string[] =>
  [...read(page).matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, of]) => of === language)
    .map(([, , text]) => text ?? '');

/** The lines of a page that a person types. */
const typed = (page: string): string[] => blocks(page, 'sh').flatMap((text) => text.trimEnd().split('\n'));

/** What a line runs: parts with variables, and without what a shell does with them. */
const commandsOf = (line: string): string[][] =>
  line
    .replace(/\s#.*$/, '')
    .split(/\s+(?:&&|\|)\s+/)
    .map((part) => part.trim().split(/\s+/));

/** Every command line of ours in a page, between fences or indented. */
const ours = (page: string): string[] =>
  [...read(page).matchAll(/^(?: {4,}|)(?:\$ )?(?:\w+=\S* )*(xmpp-event-pusher [^\n]+)$/gm)]
    .map(([, line]) => (line ?? '').replace(/\s+#.*$/, '').replace(/\s+(&&|\||>).*$/, ''))
    // The output of --version, and units.
    .filter((line) => !/^xmpp-event-pusher (v?\d|\|)/.test(line));

/** Parses a command line of ours without running it. */
async function parse(line: string): Promise<void> {
  const program = createProgram().configureOutput({ writeErr: () => {} });
  const disarm = (command: Command): void => {
    if (command.commands.length === 0) command.action(() => {});
    command.commands.forEach(disarm);
  };
  disarm(program);
  const words = [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].slice(1).map(([, a, b, c]) => a ?? b ?? c ?? '');
  await program.parseAsync(['node', 'xmpp-event-pusher', ...words]);
}

describe('the documents', () => {
  it('name only commands that there are, with options that these take', async () => {
    let count = 0;
    for (const page of PAGES)
      for (const line of ours(page)) {
        await assert.doesNotReject(parse(line), `${page}: ${line}`);
        count += 1;
      }
    assert.ok(count > 40, `${count} commands`);
  });

  it('have configurations that load', () => {
    const environment = new Proxy({} as Record<string, string>, {
      get: () => 'a-secret-long-enough',
      getOwnPropertyDescriptor: () => ({ configurable: true, enumerable: true, value: '' }),
    });
    const SNS =
      '[modules.mod_event_pusher.sns]\nsns_host = "x"\nregion = "r"\naccount_id = "123456789012"\ncredentials = "aws"\n';
    const found = PAGES.flatMap((page) => blocks(page, 'toml').map((text) => ({ page, text })));
    assert.ok(found.length > 2, `${found.length} blocks`);
    for (const { page, text } of found)
      assert.doesNotThrow(
        () => parseConfig(/mod_event_pusher\.sns\]/.test(text) ? text : SNS + text, '/pusher.toml', environment),
        page,
      );
  });
});

describe('the README and the quick starts', () => {
  it('take six lines at most from nothing to a notification', () => {
    assert.equal(QUICK_STARTS.length, 3);
    for (const page of QUICK_STARTS) {
      const lines = typed(page).length - (blocks(page, 'sh').at(-1)?.includes('adapter status') ? 3 : 0);
      assert.ok(lines <= 6, `${page}: ${lines} lines`);
    }
    assert.ok(read('README.md').split('\n').length < 120);
  });

  it('use only programs that the page brings, files that the package has, and scripts that there are', () => {
    const { scripts } = JSON.parse(read('package.json'));
    const deb = read('scripts/deb.ts');
    const known = /^(export|apt|aws|systemctl|xmpp-event-pusher|npm)$/;
    for (const page of ['README.md', ...QUICK_STARTS])
      for (const line of typed(page))
        for (const [program = '', ...words] of commandsOf(line)) {
          assert.match(program, known, `${page}: ${line}`);
          if (program === 'npm' && words[0] === 'run') assert.ok(scripts[words[1] ?? ''], line);
          const file = words.find((word) => word.startsWith('/usr/share/doc/xmpp-event-pusher/'));
          if (file) assert.ok(deb.includes(`\${doc}/${path.basename(file)}`), file);
        }
  });

  it('name the release of this package, and pictures that there are', () => {
    const { version } = JSON.parse(read('package.json'));
    for (const page of PAGES)
      for (const [, named] of read(page).matchAll(/xmpp-event-pusher_([\d.]+)_\w+\.deb/g))
        assert.equal(named, version, page);
    const [, picture = ''] = /!\[[^\]]*\]\(([^)]+)\)/.exec(read('README.md')) ?? [];
    assert.ok(existsSync(path.join(ROOT, picture)), picture);
  });
});
