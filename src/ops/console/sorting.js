/** Columns of a table by which it can be sorted. */
import { make } from './dom.js';

/**
 * Puts a button into each header that has `data-sort`.
 * @param {HTMLElement} head
 * @param {string} usual by what it is sorted at first, the last one first
 * @param {() => void} changed called when a person chooses
 */
export function createSorting(head, usual, changed) {
  let sort = usual;
  let order = 'descending';
  const headers = [...head.querySelectorAll('[data-sort]')];
  const mark = () => {
    for (const header of headers) {
      if (header.dataset.sort === sort) header.setAttribute('aria-sort', order);
      else header.removeAttribute('aria-sort');
    }
  };
  for (const header of headers) {
    const button = make('button', { type: 'button', class: 'sort' }, header.textContent);
    button.addEventListener('click', () => {
      order = header.dataset.sort === sort && order === 'descending' ? 'ascending' : 'descending';
      sort = header.dataset.sort;
      mark();
      changed();
    });
    header.replaceChildren(button);
  }
  mark();
  return {
    chosen: () => ({ sort, order }),
    forget() {
      sort = usual;
      order = 'descending';
      mark();
    },
  };
}
