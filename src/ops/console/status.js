/** How things stand: the figures, what is wrong, topics and sources. */
import { ask } from './api.js';
import {
  ago,
  bytes,
  count,
  duration,
  keepRows,
  make,
  makeRow,
  moment,
  plural,
  rate,
  setText,
  topicName,
} from './dom.js';

const health = document.querySelector('#health');
const problems = document.querySelector('#problems');
const figures = document.querySelector('#figures');
const topics = document.querySelector('#topics');
const sources = document.querySelector('#sources');

/** @param {'ready' | 'warn' | 'not-ready' | 'lost' | 'closed'} state */
export function showHealth(state, text) {
  health.dataset.state = state;
  setText(health, text);
  document.title = state === 'ready' ? 'xmpp-event-pusher' : `${text} – xmpp-event-pusher`;
}

/** @param state what the daemon says of itself @param samples the flow, oldest first */
export function showState(state, samples) {
  const { notReady } = state;
  const slowed = slowedTopics(state.topics);
  const causes = causesOf(notReady, state.topics);
  if (causes.length > 0) showHealth('not-ready', plural(causes.length, 'problem'));
  else if (slowed) showHealth('warn', slowed);
  else showHealth('ready', 'Ready');
  showProblems(causes);
  showFigures(state, samples);
  showTopics(state);
  showSources(state);
  showReplay(state.replay);
}

/** What the daemon counted of the last replay: the same in every tab. */
function showReplay(replay) {
  const line = document.querySelector('#letters .replay');
  line.hidden = !replay;
  if (!replay) return;
  const { since, asked, taken, deadAgain, waiting } = replay;
  setText(
    line,
    `Replay of ${plural(asked, 'dead letter')}, ${moment(since)}: SNS took ${count(taken)}, ${count(deadAgain)} dead again, ${count(waiting)} waiting.`,
  );
}

/** How many topics are published to more slowly than they should, such as `2 topics throttled, 1 slow`; empty for none. */
function slowedTopics(topics) {
  const names = ['throttled', 'slow', 'behind'];
  const counts = names.map((name) => [name, topics.filter(({ state }) => state === name).length]);
  const parts = counts.filter(([, number]) => number > 0);
  return parts
    .map(([name, number], place) => `${place === 0 ? plural(number, 'topic') : count(number)} ${name}`)
    .join(', ');
}

/** How many topics of one cause are named. */
const NAMED = 3;

/** Problems by their cause: topics that are paused for one reason are one problem. */
function causesOf(notReady, topics) {
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
    const { arns } = cause;
    if (arns.length < 2) return { ...cause, names: '' };
    const more = arns.length - NAMED;
    const names = arns.slice(0, NAMED).map(topicName).join(', ') + (more > 0 ? ` and ${count(more)} more` : '');
    return { ...cause, what: plural(arns.length, 'topic'), names };
  });
}

