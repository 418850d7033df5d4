/** The history: plots of a day or a month, with incidents as marks and as a list. */
import { ask } from './api.js';
import { make, moment, now, setText } from './dom.js';
import { countOf } from './format.js';

const section = document.querySelector('#history');
const body = section.querySelector('tbody');
const result = section.querySelector('.result');
const ranges = [...section.querySelectorAll('input[name="span"]')];
/** How often it is reloaded while visible, in milliseconds. */
const EVERY_MS = 60_000;
/** Lines per page. */
const PAGE = 20;

/** Text and style of each kind of incident. */
const KINDS = {
  start: ['Started', 'good'],
  stop: ['Stopped', 'warn'],
  killed: ['Killed', 'bad'],
  reload: ['Reloaded', 'note'],
  'reload-failed': ['Not reloaded', 'warn'],
  paused: ['Paused', 'bad'],
  resumed: ['Resumed', 'good'],
  throttled: ['Throttled', 'warn'],
  slow: ['Slow', 'warn'],
  behind: ['Behind', 'warn'],
  orphaned: ['Nobody sends', 'bad'],
  open: ['Open again', 'good'],
  'not-ready': ['Not ready', 'bad'],
  ready: ['Ready again', 'good'],
  hole: ['Hole', 'bad'],
  replay: ['Replay', 'note'],
  delete: ['Deleted', 'note'],
  acknowledge: ['Acknowledged', 'note'],
  retire: ['Retired', 'note'],
  try: ['Tried', 'note'],
};
const kindOf = (kind) => KINDS[kind] ?? [kind, 'note'];

let plots;
let history = { minutes: [], tens: [], moments: [] };
let shown = PAGE;
let timer;

/** Loaded only when visible: it is large, and most users look at current figures. @returns clears it */
export function createHistory() {
  for (const input of ranges) input.addEventListener('change', draw);
  section.querySelector('button[name="more"]').addEventListener('click', () => {
    shown += PAGE;
    list();
  });
  new IntersectionObserver(([entry]) => {
    clearInterval(timer);
    if (!entry.isIntersecting) return;
    load();
    timer = setInterval(load, EVERY_MS);
  }).observe(section);
  return () => {
    clearInterval(timer);
    history = { minutes: [], tens: [], moments: [] };
    shown = PAGE;
    draw();
  };
}

async function load() {
  if (document.hidden || section.closest('[hidden]')) return;
  try {
    history = await ask('history');
    setText(result, '');
  } catch (error) {
    setText(result, `Not known: ${error.message}`);
    return;
  }
  if (!plots) {
    const { createSpanPlots } = await import('./plots.js');
    plots ??= createSpanPlots(section.querySelector('.plots'));
  }
  draw();
}

const days = () => Number(ranges.find(({ checked }) => checked).value);

function draw() {
  const from = now() - days() * 86_400_000;
  const marks = history.moments
    .filter(({ at }) => at >= from)
    .map(({ at, kind }) => ({ at, text: kindOf(kind)[0], tone: kindOf(kind)[1] }));
  plots?.show(days() * 86_400, days() === 1 ? history.minutes : history.tens, marks);
  list();
}

function list() {
  const from = now() - days() * 86_400_000;
  const all = history.moments.filter(({ at }) => at >= from).reverse();
  body.replaceChildren(...all.slice(0, shown).map(lineOf));
  section.querySelector('table').hidden = all.length === 0;
  section.querySelector('.empty').hidden = all.length > 0;
  const more = section.querySelector('button[name="more"]');
  more.hidden = all.length <= shown;
  setText(more, `Show ${countOf(Math.min(all.length - shown, PAGE), 'earlier one')}`);
}

function lineOf({ at, kind, text }) {
  const [name, tone] = kindOf(kind);
  const cell = (label, ...children) => make('td', { data: { label } }, ...children);
  return make(
    'tr',
    {},
    cell('When', moment(at)),
    cell('What', make('span', { class: 'chip', data: { state: CHIPS[tone] } }, name)),
    cell('About', text),
  );
}

const CHIPS = { good: 'ready', warn: 'warn', bad: 'not-ready', note: '' };
