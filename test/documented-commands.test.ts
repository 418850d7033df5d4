/**
 * Commands and options in the documents, in blocks, in sentences and after `docker exec`: all of them must exist.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { createProgram } from '../src/cli/main.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PAGES = ['*.md', 'docs/**/*.md', 'adapters/*/README.md', 'examples/**/*.md', 'deploy/**/*.md'].flatMap(
  (pattern) => globSync(pattern, { cwd: ROOT }),
);
/** Options of other programs. */
const FOREIGN = new Set(
  ['health-cmd', 'no-healthcheck', 'arch', 'fresh', 'keep', 'recorded'] // docker, npm run
    .concat(['max-semi-space-size', 'heap-growing-percent', 'perf-basic-prof', 'no-parallel-scavenge'])
    .concat(['unhandled-rejections', 'import', 'no-warnings'])
    .map((name) => `--${name}`),
);

interface Found {
  readonly page: string;
  readonly text: string;
}

const FENCED = /^( *)```(\w*)\n([\s\S]*?)^ *```$/gm;
const read = (page: string) => readFileSync(path.join(ROOT, page), 'utf8');

/** A page's shell lines, with continuation lines joined. */
const shellLines: Found[] = PAGES.flatMap((page) => {
  const text = read(page);
  const fenced = [...text.matchAll(FENCED)].filter(([, , language]) => language === 'sh').map(([, , , of]) => of ?? '');
  const indented = text.replace(FENCED, '').match(/^ {4,}\S.*$/gm) ?? [];
  return [...fenced, indented.join('\n')]
    .flatMap((of) => of.replaceAll('\\\n', ' ').split('\n'))
    .map((line) => ({ page, text: line.trim().replace(/^\$ /, '') }));
});

/** Texts in backquotes within sentences. */
const spans: Found[] = PAGES.flatMap((page) =>
  [
    ...read(page)
      .replace(FENCED, '')
      .matchAll(/`([^`]+)`/g),
  ].map(([, text = '']) => ({
    page,
    text: text.replace(/\s+/g, ' '),
  })),
);

const PROGRAM = await createProgram();
const NAMES = PROGRAM.commands.map((command) => command.name());
const WITH_SUBCOMMANDS = PROGRAM.commands
  .filter((command) => command.commands.length > 0)
  .map((command) => command.name());

/** Our command lines in a text, without the program's name and shell redirections. */
const commandsIn = (text: string): string[] =>
  [...text.matchAll(/xmpp-event-pusher ((?!xmpp-event-pusher)[a-z].*)$/g)].map(([, line = '']) =>
    line.replace(/\s+#.*$/, '').replace(/\s+(&&|\||>|;).*$|\)$/, ''),
  );

/** Command lines without the program's name: `dead-letters list`, `init --help`. */
const shortened = (text: string): string[] =>
  new RegExp(`^(${NAMES.join('|')}) -`).test(text) || WITH_SUBCOMMANDS.some((name) => text.startsWith(`${name} `))
    ? [text]
    : [];

/** Parses a command line without running it; returns what is wrong. */
async function faultIn(line: string): Promise<string | undefined> {
  const program = await createProgram();
  const disarm = (command: Command): void => {
    command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} });
    if (command.commands.length === 0) command.action(() => {});
    command.commands.forEach(disarm);
  };
  disarm(program);
  const words = [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? '');
  try {
    await program.parseAsync(['node', 'xmpp-event-pusher', ...words]);
    return undefined;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return /help/.test(code ?? '') ? undefined : message;
  }
}

describe('the documents', () => {
  it('documented shell lines have valid syntax', () => {
    for (const page of PAGES)
      for (const [, , language, text = ''] of read(page).matchAll(FENCED)) {
        if (language !== 'sh') continue;
        const { status, stderr } = spawnSync('sh', ['-n'], { input: text, encoding: 'utf8' });
        assert.equal(status, 0, `${page}: ${stderr}${text}`);
      }
  });

  it('documented command lines are valid', async () => {
    const found = shellLines.flatMap(({ page, text }) => commandsIn(text).map((line) => ({ page, line })));
    assert.ok(found.length > 50, `${found.length} commands`);
    assert.ok(
      found.some(({ line }) => line === 'dead-letters list'),
      'those of docker exec too',
    );
    for (const { page, line } of found) assert.equal(await faultIn(line), undefined, `${page}: ${line}`);
  });

  it('commands named in sentences exist, with their options', async () => {
    const found = spans.flatMap(({ page, text }) => {
      const whole = commandsIn(text);
      return (whole.length > 0 ? whole : shortened(text)).map((line) => ({ page, line }));
    });
    assert.ok(found.length > 30, `${found.length} commands`);
    for (const { page, line } of found) {
      const fault = (await faultIn(line)) ?? '';
      // A sentence may omit which dead letter.
      assert.ok(fault === '' || /missing required argument|not specified/.test(fault), `${page}: ${line}: ${fault}`);
    }
  });

  it('options named in sentences exist', () => {
    const known = new Set(['--help', '--version']);
    const visit = (command: Command): void => {
      for (const { long } of command.options) if (long) known.add(long);
      command.commands.forEach(visit);
    };
    visit(PROGRAM);
    const named = spans.flatMap(({ page, text }) =>
      (/^(--[a-z][a-z-]+)/.exec(text) ?? []).slice(1).map((option) => ({ page, option })),
    );
    assert.ok(named.length > 20, `${named.length} options`);
    assert.deepEqual(
      named.filter(({ option }) => !known.has(option) && !FOREIGN.has(option)),
      [],
    );
  });
});
