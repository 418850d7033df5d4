/** Output of commands for people and programs: foreign text can't send control characters to the terminal. */
import { json, printable } from '../format.js';

/** A line of text. */
export const printLine = (text: string): void => void process.stdout.write(`${printable(text)}\n`);

/** A line of fields, with tabs between them. */
export const printFields = (...fields: readonly string[]): void =>
  void process.stdout.write(`${fields.map(printable).join('\t')}\n`);

/** A value as JSON: one line, or indented. */
export const printJson = (value: unknown, indent?: number): void =>
  void process.stdout.write(`${json(value, indent)}\n`);
