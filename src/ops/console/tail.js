/** The live tail: the latest notifications accepted by SNS, with bodies only on request. */
import { clock, make, makeRow, setText, topicName } from './dom.js';
import { linkTo } from './find.js';
import { count, duration, bytes as size } from './format.js';

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

// Makes a scrolling region reachable by keyboard, which not every browser does.
section.querySelector('.scroll').tabIndex = 0;

/** How long to wait for further typing before searching. */
const TYPING_MS = 400;

/** @param ask called with `{ bodies, match }` when the wanted notifications change */
export function createTail(ask) {
  let held = false;
  let missed = 0;
  /** Lines that arrived while the list is paused, newest last. */
  let kept = [];
  /** The latest lines. */
  const known = new Set();
  const keyOf = ({ at, eventId }) => `${at} ${eventId}`;
  let passed = 0;
  let matched = 0;
  let typing;
  const again = () => {
    clearTimeout(typing);
    reset();
    ask({ bodies: bodies.checked, match: text.value.trim() });
  };
  bodies.checked = false;
  bodies.addEventListener('change', again);
  text.form.addEventListener('submit', (event) => {
    event.preventDefault();
    again();
  });
  text.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(again, TYPING_MS);
  });
  hold.addEventListener('click', () => {
    setHeld(!held);
    if (!held) showLines(kept.splice(0));
    showCounts();
  });
  const setHeld = (value) => {
    held = value;
    hold.setAttribute('aria-pressed', String(held));
    setText(hold, held ? 'Resume' : 'Pause');
  };
  const showLines = (list) => {
    body.prepend(...list.map(rowOf).reverse());
    while (body.rows.length > ROWS) body.lastElementChild.remove();
  };
  const showCounts = () => {
    const parts = [];
    if (passed > 0) parts.push(`${matched === 0 ? 'None' : count(matched)} of ${count(passed)} matched.`);
    if (kept.length > 0) parts.push(`${count(kept.length)} more wait for Resume.`);
    if (missed > 0) parts.push(`${count(missed)} more passed that are not shown.`);
    setText(section.querySelector('.missed'), parts.join(' '));
    section.querySelector('.empty').hidden = body.rows.length > 0 || passed > 0 || kept.length > 0;
  };
  const reset = () => {
    body.replaceChildren();
    missed = passed = matched = 0;
    kept = [];
    known.clear();
    showCounts();
  };
  return {
    /** Resets everything, for the next user of this page. */
    forget() {
      clearTimeout(typing);
      bodies.checked = false;
      text.value = '';
      setHeld(false);
      reset();
    },
    add({ list: all, missed: more, passed: looked = 0 }) {
      // Each connection repeats the latest lines.
      const list = all.filter((line) => !known.has(keyOf(line)));
      for (const line of list) known.add(keyOf(line));
      while (known.size > 2 * ROWS) known.delete(known.values().next().value);
      missed += more;
      passed += looked;
      matched += looked > 0 ? all.length + more : 0;
      if (held) {
        kept.push(...list);
        const over = Math.max(kept.length - ROWS, 0);
        kept.splice(0, over);
        missed += over;
      } else {
        showLines(list);
      }
      showCounts();
    },
  };
}

function rowOf({ at, eventAt, topic, eventId, about, bytes, message }) {
  const row = makeRow(COLUMNS);
  const [sent, name, who, took, volume, event] = row.cells;
  sent.textContent = clock(at);
  setText(name, topicName(topic));
  name.title = topic;
  setText(who, about);
  took.textContent = duration(at - eventAt);
  volume.textContent = size(bytes);
  event.append(make('a', { href: linkTo(eventId) }, eventId));
  if (message !== undefined) event.append(make('code', { class: 'body' }, message));
  return row;
}
