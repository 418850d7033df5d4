/** The live tail: the newest notifications that SNS took, bodies only when someone asks for them. */
import { clock, count, duration, make, makeRow, setText, bytes as size, topicName } from './dom.js';

const ROWS = 200;
const COLUMNS = [
  ['Sent', 'short'],
  ['Topic', 'wide'],
  ['About', 'wide'],
  ['Took', 'number'],
  ['Size', 'number'],
  ['Event', 'small'],
];

const section = document.querySelector('#tail');
const body = section.querySelector('tbody');
const { text, bodies, hold } = section.querySelector('form').elements;

// A region that scrolls has to be reached with the keyboard; not every browser sees to that itself.
section.querySelector('.scroll').tabIndex = 0;

/** @param onBodies called with whether bodies are wanted, when that changes */
export function createTail(onBodies) {
  let held = false;
  let missed = 0;
  bodies.checked = false;
  bodies.addEventListener('change', () => onBodies(bodies.checked));
  text.form.addEventListener('submit', (event) => event.preventDefault());
  text.addEventListener('input', () => {
    for (const row of body.rows) row.hidden = !matches(row);
  });
  hold.addEventListener('click', () => {
    held = !held;
    hold.setAttribute('aria-pressed', String(held));
    setText(hold, held ? 'Resume' : 'Pause');
  });
  return {
    reset() {
      body.replaceChildren();
      missed = 0;
    },
    /** As it was before anyone looked: for the next person at this page. */
    forget() {
      this.reset();
      bodies.checked = false;
      text.value = '';
      held = false;
      hold.setAttribute('aria-pressed', 'false');
      setText(hold, 'Pause');
      setText(section.querySelector('.missed'), '');
      section.querySelector('.empty').hidden = false;
    },
    add({ list, missed: more }) {
      missed += held ? list.length + more : more;
      setText(section.querySelector('.missed'), missed === 0 ? '' : `${count(missed)} more passed that are not shown.`);
      section.querySelector('.empty').hidden = true;
      if (held) return;
      body.prepend(...list.map(rowOf).reverse());
      while (body.rows.length > ROWS) body.lastElementChild.remove();
    },
  };
}

const matches = (row) => row.dataset.text.includes(text.value.trim().toLowerCase());

function rowOf({ at, eventAt, topic, eventId, about, bytes, message }) {
  const row = makeRow(COLUMNS);
  const [sent, name, who, took, volume, event] = row.cells;
  sent.textContent = clock(at);
  name.textContent = topicName(topic);
  name.title = topic;
  who.textContent = about;
  took.textContent = duration(Math.max(at - eventAt, 0));
  volume.textContent = size(bytes);
  event.textContent = eventId;
  if (message !== undefined) event.append(make('code', { class: 'body' }, message));
  row.dataset.text = `${topic} ${about} ${eventId} ${message ?? ''}`.toLowerCase();
  row.hidden = !matches(row);
  return row;
}
