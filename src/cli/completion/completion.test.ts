/** The completions, in the shells that they are for. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createProgram } from '../main.ts';
import { COMPLETIONS } from './command.ts';
import { all, treeOf } from './tree.ts';

const tree = treeOf(await createProgram());

/** One line that is begun, and what the shell offers for its last word, or some of it. */
const CASES: readonly (readonly [line: string, offered: readonly string[]])[] = [
  ['dead-l', ['dead-letters']],
  ['dead-letters ', ['list', 'show', 'replay', 'purge']],
  ['dead-letters replay --a', ['--all']],
  ['adapter install pro', ['prosody']],
  ['adapter status --con', ['--config']],
  // A command of that name is there twice.
  ['adapter stat', ['status']],
  ['status --wat', ['--watch']],
  ['completion ', ['bash', 'fish', 'zsh']],
];

describe('the completion', () => {
  let folder: string;
  const file = (shell: string) => path.join(folder, shell);
  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'completion-'));
    for (const [shell, make] of Object.entries(COMPLETIONS)) writeFileSync(file(shell), make(tree));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function run(shell: string, ...args: string[]): string {
    const env = { PATH: process.env.PATH, HOME: folder, TERM: 'dumb' };
    const { stdout, stderr, status } = spawnSync(shell, args, { env, cwd: folder, encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
    assert.equal(stderr, '');
    return stdout;
  }

  it('the completion knows every command and option', () => {
    const nodes = all(tree);
    assert.ok(nodes.length > 20);
    const text = Object.keys(COMPLETIONS).map((shell) => COMPLETIONS[shell]?.(tree) ?? '');
    for (const node of nodes)
      for (const flag of node.options.flatMap(({ flags }) => flags.filter((each) => each.startsWith('--'))))
        for (const each of text) assert.ok(each.includes(flag.slice(2)), `${node.path.join(' ')} ${flag}`);
  });

  it('the completion offers files for every option that takes one', () => {
    const files = all(tree).flatMap(({ options }) => options.filter(({ value }) => value?.kind === 'file'));
    for (const flag of ['--config', '--env-file', '--from', '--server-config', '--ca', '--events'])
      assert.ok(
        files.some(({ flags }) => flags.includes(flag)),
        flag,
      );
  });

  for (const [line, offered] of CASES) {
    it(`offers ${offered.join(', ')} in bash for: ${line}`, () => {
      const script = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _xmpp_event_pusher; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const words = run('bash', '--norc', '-uc', script, 'bash', file('bash'), 'xmpp-event-pusher', ...line.split(' '));
      for (const word of offered) assert.ok(words.split('\n').includes(word), words);
    });

    it(`offers ${offered.join(', ')} in fish for: ${line}`, () => {
      const words = run('fish', '--no-config', '-c', `source ${file('fish')}; complete -C "xmpp-event-pusher ${line}"`);
      const first = words.split('\n').map((each) => each.split('\t')[0]);
      for (const word of offered) assert.ok(first.includes(word), words);
    });
  }

  it('zsh completes a word that is unique', () => {
    const lines = CASES.filter(([, offered]) => offered.length === 1);
    writeFileSync(
      file('start'),
      `PS1= RPS1=; autoload -Uz compinit; compinit -u -D; source ${file('zsh')}
      xmpp-event-pusher() { print -r -- "<$*>" }
      print ready`,
    );
    // A shell with a terminal, in which each line is typed with a Tab and then run.
    const script = `zmodload zsh/zpty; zpty shell zsh -fi
      zpty -w shell ". ${file('start')}"; zpty -r shell out '*ready*'
      for line in "$@"; do
        zpty -w shell "xmpp-event-pusher $line"$'\\t'
        zpty -r shell out '*<*>*'; print -r -- "$out"
      done`;
    const shown = run('zsh', '-fc', script, 'zsh', ...lines.map(([line]) => line));
    for (const [line, [word = '']] of lines)
      assert.ok(shown.includes(`<${line.replace(/\S*$/, word)}>`), `${line}:\n${shown}`);
  });
});
