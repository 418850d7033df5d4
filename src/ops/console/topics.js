/** The topics: their problems by cause, their states, and a button to retry paused ones. */
import { ask } from './api.js';
import { keepRows, make, makeRow, now, setText, topicName } from './dom.js';
import { ago, count, countOf, rate, seconds } from './format.js';

const problems = document.querySelector('#problems');
const topics = document.querySelector('#topics');

/** Counts the topics published too slowly, such as `2 topics throttled, 1 slow`; empty if none. */
export function slowedTopics(topics) {
  const names = ['throttled', 'slow', 'behind'];
  const counts = names.map((name) => [name, topics.filter(({ state }) => state === name).length]);
  const parts = counts.filter(([, number]) => number > 0);
  return parts
    .map(([name, number], place) => `${place === 0 ? countOf(number, 'topic') : count(number)} ${name}`)
    .join(', ');
}

/** How many topics of one cause are named. */
const NAMED = 3;

/** Groups problems by cause: topics paused for the same reason are one problem. */
export function causesOf(notReady, topics) {
  const paused = new Map(topics.filter(({ pause }) => pause).map((topic) => [`topic ${topic.arn}`, topic]));
  const causes = new Map();
  for (const problem of notReady) {
    const topic = paused.get(problem.what);
    const key = topic ? `paused ${topic.pause.reason}` : `${problem.what} ${problem.reason}`;
    const cause = causes.get(key) ?? { ...problem, key, arns: [] };
    if (topic) cause.arns.push(topic.arn);
    causes.set(key, cause);
  }
  return [...causes.values()].map((cause) => {
    const { arns, advice } = cause;
    if (arns.length < 2) return { ...cause, names: '' };
    const more = arns.length - NAMED;
    const names = arns.slice(0, NAMED).map(topicName).join(', ') + (more > 0 ? ` and ${count(more)} more` : '');
    // The first topic's advice applies to all of them.
    return {
      ...cause,
      what: countOf(arns.length, 'topic'),
      names,
      advice: advice?.replaceAll(arns[0], 'each of them'),
    };
  });
}

export function showProblems(causes) {
  problems.hidden = causes.length === 0;
  keepRows(problems.querySelector('ul'), causes, {
    key: ({ key }) => key,
    create: ({ key }) => {
      const all = make('button', { type: 'button', class: 'small', hidden: true }, 'Try all');
      all.addEventListener('click', () => tryTopics(shownCauses.get(key) ?? []));
      return make(
        'li',
        {},
        make('strong', {}),
        make('span', { class: 'reason' }),
        ' ',
        all,
        make('span', { class: 'quiet names' }),
        make('span', { class: 'advice' }),
      );
    },
    update: (row, { key, what, reason, advice, arns, names }) => {
      const all = row.querySelector('button');
      shownCauses.set(key, arns);
      setText(row.querySelector('strong'), what);
      setText(row.querySelector('.reason'), `: ${reason}`);
      setText(row.querySelector('.names'), names);
      setText(row.querySelector('.advice'), advice ? `What to do: ${advice}` : '');
      all.hidden = arns.length < 2;
      setText(all, `Try all ${count(arns.length)}`);
    },
  });
}

/** The topics of each cause shown last. */
const shownCauses = new Map();

const TOPIC_COLUMNS = [
  ['Topic'],
  ['State'],
  ['Waiting', 'number'],
  ['Out/s', 'number'],
  ['Under way', 'number'],
  ['Last sent', 'short'],
];

/** Problems come first. */
const ORDER = ['orphaned', 'paused', 'throttled', 'slow', 'behind', 'open'];
/** From this number on, the table has one line per topic and scrolls. */
const MANY = 12;

const only = topics.querySelector('input[name="only"]');
const region = topics.querySelector('.scroll');
only.form.addEventListener('submit', (event) => event.preventDefault());
only.addEventListener('input', () => {
  for (const row of topics.querySelectorAll('tbody tr')) row.hidden = !isWanted(row.dataset);
});

const isWanted = ({ key, state, hosts }) =>
  `${key} ${state} ${hosts}`.toLowerCase().includes(only.value.trim().toLowerCase());

/** Names two of several virtual hosts. */
const hostsText = (hosts) =>
  hosts.length > 3 ? `${hosts.slice(0, 2).join(', ')} and ${count(hosts.length - 2)} more` : hosts.join(', ');

