/**
 * What an endpoint answers, made fit for log, metrics, `/readyz` and console: whoever answers decides what it says, and may
 * quote what it was sent. Pure.
 */

const MOST_CHARACTERS = 300;
/** Read of an answer before it is cleaned: looking for quotes costs time. */
const MOST_READ = 2_000;
/** So many characters in a row that both have are a quote and no coincidence. */
const QUOTE_LENGTH = 8;
const LEFT_OUT = '…';

/** An error code as SNS's are; `unknown` for anything else. */
export const cleanCode = (code: string): string => (/^[A-Za-z0-9.]{1,80}$/.test(code) ? code : 'unknown');

/** A value of a header in one short line. */
export const cleanHeader = (value: string): string => printable(value).slice(0, 80);

/** What was sent and must not appear in what is shown. */
export interface Sent {
  /** Keys, tokens and signatures. */
  readonly secrets: readonly string[];
  /** Messages and attributes. */
  readonly texts: readonly string[];
}

/** A text in one line of 300 characters at most, without what it quotes of the request. */
export function cleanText(text: string, { secrets, texts }: Sent = { secrets: [], texts: [] }): string {
  let line = printable(text.slice(0, MOST_READ));
  for (const secret of secrets) if (secret) line = line.replaceAll(secret, LEFT_OUT);
  // A signature or a hash of it, whosever it is.
  line = line.replace(/[0-9a-f]{64}/gi, LEFT_OUT);
  const shown = withoutQuotes(line, texts);
  return shown.length > MOST_CHARACTERS ? `${shown.slice(0, MOST_CHARACTERS - 1)}${LEFT_OUT}` : shown;
}

/** Without control characters, and without those that turn the direction of a text. */
const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim();

function withoutQuotes(line: string, texts: readonly string[]): string {
  if (texts.length === 0) return line;
  const sent = texts.flatMap(formsOf);
  const isSent = (part: string) => sent.some((text) => text.includes(part));
  const quoted = new Uint8Array(line.length);
  for (let start = 0; start + QUOTE_LENGTH <= line.length; start++)
    if (isSent(line.slice(start, start + QUOTE_LENGTH))) quoted.fill(1, start, start + QUOTE_LENGTH);
  // What stands between quotation marks is a quote however short it is.
  for (const { index, 0: whole, 1: inside = '' } of line.matchAll(/["'`‘“]([^"'`’”]+)["'`’”]/g))
    if (isSent(inside)) quoted.fill(1, index, index + whole.length);
  let shown = '';
  for (let index = 0; index < line.length; index++) {
    if (!quoted[index]) shown += line[index];
    else if (!quoted[index - 1]) shown += LEFT_OUT;
  }
  return shown;
}

/** A text as it may be quoted: as it is, in one line, and in the form that it travels in. */
const formsOf = (text: string): string[] => {
  const json = JSON.stringify(text).slice(1, -1);
  return [...new Set([text, printable(text), json, encodeURIComponent(text)])];
};
