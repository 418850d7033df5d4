/** Questions to whoever runs `init`: asked on a terminal, or answered by flags and defaults. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import type { Command } from 'commander';

interface Question {
  readonly question: string;
  /** The flag that answers it, and what that says. */
  readonly flag: string;
  readonly given: string | undefined;
  /** What an empty answer means. */
  readonly fallback?: string | undefined;
  /** What is wrong with an answer; undefined when nothing is. */
  readonly problem?: (answer: string) => string | undefined;
  /** Not shown while it is typed. */
  readonly hidden?: boolean;
}

export interface Dialog extends Disposable {
  /** Answers what the flag says, or what a person does; an empty text where nobody could be asked. */
  text(question: Question): Promise<string>;
  confirm(question: string, fallback: boolean): Promise<boolean>;
  /** Flags that are missing because nobody could be asked. */
  readonly missing: readonly string[];
}

/** Somebody ended it with Ctrl-C or Ctrl-D at a question. */
export class Interrupted extends Error {}

/**
 * @param unattended whether to take defaults instead of asking
 * @param command where a flag that is wrong is reported
 */
export function openDialog(unattended: boolean, command: Command): Dialog {
  const missing: string[] = [];
  const terminal = unattended ? undefined : openTerminal();
  const flagged = ({ flag, given, problem }: Question): string | undefined => {
    const wrong = given === undefined ? undefined : problem?.(given);
    if (wrong !== undefined) command.error(`error: ${flag} ${wrong}`);
    return given;
  };
  return {
    missing,
    async text(question) {
      const given = flagged(question);
      if (given !== undefined) return given;
      if (terminal) return ask(terminal, question);
      if (question.fallback === undefined) missing.push(question.flag);
      return question.fallback ?? '';
    },
    async confirm(question, fallback) {
      if (!terminal) return fallback;
      const answer = await terminal.line(`${question} [${fallback ? 'Y/n' : 'y/N'}] `, false);
      return answer === '' ? fallback : /^y(es)?$/i.test(answer);
    },
    [Symbol.dispose]: () => terminal?.close(),
  };
}

async function ask(terminal: Terminal, { question, fallback, problem, hidden = false }: Question): Promise<string> {
  for (;;) {
    const shown = fallback === undefined || hidden ? '' : ` [${fallback}]`;
    const answer = (await terminal.line(`${question}${shown}: `, hidden)) || (fallback ?? '');
    const wrong = answer === '' ? 'needs an answer' : problem?.(answer);
    if (wrong === undefined) return answer;
    process.stdout.write(`  It ${wrong}.\n`);
  }
}

interface Terminal {
  /** @throws Interrupted */
  line(prompt: string, hidden: boolean): Promise<string>;
  close(): void;
}

function openTerminal(): Terminal {
  let muted = false;
  const output = new Writable({
    write(chunk, _encoding, done) {
      if (!muted) process.stdout.write(chunk);
      done();
    },
  });
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  let interrupt: (() => void) | undefined;
  lines.on('SIGINT', () => interrupt?.());
  lines.on('close', () => interrupt?.());
  return {
    line: (prompt, hidden) =>
      new Promise((resolve, reject) => {
        interrupt = () => reject(new Interrupted());
        lines.question(prompt, (answer) => {
          muted = false;
          if (hidden) process.stdout.write('\n');
          resolve(answer.trim());
        });
        muted = hidden;
      }),
    close() {
      interrupt = undefined;
      lines.close();
    },
  };
}