export function showTopics({ at, topics: all }) {
  showTried(all, at);
  const list = all.toSorted((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  const many = list.length > MANY;
  only.form.hidden = !many && only.value === '';
  topics.classList.toggle('many', many);
  // Makes a scrolling region reachable by keyboard.
  if (many) region.tabIndex = 0;
  else region.removeAttribute('tabindex');
  keepRows(topics.querySelector('tbody'), list, {
    key: ({ arn }) => arn,
    create: ({ arn }) => {
      const row = makeRow(TOPIC_COLUMNS);
      row.cells[0].append(
        make('strong', {}, topicName(arn)),
        make('span', { class: 'quiet small' }, arn),
        make('span', { class: 'small hosts' }),
      );
      return row;
    },
    update: (row, topic) => {
      const [, state, depth, out, inFlight, last] = row.cells;
      row.dataset.state = topic.state;
      row.dataset.hosts = topic.hosts.join(' ');
      setText(row.querySelector('.hosts'), hostsText(topic.hosts));
      row.hidden = !isWanted(row.dataset);
      showTopicState(state, topic, at);
      setText(depth, count(topic.depth));
      setText(out, rate(topic.rate));
      setText(inFlight, count(topic.inFlight));
      setText(last, topic.lastAt === undefined ? '—' : ago(topic.lastAt, at));
    },
  });
}

/** Text and colour of each state. */
const STATES = {
  open: ['Open', 'ready'],
  throttled: ['Throttled', 'warn'],
  slow: ['Slow', 'warn'],
  behind: ['Behind', 'warn'],
  paused: ['Paused', 'not-ready'],
  orphaned: ['Nobody sends', 'not-ready'],
};

function showTopicState(cell, { arn, state, since, reason, advice, pause }, at) {
  if (cell.dataset.state !== state) {
    cell.dataset.state = state;
    cell.replaceChildren(...stateElements(arn, state));
  }
  if (state === 'open') return;
  setText(cell.querySelector('.reason'), reason);
  setText(cell.querySelector('.advice'), `What to do: ${advice}`);
  const lasted = `For ${seconds(at - since)}`;
  setText(cell.querySelector('.since'), pause ? `${lasted}, ${nextTry(pause, at)}` : lasted);
}

const nextTry = ({ until }, at) => (until > at ? `tried again in ${seconds(until - at + 999)}` : 'being tried again');

function stateElements(arn, state) {
  const [name, tone] = STATES[state];
  const chip = make('span', { class: 'chip', data: { state: tone } }, name);
  if (state === 'open') return [chip];
  const since = make('span', {}, make('span', { class: 'quiet since' }));
  if (state === 'paused') {
    const button = make('button', { type: 'button', class: 'small' }, 'Try now');
    button.setAttribute('aria-label', `Try now: ${topicName(arn)}`);
    button.addEventListener('click', () => tryTopics([arn]));
    since.append(' ', button);
  }
  return [chip, make('span', { class: 'reason' }), make('span', { class: 'advice' }), since];
}

/** Topics retried by the user here, with the start of their pause; and when the last of them finished. */
let tried = new Map();
let triedCount = 0;
let askedAt = 0;
let doneAt;
/** How long the result is shown, in milliseconds. */
const OUTCOME_MS = 60_000;

const result = topics.querySelector('.result');
const shownTopics = new Map();

async function tryTopics(arns) {
  const began = new Map(arns.map((arn) => [arn, shownTopics.get(arn)?.pause?.began]));
  const name = arns.length === 1 ? topicName(arns[0]) : countOf(arns.length, 'topic');
  try {
    await ask('topics/try', { arns });
    tried = began;
    triedCount = arns.length;
    askedAt = now();
    doneAt = undefined;
    setText(result, `Trying ${name} …`);
  } catch (error) {
    setText(result, `${name}: not tried: ${error.message}`);
  }
}

/** Shows the result of a retry as soon as it is known, for a while. */
function showTried(all, at) {
  shownTopics.clear();
  for (const topic of all) shownTopics.set(topic.arn, topic);
  if (tried.size === 0) return;
  if (doneAt !== undefined && at - doneAt > OUTCOME_MS) {
    tried = new Map();
    setText(result, '');
    return;
  }
  const outcomes = [...tried].map(([arn, began]) => outcomeOf(shownTopics.get(arn), began));
  const under = outcomes.filter((outcome) => outcome === 'under way').length;
  const refused = outcomes.filter((outcome) => outcome === 'refused').length;
  if (under === 0 || at - askedAt > OUTCOME_MS) doneAt ??= at;
  const only = triedCount === 1 ? shownTopics.get([...tried.keys()][0]) : undefined;
  if (only) setText(result, oneTried(only, outcomes[0]));
  else
    setText(
      result,
      `Tried ${countOf(triedCount, 'topic')}: ${count(triedCount - under - refused)} open, ${count(refused)} still paused${under > 0 ? `, ${count(under)} under way …` : '.'}`,
    );
}

function outcomeOf(topic, began) {
  if (!topic?.pause) return 'open';
  return topic.pause.began === began ? 'under way' : 'refused';
}

function oneTried({ arn, pause, depth }, outcome) {
  if (outcome === 'open') return `${topicName(arn)} is open: SNS takes its notifications again.`;
  if (outcome === 'refused') return `${topicName(arn)} was tried and is still paused: ${pause.reason}.`;
  if (depth === 0) return `${topicName(arn)} is tried with the next notification: none waits for it now.`;
  return `Trying ${topicName(arn)} …`;
}
