/** Helpers: creating elements, and keeping rows in step with data. */
import { printableLines } from './format.js';

/**
 * Creates an element. Text stays text: nothing from the daemon is interpreted as HTML, or changes the direction of
 * other text.
 * @param {string} tag
 * @param {Record<string, unknown>} properties `class`, `data` (an object), or any property of the element
 * @param {...(Node | string)} children
 */
export function make(tag, { class: className, data, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (className) element.className = className;
  if (data) Object.assign(element.dataset, data);
  element.append(...children.map((child) => (typeof child === 'string' ? printableLines(child) : child)));
  return element;
}

/** Sets text only if it changed, so that a selection in it survives. */
export function setText(element, text) {
  const shown = printableLines(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/**
 * Keeps the rows of a table body in step with a list. Rows are created once and then updated, so that focus and checked
 * boxes survive.
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

/** Creates a row of cells; each has its column's name, shown beside it when the table becomes a list. */
export function makeRow(columns) {
  return make('tr', {}, ...columns.map(([label, className = '']) => make('td', { class: className, data: { label } })));
}

let ahead = 0;

/** Sets the page's clock to the daemon's, because all times are the daemon's and this machine's clock may be wrong. */
export function setClock(at) {
  ahead = at - Date.now();
}

export const now = () => Date.now() + ahead;

/** A time in the reader's own time zone. */
export const moment = (at) => new Date(at).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const CLOCK = new Intl.DateTimeFormat('en', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});
export const clock = (at) => CLOCK.format(at);

/** The name of a topic: the end of its ARN. */
export const topicName = (arn) => arn.split(':').at(-1);
