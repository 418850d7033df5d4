/** Sortable columns of a table. */
import { make } from './dom.js';

/**
 * Adds a button to each header with `data-sort`.
 * @param {HTMLElement} head
 * @param {string} usual the initial sort key, descending
 * @param {() => void} changed called when the user sorts
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
