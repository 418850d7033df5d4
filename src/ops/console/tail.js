/** The live tail: the newest notifications that SNS took, bodies only when someone asks for them. */
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

// A region that scrolls has to be reached with the keyboard; not every browser sees to that itself.
section.querySelector('.scroll').tabIndex = 0;

/** How long a person may pause in typing before what was typed is asked for. */
const TYPING_MS = 400;

/** @param ask called with `{ bodies, match }` when other notifications are wanted */
export function createTail(ask) {
  let held = false;
  let missed = 0;
  /** What passed while the page stands still, the newest last. */
  let kept = [];
  /** The lines that came last. */
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
    /** As it was before anyone looked: for the next person at this page. */
    forget() {
      clearTimeout(typing);
      bodies.checked = false;
      text.value = '';
      setHeld(false);
      reset();
    },
    add({ list: all, missed: more, passed: looked = 0 }) {
      // The last few come again with every connection.
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
