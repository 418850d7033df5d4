/** The sources: last contact, last number, holes in the numbers, and what to do about them. */
import { ask } from './api.js';
import { confirmed } from './confirm.js';
import { keepRows, make, makeRow, moment, setText } from './dom.js';
import { ago, count, countOf, rate } from './format.js';

const section = document.querySelector('#sources');
const result = section.querySelector('.result');

const COLUMNS = [
  ['Source', 'wide'],
  ['Last contact', 'short'],
  ['Last kept', 'short'],
  ['Events/s', 'number'],
  ['Position', 'number'],
  ['Holes in its numbers'],
  ['Queue'],
  ['Act', 'short'],
];

/** The taps, with their backlog and their problems. */
export function showTaps(taps) {
  keepRows(section.querySelector('.taps'), taps, {
    key: ({ name }) => name,
    create: ({ name }) => make('li', {}, make('strong', {}, name), make('span', {})),
    update: (row, { at, problem, waiting, note }) => {
      const parts = [
        at,
        problem?.reason ?? note,
        waiting === undefined ? '' : `${countOf(waiting, 'event')} waiting there`,
      ];
      const text = row.querySelector('span');
      setText(text, `: ${parts.filter(Boolean).join('; ')}`);
      text.classList.toggle('bad', problem !== undefined);
    },
  });
}

export function showSources({ at, sources, otherSources: others }) {
  section.querySelector('.empty').hidden = sources.length > 0;
  section.querySelector('table').hidden = sources.length === 0;
  const more = section.querySelector('.others');
  more.hidden = others.count === 0;
  setText(
    more,
    `and ${countOf(others.count, 'other source')}, with ${countOf(others.holes, 'hole')}: ${countOf(others.missing, 'event')} lost`,
  );
  keepRows(section.querySelector('tbody'), sources, { key: ({ source }) => source, create, update });

  function update(row, view) {
    const { heardAt, contactAt, rate: events, last, epoch, earlier, notes, newHoles } = view;
    const [name, contact, kept, perSecond, position, holes, queue] = row.cells;
    const contacted = Math.max(contactAt ?? 0, heardAt);
    setText(contact, ago(contacted, at));
    contact.title = moment(contacted);
    setText(kept, ago(heardAt, at));
    kept.title = moment(heardAt);
    setText(perSecond, events < 0.05 ? '0' : rate(events));
    setText(position, last === undefined ? '—' : count(last));
    setText(holes, holesText(view, at));
    holes.classList.toggle('bad', newHoles > 0);
    setText(queue, queueText(epoch, earlier));
    showNotes(name.querySelector('.notes'), notes);
    row.querySelector('button[name="acknowledge"]').hidden = newHoles === 0;
  }
}

function create({ source }) {
  const row = makeRow(COLUMNS);
  row.cells[0].append(make('strong', {}, source), make('span', { class: 'notes' }));
  const button = (name, text, act) => {
    const made = make('button', { type: 'button', class: 'small', name }, text);
    made.setAttribute('aria-label', `${text} ${source}`);
    made.addEventListener('click', () => act(source));
    return made;
  };
  row.cells[7].append(button('acknowledge', 'Acknowledge', acknowledge), button('retire', 'Retire', retire));
  return row;
}

function showNotes(element, notes) {
  keepRows(element, notes, {
    key: ({ text }) => text.replace(/[\d.,]+/g, '#'),
    create: () => make('span', { class: 'note' }),
    update: (line, { tone, text }) => {
      line.dataset.tone = tone;
      setText(line, text);
    },
  });
}

const queueText = (epoch, earlier) => {
  if (epoch === undefined) return 'none';
  return earlier === 0 ? epoch : `${epoch}, after ${countOf(earlier, 'earlier one')}`;
};

function holesText({ last, holes, missing, newHoles, newestHole }, at) {
  if (last === undefined) return 'not seen';
  const all = holes === 0 ? 'none' : `${countOf(holes, 'hole')}: ${countOf(missing, 'event')} lost`;
  return newHoles === 0 ? all : `${all}; ${newHoles} not acknowledged, ${holeText(newestHole, at)}`;
}

const holeText = ({ epoch, first, last, at }, now) =>
  first === undefined ? 'from before' : `the last ${first} to ${last} of ${epoch}, ${ago(at, now)}`;

/** Performs an action and shows the result. */
async function act(path, body, done) {
  try {
    setText(result, done(await ask(path, body)));
  } catch (error) {
    setText(result, `Nothing was changed: ${error.message}`);
  }
}

const acknowledge = (source) =>
  act('sources/acknowledge', { source }, ({ count: holes }) => `${source}: ${countOf(holes, 'hole')} acknowledged.`);

async function retire(source) {
  const sure = await confirmed({
    title: `Retire ${source}?`,
    text: 'Its position and its holes are forgotten. If it comes again all the same, what it sends a second time is published a second time.',
    action: 'Retire',
    danger: true,
  });
  if (sure) await act('sources/retire', { source }, () => `${source} is forgotten.`);
}
