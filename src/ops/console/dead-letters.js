/**
 * The dead letters: filter, look into one, replay or delete one, several, or all that match.
 *
 * "All" means all that there were when the page last asked: what comes while a person reads the question is left alone.
 */
import { ask } from './api.js';
import { confirmed } from './confirm.js';
import { keepRows, make, makeRow, moment, now, setText, topicName } from './dom.js';
import { ago, count, countOf } from './format.js';
import { createLetter } from './letter.js';

const PAGE = 20;
const NOT_LOADED = 'Not loaded: ';
const COLUMNS = [
  ['', 'check'],
  ['Since', 'short'],
  ['Reason'],
  ['Topic'],
  ['What was wrong', 'detail'],
  ['Tries', 'number'],
  [''],
];

const section = document.querySelector('#letters');
const body = section.querySelector('tbody');
const result = section.querySelector('.result');
const filter = section.querySelector('form').elements;
const button = (name) => section.querySelector(`button[name="${name}"]`);
const selectPage = section.querySelector('input[name="select-page"]');

export function createDeadLetters() {
  let letters = [];
  let counts = [];
  /** Where each page before this one began, for the way back. */
  let earlier = [];
  let before;
  let selected = new Set();
  /** The last replay that was asked for here: how many, and whether all were taken up. */
  let replay;

  const letter = createLetter((action, id) => act(action, { ids: [id] }, 1, `dead letter ${id}`));

  const wanted = () => ({ reason: filter.reason.value || undefined, topic: filter.topic.value || undefined });
  const matching = () => {
    const { reason, topic } = wanted();
    return counts.filter((entry) => (!reason || entry.reason === reason) && (!topic || entry.topic === topic));
  };
  const total = () => matching().reduce((sum, { count }) => sum + count, 0);

  /** The latest question; answers to earlier ones come too late. */
  let asked = 0;

  async function load() {
    const mine = ++asked;
    const query = Object.entries({ ...wanted(), before, limit: PAGE + 1 }).filter(([, value]) => value !== undefined);
    try {
      const answer = await ask(`dead-letters?${new URLSearchParams(query)}`);
      if (mine !== asked) return;
      ({ letters, counts } = answer);
    } catch (error) {
      setText(result, `${NOT_LOADED}${error.message}`);
      return;
    }
    if (result.textContent.startsWith(NOT_LOADED)) setText(result, '');
    // A page whose letters are all gone is no place to be.
    if (letters.length === 0 && before !== undefined) {
      turn(undefined, []);
      return;
    }
    followReplay();
    show();
  }

  function turn(to, path) {
    before = to;
    earlier = path;
    selected = new Set();
    load();
  }

  function show() {
    const page = letters.slice(0, PAGE);
    const ids = new Set(page.map(({ id }) => id));
    selected = selected.intersection(ids);
    showChoices(
      filter.reason,
      'any',
      counts.map(({ reason }) => [reason, reason]),
    );
    showChoices(
      filter.topic,
      'any',
      counts.filter(({ topic }) => topic).map(({ topic }) => [topic, topicName(topic)]),
    );
    section.querySelector('table').hidden = page.length === 0;
    section.querySelector('.empty').hidden = page.length > 0;
    keepRows(body, page, { key: ({ id }) => id, create: createRow, update: updateRow });
    button('older').disabled = letters.length <= PAGE;
    button('newer').disabled = earlier.length === 0;
    section.querySelector('.pages').hidden = letters.length <= PAGE && earlier.length === 0;
    showButtons();
  }

  function showButtons() {
    const chosen = selected.size;
    const all = total();
    for (const action of ['replay', 'delete']) {
      const name = action === 'replay' ? 'Replay' : 'Delete';
      button(`${action}-selected`).disabled = chosen === 0;
      setText(button(`${action}-selected`), chosen === 0 ? `${name} selected` : `${name} selected (${count(chosen)})`);
      button(`${action}-all`).disabled = all === 0;
      setText(
        button(`${action}-all`),
        all === 0
          ? `${name} all`
          : `${name} all ${count(all)}${wanted().reason || wanted().topic ? ' that match' : ''}`,
      );
    }
    selectPage.checked = chosen > 0 && chosen === body.rows.length;
    selectPage.indeterminate = chosen > 0 && chosen < body.rows.length;
  }

  function createRow({ id, diedAt, reason, topic, detail, attempts, eventId }) {
    const row = makeRow(COLUMNS);
    const [check, since, why, where, what, tries, open] = row.cells;
    const box = make('input', { type: 'checkbox' });
    box.addEventListener('change', () => {
      if (box.checked) selected.add(id);
      else selected.delete(id);
      showButtons();
    });
    check.append(make('label', {}, box, make('span', { class: 'unseen' }, `Select dead letter ${id}`)));
    since.title = moment(diedAt);
    why.append(
      make('strong', {}, reason),
      make('span', { class: 'chip', data: { state: 'waiting' }, hidden: true }, 'replay asked for'),
    );
    where.textContent = topic ? topicName(topic) : '—';
    what.append(
      make('span', {}, reason === 'plugin' ? pluginFunction(detail) : detail),
      make('span', { class: 'quiet small' }, eventId),
    );
    tries.textContent = count(attempts);
    const opener = make('button', { type: 'button', class: 'small' }, 'Open');
    opener.setAttribute('aria-label', `Open dead letter ${id}`);
    opener.addEventListener('click', () => letter.open(letters.find((each) => each.id === id)));
    open.append(opener);
    return row;
  }

  function updateRow(row, { id, diedAt, replayRequested }) {
    row.querySelector('input').checked = selected.has(id);
    setText(row.cells[1], ago(diedAt, now()));
    row.querySelector('.chip').hidden = !replayRequested;
  }

  /** Asks, does, and says what came of it. */
  async function act(action, selection, number, which) {
    const isReplay = action === 'replay';
    const question = {
      title: `${isReplay ? 'Replay' : 'Delete'} ${which}?`,
      text: isReplay
        ? `${number === 1 ? 'It is' : 'They are'} published again. What SNS refuses again comes back here.`
        : `${number === 1 ? 'It is' : 'They are'} deleted for good: nobody will be notified of what happened.`,
      action: isReplay ? 'Replay' : 'Delete',
      danger: !isReplay,
    };
    if (!(await confirmed(question))) return;
    setText(result, '');
    replay = undefined;
    try {
      const { count: done } = await ask(`dead-letters/${action}`, selection);
      selected = new Set();
      if (isReplay) replay = { count: done, done: false };
      setText(
        result,
        isReplay ? `Replay of ${countOf(done, 'dead letter')} asked for …` : `Deleted ${countOf(done, 'dead letter')}.`,
      );
    } catch (error) {
      setText(result, `Not ${isReplay ? 'replayed' : 'deleted'}: ${error.message}`);
    }
    await load();
  }

  /** Says whether the daemon has taken all up; what became of them it counts itself, for all tabs. */
  function followReplay() {
    if (!replay) return;
    const left = counts.reduce((sum, { replaying }) => sum + replaying, 0);
    replay.done ||= left === 0;
    if (replay.done) setText(result, `${countOf(replay.count, 'dead letter')} taken up for replay.`);
    else setText(result, `Replaying: ${count(left)} to go …`);
  }

  const actOnSelected = (action) => {
    const ids = [...selected];
    return act(
      action,
      { ids },
      ids.length,
      ids.length === 1 ? `dead letter ${ids[0]}` : countOf(ids.length, 'dead letter'),
    );
  };
  const actOnAll = async (action) => {
    const { reason, topic } = wanted();
    const of = `${reason ? ` of reason ${reason}` : ''}${topic ? ` of topic ${topicName(topic)}` : ''}`;
    const number = total();
    const upTo = newest(matching());
    await act(
      action,
      { reason, topic, all: true, upTo },
      number,
      number === 1 ? `1 dead letter${of}` : `all ${count(number)} dead letters${of}`,
    );
  };

  for (const action of ['replay', 'delete']) {
    button(`${action}-selected`).addEventListener('click', () => actOnSelected(action));
    button(`${action}-all`).addEventListener('click', () => actOnAll(action));
  }
  selectPage.addEventListener('change', () => {
    for (const { id } of letters.slice(0, PAGE)) selectPage.checked ? selected.add(id) : selected.delete(id);
    show();
  });
  filter.reason.addEventListener('change', () => turn(undefined, []));
  filter.topic.addEventListener('change', () => turn(undefined, []));
  button('older').addEventListener('click', () => turn(letters[PAGE - 1].id, [...earlier, before]));
  button('newer').addEventListener('click', () => turn(earlier.at(-1), earlier.slice(0, -1)));

  /** Leaves nothing of what was seen; what is still on its way comes too late. */
  function forget() {
    asked += 1;
    letter.forget();
    letters = [];
    counts = [];
    earlier = [];
    before = undefined;
    selected = new Set();
    replay = undefined;
    for (const select of [filter.reason, filter.topic]) select.value = '';
    setText(result, '');
    show();
  }

  /** How many there were in all, when they were loaded last. */
  const loaded = () => counts.reduce((sum, { count }) => sum + count, 0);

  return { load, forget, loaded, replaying: () => replay !== undefined && !replay.done };
}

/** A plugin's error may quote what people wrote: of that only the function's name is for the table. */
const pluginFunction = (detail) =>
  /^(?:filter|userGuid|presenceAttributes|messageAttributes)\b/.exec(detail)?.[0] ?? '—';

/** The highest number among some counts. */
const newest = (counts) => counts.reduce((most, { newestId }) => Math.max(most, newestId), 0);

function showChoices(select, anything, choices) {
  const chosen = select.value;
  const names = new Map(choices);
  // A choice stays while it is chosen, also when the last of its kind has gone.
  if (chosen && !names.has(chosen)) names.set(chosen, topicName(chosen));
  const options = [['', anything], ...[...names].sort()];
  const before = [...select.options].map(({ value }) => value).join('\n');
  if (before === options.map(([value]) => value).join('\n')) return;
  select.replaceChildren(...options.map(([value, name]) => make('option', { value }, name)));
  select.value = chosen;
}