function showProblems(causes) {
  problems.hidden = causes.length === 0;
  keepRows(problems.querySelector('ul'), causes, {
    key: ({ key }) => key,
    create: ({ key }) => {
      const all = make('button', { type: 'button', class: 'small', hidden: true }, 'Try all');
      all.addEventListener('click', () => tryAll(shownCauses.get(key) ?? []));
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

/** The topics of each cause that was shown last. */
const shownCauses = new Map();

async function tryAll(arns) {
  const result = topics.querySelector('.result');
  try {
    const { tried } = await ask('topics/try', { arns });
    setText(
      result,
      `${plural(tried, 'topic is', 'topics are')} being tried. Each opens when SNS takes a notification.`,
    );
  } catch (error) {
    setText(result, `They were not tried: ${error.message}`);
  }
}

/** A rate is shown as the mean of the last 10 s, so that it can be read. */
const STEADY_SAMPLES = 5;

function showFigures({ at, outbox, topics, trend, notPublished }, samples) {
  const last = samples.slice(-STEADY_SAMPLES);
  const mean = (of) => last.reduce((sum, sample) => sum + of(sample), 0) / Math.max(last.length, 1);
  const waiting = topics.reduce((sum, { depth }) => sum + depth, 0);
  const timed = samples.findLast(({ p50 }) => p50 !== null);
  const share = outbox.bytes / outbox.maxBytes;
  const list = [
    { name: 'In', value: `${rate(mean((sample) => sample.in))}/s`, note: inNote(notPublished) },
    { name: 'Out', value: `${rate(mean((sample) => sample.out))}/s`, note: 'notifications that SNS took' },
    {
      name: 'Waiting',
      value: count(waiting),
      note: waitingNote(at, outbox.oldestAt, trend.text),
      tone: trend.perSecond > 0.5 && topics.some(({ state }) => state !== 'open') ? 'warn' : '',
    },
    {
      name: 'Event to SNS',
      value: timed ? duration(timed.p50) : '—',
      note: timed ? latencyNote(timed, at) : 'no notification yet',
    },
    {
      name: 'Dead letters',
      value: count(outbox.deadLetters),
      note: outbox.deadLetters === 0 ? 'none' : 'see below',
      tone: outbox.deadLetters > 0 ? 'warn' : '',
    },
    {
      name: 'Outbox',
      value: `${share < 0.01 ? '< 1' : count(share * 100)} %`,
      note: outbox.fault ?? `${bytes(outbox.bytes)} of ${bytes(outbox.maxBytes)}`,
      tone: outbox.fault || share > 0.8 ? 'bad' : '',
    },
  ];
  keepRows(figures, list, {
    key: ({ name }) => name,
    create: ({ name }) =>
      make('div', {}, make('dt', {}, name), make('dd', { class: 'value' }), make('dd', { class: 'quiet' })),
    update: (row, { value, note, tone = '' }) => {
      row.dataset.tone = tone;
      setText(row.children[1], value);
      setText(row.children[2], note);
    },
  });
}

/** How the reasons read why an event is not published. */
const LEFT_OUT = {
  'no-topic': 'without a topic',
  'host-has-no-sns': 'of hosts that publish nothing',
  'not-first-session': 'not the first session',
  'sessions-left': 'not the last session',
  filtered: 'filtered by the plugin',
  duplicate: 'came again',
  rejected: 'malformed',
};

function inNote(notPublished) {
  if (notPublished.length === 0) return 'events from XMPP servers';
  return `not published: ${notPublished.map(({ reason, rate: each }) => `${rate(each)}/s ${LEFT_OUT[reason] ?? reason}`).join(', ')}`;
}

function waitingNote(at, oldestAt, trend) {
  if (oldestAt === undefined) return 'nothing';
  return `${trend && `${trend}; `}the oldest for ${duration(Math.max(at - oldestAt, 0))}`;
}

const latencyNote = ({ at, p99 }, now) => `99 % within ${duration(p99)}${now - at > 10_000 ? `, ${ago(at, now)}` : ''}`;

const TOPIC_COLUMNS = [
  ['Topic'],
  ['State'],
  ['Waiting', 'number'],
  ['Out/s', 'number'],
  ['Under way', 'number'],
  ['Last sent', 'short'],
];

/** What is wrong comes first. */
const ORDER = ['orphaned', 'paused', 'throttled', 'slow', 'behind', 'open'];
/** Of so many topics, a table shows a line each, in a region that scrolls. */
const MANY = 12;

const only = topics.querySelector('input[name="only"]');
const region = topics.querySelector('.scroll');
only.form.addEventListener('submit', (event) => event.preventDefault());
only.addEventListener('input', () => {
  for (const row of topics.querySelectorAll('tbody tr')) row.hidden = !isWanted(row.dataset);
});

const isWanted = ({ key, state }) => `${key} ${state}`.toLowerCase().includes(only.value.trim().toLowerCase());

function showTopics({ at, topics: all }) {
  const list = all.toSorted((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
  const many = list.length > MANY;
  only.form.hidden = !many && only.value === '';
  topics.classList.toggle('many', many);
  // A region that scrolls has to be reached with the keyboard.
  if (many) region.tabIndex = 0;
  else region.removeAttribute('tabindex');
  keepRows(topics.querySelector('tbody'), list, {
    key: ({ arn }) => arn,
    create: ({ arn }) => {
      const row = makeRow(TOPIC_COLUMNS);
      row.cells[0].append(make('strong', {}, topicName(arn)), make('span', { class: 'quiet small' }, arn));
      return row;
    },
    update: (row, topic) => {
      const [, state, depth, out, inFlight, last] = row.cells;
      row.dataset.state = topic.state;
      row.hidden = !isWanted(row.dataset);
      showTopicState(state, topic, at);
      setText(depth, count(topic.depth));
      setText(out, rate(topic.rate));
      setText(inFlight, count(topic.inFlight));
      setText(last, topic.lastAt === undefined ? '—' : ago(topic.lastAt, at));
    },
  });
}

/** How each state reads, and its colour. */
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
  const lasted = `For ${duration(Math.floor(Math.max(at - since, 0) / 1_000) * 1_000)}`;
  setText(cell.querySelector('.since'), pause ? `${lasted}, ${nextTry(pause, at)}` : lasted);
}

const nextTry = ({ until }, at) =>
  until > at ? `tried again in ${duration(Math.ceil((until - at) / 1_000) * 1_000)}` : 'being tried again';

function stateElements(arn, state) {
  const [name, tone] = STATES[state];
  const chip = make('span', { class: 'chip', data: { state: tone } }, name);
  if (state === 'open') return [chip];
  const since = make('span', {}, make('span', { class: 'quiet since' }));
  if (state === 'paused') {
    const button = make('button', { type: 'button', class: 'small' }, 'Try now');
    button.setAttribute('aria-label', `Try ${topicName(arn)} now`);
    button.addEventListener('click', () => tryTopic(arn));
    since.append(' ', button);
  }
  return [chip, make('span', { class: 'reason' }), make('span', { class: 'advice' }), since];
}

async function tryTopic(arn) {
  const result = topics.querySelector('.result');
  try {
    await ask('topics/try', { arn });
    setText(result, `${topicName(arn)} is being tried. It opens when SNS takes a notification.`);
  } catch (error) {
    setText(result, `${topicName(arn)} was not tried: ${error.message}`);
  }
}

const SOURCE_COLUMNS = [
  ['Source'],
  ['Last heard', 'short'],
  ['Position', 'number'],
  ['Holes in its numbers'],
  ['Queue'],
];

const holeText = ({ epoch, first, last, at }, now) =>
  first === undefined ? 'from before' : `the last ${first} to ${last} of ${epoch}, ${ago(at, now)}`;

function showSources({ at, sources: list, otherSources: others }) {
  sources.querySelector('.empty').hidden = list.length > 0;
  sources.querySelector('table').hidden = list.length === 0;
  const more = sources.querySelector('.others');
  more.hidden = others.count === 0;
  setText(
    more,
    `and ${plural(others.count, 'other source')}, with ${plural(others.holes, 'hole')}: ${plural(others.missing, 'event')} lost`,
  );
  keepRows(sources.querySelector('tbody'), list, {
    key: ({ source }) => source,
    create: ({ source }) => {
      const row = makeRow(SOURCE_COLUMNS);
      row.cells[0].append(make('strong', {}, source));
      return row;
    },
    update: (row, { heardAt, last, holes, missing, epoch, earlier, newHoles, newestHole }) => {
      const [, heard, position, hole, queue] = row.cells;
      setText(heard, ago(heardAt, at));
      heard.title = moment(heardAt);
      setText(position, count(last));
      const all = holes === 0 ? 'none' : `${plural(holes, 'hole')}: ${plural(missing, 'event')} lost`;
      setText(hole, newHoles === 0 ? all : `${all}; ${newHoles} not acknowledged, ${holeText(newestHole, at)}`);
      hole.classList.toggle('bad', newHoles > 0);
      setText(queue, earlier === 0 ? epoch : `${epoch}, after ${plural(earlier, 'earlier one')}`);
    },
  });
}
