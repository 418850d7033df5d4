/**
 * The dead letters: filter them, open one, and replay or delete one, several, or all that match.
 *
 * "All" means all that existed at the last load: those that arrive while a question is shown are not affected.
 */
import { ask } from './api.js';
import { createChips } from './chips.js';
import { confirmed } from './confirm.js';
import { keepRows, make, makeRow, moment, now, setText, topicName } from './dom.js';
import { ago, count, countOf, whatWasWrong } from './format.js';
import { createLetter } from './letter.js';
import { createSorting } from './sorting.js';

const PAGE = 20;
const NOT_LOADED = 'Not loaded: ';
const COLUMNS = [
  ['', 'check'],
  ['Since', 'short'],
  ['Reason'],
  ['Topic'],
  ['User'],
  ['Room'],
  ['Host'],
  ['What was wrong', 'detail'],
  ['Tries', 'number'],
  [''],
];
/** How long to wait for further typing before searching. */
const TYPING_MS = 300;

const section = document.querySelector('#letters');
const body = section.querySelector('tbody');
const result = section.querySelector('.result');
const form = section.querySelector('form');
const { match } = form.elements;
const button = (name) => section.querySelector(`button[name="${name}"]`);
const selectPage = section.querySelector('input[name="select-page"]');

export function createDeadLetters() {
  let letters = [];
  let counts = [];
  let total = 0;
  /**
   * How many letters precede this page, and the newest id when the first page was shown: later letters shift nothing.
   */
  let offset = 0;
  let upTo;
  let selected = new Set();
  /** The last replay started here: how many letters, and whether the daemon has picked them all up. */
  let replay;
  let typing;

  const letter = createLetter((action, id) => act(action, { ids: [id] }, 1, `dead letter ${id}`));
  const turn = (to) => {
    offset = to;
    selected = new Set();
    load();
  };
  const reasons = createChips(section.querySelector('[data-of="reason"]'), () => turn(0));
  const topics = createChips(section.querySelector('[data-of="topic"]'), () => turn(0));
  const sorting = createSorting(section.querySelector('thead'), 'id', () => turn(0));

  const wanted = () => ({
    reason: reasons.chosen(),
    topic: topics.chosen(),
    match: match.value.trim() || undefined,
  });
  const isFiltered = () => Object.values(wanted()).some((value) => value !== undefined);

  /** The latest request; answers to earlier ones are ignored. */
  let asked = 0;

  async function load() {
    const mine = ++asked;
    const query = queryOf({
      ...wanted(),
      ...sorting.chosen(),
      offset,
      limit: PAGE,
      upTo: offset > 0 ? upTo : undefined,
    });
    try {
      const answer = await ask(`dead-letters?${query}`);
      if (mine !== asked) return;
      ({ letters, counts, total } = answer);
    } catch (error) {
      setText(result, `${NOT_LOADED}${error.message}`);
      return;
    }
    if (offset === 0) upTo = newest(counts) || undefined;
    if (result.textContent.startsWith(NOT_LOADED)) setText(result, '');
    // All letters of this page are gone.
    if (letters.length === 0 && offset > 0) {
      turn(0);
      return;
    }
    followReplay();
    show();
  }

  function show() {
    const ids = new Set(letters.map(({ id }) => id));
    selected = selected.intersection(ids);
    showChips();
    section.querySelector('table').hidden = letters.length === 0;
    const empty = section.querySelector('.empty');
    empty.hidden = letters.length > 0;
    setText(
      empty,
      isFiltered() ? 'None of these.' : "None. What can't be published comes here, and nothing is dropped.",
    );
    keepRows(body, letters, { key: ({ id }) => id, create: createRow, update: updateRow });
    const end = offset + letters.length;
    button('next').disabled = end >= total;
    button('previous').disabled = offset === 0;
    section.querySelector('.pages').hidden = letters.length === 0;
    setText(section.querySelector('.place'), `${count(offset + 1)}–${count(end)} of ${count(total)}`);
    form.querySelector('.export').href = `api/dead-letters/export?${queryOf(wanted())}`;
    showButtons();
  }

  /** Shows the counts by reason and topic: by reason within the selected topic, and vice versa. */
  function showChips() {
    const { reason, topic } = wanted();
    const sums = (of, fits) => {
      const all = new Map();
      for (const each of counts)
        if (each[of] !== undefined) all.set(each[of], (all.get(each[of]) ?? 0) + (fits(each) ? each.count : 0));
      return [...all].sort(([, a], [, b]) => b - a);
    };
    reasons.show(
      sums('reason', (each) => topic === undefined || each.topic === topic).map(([name, number]) => [
        name,
        name,
        number,
      ]),
    );
    topics.show(
      sums('topic', (each) => reason === undefined || each.reason === reason).map(([arn, number]) => [
        arn,
        topicName(arn),
        number,
      ]),
    );
  }

  function showButtons() {
    const chosen = selected.size;
    for (const action of ['replay', 'delete']) {
      const name = action === 'replay' ? 'Replay' : 'Delete';
      button(`${action}-selected`).disabled = chosen === 0;
      setText(button(`${action}-selected`), chosen === 0 ? `${name} selected` : `${name} selected (${count(chosen)})`);
      button(`${action}-all`).disabled = total === 0;
      setText(
        button(`${action}-all`),
        total === 0 ? `${name} all` : `${name} all ${count(total)}${isFiltered() ? ' that match' : ''}`,
      );
    }
    selectPage.checked = chosen > 0 && chosen === body.rows.length;
    selectPage.indeterminate = chosen > 0 && chosen < body.rows.length;
  }

  function createRow({ id, diedAt, reason, topic, user, room, host, detail, attempts, eventId }) {
    const row = makeRow(COLUMNS);
    const [check, since, why, where, who, place, domain, what, tries, open] = row.cells;
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
    setText(where, topic ? topicName(topic) : '—');
    setText(who, user ?? '—');
    setText(place, room ?? '—');
    setText(domain, host ?? '—');
    what.append(make('span', {}, whatWasWrong({ reason, detail })), make('span', { class: 'quiet small' }, eventId));
    setText(tries, count(attempts));
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

  /** Asks for confirmation, acts, and shows the result. */
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

  /** Shows whether the daemon has picked up all letters; it counts the results itself, for all tabs. */
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
    const { reason, topic, match: text } = wanted();
    const of = `${reason ? ` of reason ${reason}` : ''}${topic ? ` of topic ${topicName(topic)}` : ''}${text ? ` with “${text}”` : ''}`;
    const number = total;
    await act(
      action,
      { reason, topic, match: text, all: true, upTo: offset > 0 ? upTo : newest(counts) },
      number,
      number === 1 ? `1 dead letter${of}` : `all ${count(number)} dead letters${of}`,
    );
  };

  for (const action of ['replay', 'delete']) {
    button(`${action}-selected`).addEventListener('click', () => actOnSelected(action));
    button(`${action}-all`).addEventListener('click', () => actOnAll(action));
  }
  selectPage.addEventListener('change', () => {
    for (const { id } of letters) selectPage.checked ? selected.add(id) : selected.delete(id);
    show();
  });
  const search = () => {
    clearTimeout(typing);
    turn(0);
  };
  match.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(search, TYPING_MS);
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    search();
  });
  button('next').addEventListener('click', () => turn(offset + PAGE));
  button('previous').addEventListener('click', () => turn(Math.max(offset - PAGE, 0)));

  /** Clears everything shown; ignores pending answers. */
  function forget() {
    asked += 1;
    letter.forget();
    letters = [];
    counts = [];
    total = 0;
    offset = 0;
    upTo = undefined;
    selected = new Set();
    replay = undefined;
    clearTimeout(typing);
    match.value = '';
    for (const choice of [reasons, topics, sorting]) choice.forget();
    setText(result, '');
    show();
  }

  /** The total number at the last load. */
  const loaded = () => counts.reduce((sum, { count }) => sum + count, 0);

  return { load, forget, loaded, replaying: () => replay !== undefined && !replay.done };
}

const newest = (counts) => counts.reduce((most, { newestId }) => Math.max(most, newestId), 0);

const queryOf = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined));
