/**
 * How figures and texts read, everywhere: in the console, which runs this file in the browser, on the command line, and in
 * what the daemon says. Plain JavaScript, so that a browser takes it as it is.
 */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const precise = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/**
 * A number of things: `7,000`.
 * @param {number} value
 * @returns {string}
 */
export const count = (value) => whole.format(value);

/**
 * A rate without its unit, with as many digits as mean something: `0.52`, `12.4`, `4,000`.
 * @param {number} value
 * @returns {string}
 */
export function rate(value) {
  const size = Math.abs(value);
  if (size >= 100) return whole.format(value);
  return size >= 1 ? precise.format(value) : small.format(value);
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/**
 * A size: `730 B`, `1.05 MB`.
 * @param {number} value in bytes
 * @returns {string}
 */
export function bytes(value) {
  const step = Math.min(Math.floor(Math.log10(Math.max(value, 1)) / 3), UNITS.length - 1);
  return `${precise.format(value / 1_000 ** step)} ${UNITS[step]}`;
}

/**
 * A share of a whole: `< 1 %`, `42 %`.
 * @param {number} value from 0 to 1
 * @returns {string}
 */
export const percent = (value) => (value > 0 && value < 0.01 ? '< 1 %' : `${whole.format(value * 100)} %`);

/**
 * A duration in the largest unit that says enough: `27 ms`, `4.2 s`, `40 s`, `4 min`, `3 h`, `2 days`.
 * @param {number} ms
 * @returns {string}
 */
export function duration(ms) {
  if (ms < 1_000) return `${whole.format(Math.max(ms, 0))} ms`;
  if (ms < 10_000) return `${precise.format(ms / 1_000)} s`;
  if (ms < 120_000) return `${whole.format(ms / 1_000)} s`;
  if (ms < 7_200_000) return `${whole.format(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${whole.format(ms / 3_600_000)} h`;
  return `${whole.format(ms / 86_400_000)} days`;
}

/**
 * The same in whole seconds, for what is drawn again and again and should not flicker.
 * @param {number} ms
 * @returns {string}
 */
export const seconds = (ms) => duration(Math.max(Math.floor(ms / 1_000), 1) * 1_000);

/**
 * How long ago a moment is: `just now`, `40 s ago`.
 * @param {number} at
 * @param {number} now
 * @returns {string}
 */
export const ago = (at, now) => (now - at < 2_500 ? 'just now' : `${seconds(now - at)} ago`);

/**
 * A number with its noun: `1 topic`, `7,000 topics`.
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 * @returns {string}
 */
export const countOf = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Functions of a plugin; what else its error says may quote what people wrote. */
const PLUGIN_FUNCTION = /^(?:filter|userGuid|presenceAttributes|messageAttributes)\b/;

/**
 * What was wrong with a dead letter, fit for a list: nothing that people wrote, and never nothing.
 * @param {{ readonly reason: string, readonly detail: string }} letter
 * @returns {string}
 */
export function whatWasWrong({ reason, detail }) {
  if (reason !== 'plugin') return detail.trim() || reason;
  const called = PLUGIN_FUNCTION.exec(detail)?.[0];
  return called === undefined ? 'the plugin failed: look at the detail' : `the plugin's ${called} failed`;
}

const STEERING = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu;

/**
 * A text in one line that neither steers a terminal nor turns what stands beside it around.
 * @param {string} text
 * @returns {string}
 */
export const printable = (text) => text.replace(STEERING, '·');

/**
 * The same, of a text of several lines.
 * @param {string} text
 * @returns {string}
 */
export const printableLines = (text) => text.replace(STEERING, (found) => (/[\n\t]/.test(found) ? found : '·'));

/**
 * JSON, in which such characters are escaped as JSON escapes control characters.
 * @param {unknown} value
 * @param {number} [indent]
 * @returns {string}
 */
export const json = (value, indent) =>
  JSON.stringify(value, undefined, indent).replace(STEERING, (found) =>
    found === '\n' ? found : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
