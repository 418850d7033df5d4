/**
 * Cleans an endpoint's answer for log, metrics, `/readyz` and console: the endpoint controls the text, which may quote
 * the request. Pure.
 */

const MOST_CHARACTERS = 300;
/** How much of an answer is cleaned, in characters: finding quotes costs time. */
const MOST_READ = 2_000;
/** This many common characters count as a quote, not as coincidence. */
const QUOTE_LENGTH = 8;
const LEFT_OUT = '…';

/** An error code of SNS's form; `unknown` for anything else. */
export const cleanCode = (code: string): string => (/^[A-Za-z0-9.]{1,80}$/.test(code) ? code : 'unknown');

/** A header's value in one short line. */
export const cleanHeader = (value: string): string => printable(value).slice(0, 80);

/** Parts of the request that must not be shown. */
export interface Sent {
  /** Keys, tokens and signatures. */
  readonly secrets: readonly string[];
  /** Messages and attributes. */
  readonly texts: readonly string[];
}

/** Reduces a text to one line of at most 300 characters, without its quotes of the request. */
export function cleanText(text: string, { secrets, texts }: Sent = { secrets: [], texts: [] }): string {
  let line = printable(text.slice(0, MOST_READ));
  for (const secret of secrets) if (secret) line = line.replaceAll(secret, LEFT_OUT);
  // Any signature, or the hash of one.
  line = line.replace(/[0-9a-f]{64}/gi, LEFT_OUT);
  const shown = withoutQuotes(line, texts);
  return shown.length > MOST_CHARACTERS ? `${shown.slice(0, MOST_CHARACTERS - 1)}${LEFT_OUT}` : shown;
}

/** Removes control characters and those that change the direction of text. */
const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim();

function withoutQuotes(line: string, texts: readonly string[]): string {
  if (texts.length === 0) return line;
  const sent = texts.flatMap(formsOf);
  const isSent = (part: string) => sent.some((text) => text.includes(part));
  const quoted = new Uint8Array(line.length);
  for (let start = 0; start + QUOTE_LENGTH <= line.length; start++)
    if (isSent(line.slice(start, start + QUOTE_LENGTH))) quoted.fill(1, start, start + QUOTE_LENGTH);
  // Text between quotation marks counts as a quote, however short.
  for (const { index, 0: whole, 1: inside = '' } of line.matchAll(/["'`‘“]([^"'`’”]+)["'`’”]/g))
    if (isSent(inside)) quoted.fill(1, index, index + whole.length);
  let shown = '';
  for (let index = 0; index < line.length; index++) {
    if (!quoted[index]) shown += line[index];
    else if (!quoted[index - 1]) shown += LEFT_OUT;
  }
  return shown;
}

/** The forms in which a text may be quoted: unchanged, in one line, URL-encoded. */
const formsOf = (text: string): string[] => {
  const json = JSON.stringify(text).slice(1, -1);
  return [...new Set([text, printable(text), json, encodeURIComponent(text)])];
};
