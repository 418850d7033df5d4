/**
 * The file `environment` beside the configuration, in the format of systemd's EnvironmentFile=, so that every command
 * has the variables that the daemon gets from systemd.
 *
 * Maintained invariants:
 * - A variable that the process was started with never changes.
 * - Reading the file again replaces the variables of the last reading, and removes those no longer in it.
 */
import { readFileSync } from 'node:fs';

/** The content of a file. */
export interface EnvFile {
  readonly variables: ReadonlyMap<string, string>;
  /** Numbers of lines that set no variable, which systemd ignores. */
  readonly ignored: readonly number[];
}

/** The characters that a backslash escapes within double quotes. */
const ESCAPED = '"\\`$';

/** Reads the text of an environment file. */
export function parseEnvFile(text: string): EnvFile {
  const variables = new Map<string, string>();
  const ignored: number[] = [];
  let line = 1;
  for (let at = 0; at < text.length; ) {
    const [whole = '', start = ''] = /^[ \t]*([^=\r\n]*)[\r\n]?/.exec(text.slice(at)) ?? [];
    const equals = at + whole.length;
    const isPair = text[equals] === '=' && !/^[#;]/.test(start);
    const { value, end } = isPair ? valueAt(text, equals + 1) : { value: '', end: endOfLine(text, at) };
    const name = start.trimEnd();
    if (isPair && /^[A-Za-z_]\w*$/.test(name)) variables.set(name, value);
    else if ((isPair || start !== '') && !/^[#;]/.test(start)) ignored.push(line);
    line += text.slice(at, end).split('\n').length - 1;
    at = end;
  }
  return { variables, ignored };
}

/** Where the line after a comment, or after a line without a value, begins: a backslash continues a comment. */
function endOfLine(text: string, at: number): number {
  const [whole = ''] = /^(?:[ \t]*[#;](?:\\[\s\S]|[^\\\r\n])*|[^\r\n]*)[\r\n]?/.exec(text.slice(at)) ?? [];
  return at + Math.max(whole.length, 1);
}

type Part = 'before' | 'bare' | 'single' | 'double';

/**
 * Reads the value that begins here, and returns where the next line begins. As in systemd, quotes count only at the
 * beginning of a part.
 */
function valueAt(text: string, from: number): { value: string; end: number } {
  let value = '';
  /** The length of the value without trailing white space. */
  let kept = 0;
  let part: Part = 'before';
  let at = from;
  for (; at < text.length; at++) {
    const character = text[at] as string;
    const next = text[at + 1] ?? '';
    if (part === 'single' || part === 'double') {
      if (character === (part === 'single' ? "'" : '"')) part = 'before';
      else if (part === 'double' && character === '\\') {
        at += 1;
        if (next !== '\n') value += ESCAPED.includes(next) ? next : `\\${next}`;
      } else value += character;
    } else if (/[\r\n]/.test(character)) break;
    else if (part === 'before' && /['"]/.test(character)) part = character === "'" ? 'single' : 'double';
    else if (character === '\\') {
      at += 1;
      part = 'bare';
      if (!/[\r\n]/.test(next)) value += next;
    } else if (/[ \t]/.test(character)) {
      if (part === 'bare') value += character;
      continue;
    } else {
      part = 'bare';
      value += character;
    }
    kept = value.length;
  }
  return { value: value.slice(0, kept), end: at + 1 };
}

/** The result of reading a file. */
export interface EnvFileState {
  readonly file: string;
  /** Why it can't be read; undefined if it was. */
  readonly fault: NodeJS.ErrnoException | undefined;
  readonly ignored: readonly number[];
  /** Restores the previous environment. */
  readonly undo: () => void;
}

/** The variables that the last reading set in this process's environment. */
let set: ReadonlyMap<string, string> = new Map();
let named: string | undefined;
let shadowed: readonly string[] = [];

/**
 * Sets a file's variables in the environment of this process.
 * @param options.named whether a user named the file, so that commands to copy name it too
 */
export function readEnvFile(
  file: string,
  options: { readonly named: boolean },
  environment: NodeJS.ProcessEnv = process.env,
): EnvFileState {
  named = options.named ? file : undefined;
  let text = '';
  let fault: NodeJS.ErrnoException | undefined;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    fault = error as NodeJS.ErrnoException;
  }
  const { variables, ignored } = parseEnvFile(text);
  const before = set;
  replace(before, variables, environment);
  shadowed = [...variables].filter(([name, value]) => environment[name] !== value).map(([name]) => name);
  return { file, fault, ignored, undo: () => replace(set, before, environment) };
}

/** Removes the variables of one reading from the environment, and sets those of another. */
function replace(
  former: ReadonlyMap<string, string>,
  next: ReadonlyMap<string, string>,
  environment: NodeJS.ProcessEnv,
): void {
  for (const [name, value] of former) if (environment[name] === value) delete environment[name];
  set = new Map([...next].filter(([name]) => !Object.hasOwn(environment, name)));
  Object.assign(environment, Object.fromEntries(set));
}

/** Whether a variable comes from the file, so that reading the file again can change it. */
export const isFromEnvFile = (name: string): boolean => set.has(name);

/** Variables of the file for which this process has other values: a daemon that systemd starts has the file's. */
export const shadowedVariables = (): readonly string[] => shadowed;

/** The file that a user named. */
export const namedEnvFile = (): string | undefined => named;
