/** The page's own small tools: making elements, keeping rows in step with data, and how values read. */

/**
 * Makes an element. Text is set as text: nothing that the daemon says is ever read as HTML.
 * @param {string} tag
 * @param {Record<string, unknown>} properties `class`, `data` (an object), or any property of the element
 * @param {...(Node | string)} children
 */
export function make(tag, { class: className, data, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (className) element.className = className;
  if (data) Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Sets text only where it changed, so that a selection in it lasts. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keeps the rows of a table body in step with a list. A row is made once and then updated, so that the focus and what a
 * person ticked stay where they are.
 * @param {HTMLElement} body
 * @param {readonly unknown[]} items
 * @param {{ key: (item) => unknown, create: (item) => HTMLElement, update: (row, item) => void }} how
 */
export function keepRows(body, items, { key, create, update }) {
  const rows = new Map([...body.children].map((row) => [row.dataset.key, row]));
  let previous = null;
  for (const item of items) {
    const name = String(key(item));
    let row = rows.get(name);
    rows.delete(name);
    if (!row) {
      row = create(item);
      row.dataset.key = name;
    }
    update(row, item);
    const place = previous ? previous.nextElementSibling : body.firstElementChild;
    if (place !== row) body.insertBefore(row, place);
    previous = row;
  }
  for (const row of rows.values()) row.remove();
}

/** Makes a row of cells; each has the name of its column, which shows beside it where the table becomes a list. */
export function makeRow(columns) {
  return make('tr', {}, ...columns.map(([label, className = '']) => make('td', { class: className, data: { label } })));
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

export const count = (value) => whole.format(value);
export const rate = (value) => (value >= 100 ? whole.format(value) : precise.format(value));

export function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const step = Math.min(Math.floor(Math.log10(Math.max(value, 1)) / 3), units.length - 1);
  return `${precise.format(value / 1_000 ** step)} ${units[step]}`;
}

/** A duration in its largest unit that says enough. */
export function duration(ms) {
  if (ms < 1_000) return `${whole.format(ms)} ms`;
  if (ms < 10_000) return `${precise.format(ms / 1_000)} s`;
  if (ms < 120_000) return `${whole.format(ms / 1_000)} s`;
  if (ms < 7_200_000) return `${whole.format(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${whole.format(ms / 3_600_000)} h`;
  return `${whole.format(ms / 86_400_000)} days`;
}

let ahead = 0;

/** Sets the page's clock to the daemon's, which all times come from: this machine's may be wrong. */
export function setClock(at) {
  ahead = at - Date.now();
}

export const now = () => Date.now() + ahead;

export const ago = (at, now) =>
  now - at < 2_500 ? 'just now' : `${duration(Math.round((now - at) / 1_000) * 1_000)} ago`;

/** A moment in the reader's own time zone. */
export const moment = (at) => new Date(at).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
export const clock = (at) => new Date(at).toLocaleTimeString(undefined, { hour12: false });

/** The name of a topic, which is the end of its ARN. */
export const topicName = (arn) => arn.split(':').at(-1);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
