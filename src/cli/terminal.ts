/**
 * Questions on a terminal.
 *
 * Maintained invariants:
 * - Ctrl-C ends the command at any time, also while no question is open: a request to AWS may hang.
 * - Lines that were typed or pasted before their question answer it.
 * - A hidden answer is never shown, nor can it be recalled at a later question.
 */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';

/** The user pressed Ctrl-C or Ctrl-D at a question. */
export class Interrupted extends Error {}

export interface Terminal extends Disposable {
  /** Asks, and returns the trimmed answer. @throws Interrupted */
  line(prompt: string, hidden: boolean): Promise<string>;
  /** Asks until the answer is yes, no, or empty for the default. @throws Interrupted */
  confirm(question: string, fallback: boolean): Promise<boolean>;
}

interface Question {
  readonly answer: (line: string) => void;
  readonly interrupt: () => void;
}

/**
 * @param screen where questions are shown
 * @param stop ends the command at a Ctrl-C between questions
 */
export function openTerminal(screen: NodeJS.WriteStream, stop: () => void): Terminal {
  let echoes = false;
  let closed = false;
  let open: Question | undefined;
  const early: string[] = [];
  const output = new Writable({
    write(chunk, _encoding, done) {
      if (echoes) screen.write(chunk);
      done();
    },
  });
  const lines = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 });
  lines.on('line', (line) => (open ? open.answer(line) : early.push(line)));
  lines.on('SIGINT', () => (open ? open.interrupt() : stop()));
  lines.on('close', () => {
    closed = true;
    open?.interrupt();
  });
  const line: Terminal['line'] = (prompt, hidden) =>
    new Promise((resolve, reject) => {
      const next = early.shift();
      if (next !== undefined) {
        screen.write(`${prompt}${hidden ? '' : next}\n`);
        resolve(next.trim());
        return;
      }
      if (closed) {
        reject(new Interrupted());
        return;
      }
      const settle = (act: () => void) => {
        open = undefined;
        echoes = false;
        act();
      };
      open = {
        answer: (line) =>
          settle(() => {
            if (hidden) screen.write('\n');
            resolve(line.trim());
          }),
        interrupt: () => settle(() => reject(new Interrupted())),
      };
      if (hidden) screen.write(prompt);
      else {
        echoes = true;
        lines.setPrompt(prompt);
        lines.prompt();
      }
    });
  return {
    line,
    async confirm(question, fallback) {
      for (;;) {
        const answer = await line(`${question} [${fallback ? 'Y/n' : 'y/N'}] `, false);
        if (answer === '') return fallback;
        if (/^(y(es)?|no?)$/i.test(answer)) return /^y/i.test(answer);
        screen.write('  It should be y or n.\n');
      }
    },
    [Symbol.dispose]() {
      open = undefined;
      lines.close();
    },
  };
}
