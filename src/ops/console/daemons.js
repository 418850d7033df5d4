/** How several daemons share the outbox: their consoles and their partitions. */
import { keepRows, make, makeRow, setText, topicName } from './dom.js';
import { count } from './format.js';

const section = document.querySelector('#daemons');

/** @param shared undefined if only this daemon uses the outbox */
export function showDaemons(shared) {
  section.hidden = !shared;
  if (!shared) return;
  const { daemons, partitions } = shared;
  const [first, second] = section.querySelectorAll('tbody');
  keepRows(first, daemons, {
    key: ({ id }) => id,
    create: () => makeRow([['Daemon'], ['Partitions', 'number'], ['Waiting', 'number'], ['Dead letters', 'number']]),
    update: (row, daemon) => {
      const own = partitions.filter(({ daemon: owner }) => owner === daemon.id);
      const depth = own.reduce((sum, partition) => sum + partition.depth, 0);
      nameDaemon(row.cells[0], daemon);
      [own.length, depth, daemon.deadLetters].forEach((number, place) => {
        setText(row.cells[place + 1], count(number));
      });
    },
  });
  keepRows(second, partitions, {
    key: ({ queue }) => queue,
    create: () => makeRow([['Queue'], ['Topic'], ['Daemon'], ['Waiting', 'number'], ['State']]),
    update: (row, { queue, topic, daemon, depth, problem }) => {
      const state = problem ?? (daemon === undefined ? 'no daemon works on it' : 'in use');
      [queue, topicName(topic), daemon ?? '—', count(depth), state].forEach((text, place) => {
        setText(row.cells[place], text);
      });
    },
  });
}

/** Names a daemon, with a link to its console, which has its dead letters. */
function nameDaemon(cell, { id, self, url }) {
  const text = self ? `${id} (this one)` : id;
  if (cell.textContent === text) return;
  // Another daemon reported this address: link only to a web page.
  const isAddress = !self && url !== undefined && /^https?:\/\//.test(url);
  cell.replaceChildren(isAddress ? make('a', { href: url, rel: 'noreferrer' }, text) : text);
}
