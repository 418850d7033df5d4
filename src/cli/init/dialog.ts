/** `init`'s questions: asked on a terminal, or answered by flags and defaults. */
import type { Command } from 'commander';
import { openTerminal, type Terminal } from '../terminal.ts';

interface Question {
  readonly question: string;
  /** The flag that answers it, and its value. */
  readonly flag: string;
  readonly given: string | undefined;
  /** The meaning of an empty answer. */
  readonly fallback?: string | undefined;
  /** The problem with an answer; undefined when it is valid. */
  readonly problem?: (answer: string) => string | undefined;
  /** Hides the answer while it is typed. */
  readonly hidden?: boolean;
}

export interface Dialog extends Disposable {
  /** Returns the flag's value or the person's answer; empty where no one could be asked. @throws Interrupted */
  text(question: Question): Promise<string>;
  confirm(question: string, fallback: boolean): Promise<boolean>;
  /** Missing flags, because no one could be asked. */
  readonly missing: readonly string[];
}

/**
 * @param unattended whether to take defaults instead of asking
 * @param command reports invalid flags
 * @param stop ends the command at a Ctrl-C between questions
 */
export function openDialog(unattended: boolean, command: Command, stop: () => void): Dialog {
  const missing: string[] = [];
  const terminal = unattended ? undefined : openTerminal(process.stdout, stop);
  const flagged = ({ flag, given, fallback, problem }: Question): string | undefined => {
    const used = given ?? (unattended ? fallback : undefined);
    const wrong = used === undefined ? undefined : problem?.(used);
    if (wrong !== undefined) command.error(`error: ${flag}${given === undefined ? ', by default,' : ''} ${wrong}`);
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
    confirm: async (question, fallback) => (terminal ? terminal.confirm(question, fallback) : fallback),
    [Symbol.dispose]: () => terminal?.[Symbol.dispose](),
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
