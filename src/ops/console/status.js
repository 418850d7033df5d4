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

/** @param {'ready' | 'not-ready' | 'lost' | 'closed'} state */
export function showHealth(state, text) {
  health.dataset.state = state;
  setText(health, text);
  document.title = state === 'ready' ? 'xmpp-event-pusher' : `${text} – xmpp-event-pusher`;
}

/** @param state what the daemon says of itself @param samples the flow, oldest first */
export function showState(state, samples) {
  const { notReady } = state;
  if (notReady.length === 0) showHealth('ready', 'Ready');
  else showHealth('not-ready', plural(notReady.length, 'problem'));
  showProblems(notReady);
  showFigures(state, samples);
  showTopics(state);
  showSources(state);
}

function showProblems(list) {
  problems.hidden = list.length === 0;
  keepRows(problems.querySelector('ul'), list, {
    key: ({ what, reason }) => `${what} ${reason}`,
    create: ({ what, reason, advice }) =>
      make(
        'li',
        {},
        make('strong', {}, what),
        `: ${reason}`,
        ...(advice ? [make('span', { class: 'advice' }, `What to do: ${advice}`)] : []),
      ),
    update: () => {},
  });
}

/** A rate is shown as the mean of the last 10 s, so that it can be read. */
const STEADY_SAMPLES = 5;

function showFigures({ at, outbox, topics }, samples) {
  const last = samples.slice(-STEADY_SAMPLES);
  const mean = (of) => last.reduce((sum, sample) => sum + of(sample), 0) / Math.max(last.length, 1);
  const waiting = topics.reduce((sum, { depth }) => sum + depth, 0);
  const timed = samples.findLast(({ p50 }) => p50 !== null);
  const share = outbox.bytes / outbox.maxBytes;
  const list = [
    { name: 'In', value: `${rate(mean((sample) => sample.in))}/s`, note: 'events from XMPP servers' },
    { name: 'Out', value: `${rate(mean((sample) => sample.out))}/s`, note: 'notifications that SNS took' },
    {
      name: 'Waiting',
      value: count(waiting),
      note: outbox.oldestAt === undefined ? 'nothing' : `the oldest for ${duration(Math.max(at - outbox.oldestAt, 0))}`,
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

const latencyNote = ({ at, p99 }, now) => `99 % within ${duration(p99)}${now - at > 10_000 ? `, ${ago(at, now)}` : ''}`;

const TOPIC_COLUMNS = [
  ['Topic'],
  ['State'],
  ['Waiting', 'number'],
  ['Out/s', 'number'],
  ['Under way', 'number'],
  ['Last sent', 'short'],
];

function showTopics({ at, topics: list }) {
  keepRows(topics.querySelector('tbody'), list, {
    key: ({ arn }) => arn,
    create: ({ arn }) => {
      const row = makeRow(TOPIC_COLUMNS);
      row.cells[0].append(make('strong', {}, topicName(arn)), make('span', { class: 'quiet small' }, arn));
      return row;
    },
    update: (row, topic) => {
      const [, state, depth, out, inFlight, last] = row.cells;
      showTopicState(state, topic, at);
      setText(depth, count(topic.depth));
      setText(out, rate(topic.rate));
      setText(inFlight, count(topic.inFlight));
      setText(last, topic.lastAt === undefined ? '—' : ago(topic.lastAt, at));
    },
  });
}

function showTopicState(cell, { arn, state, pause }, at) {
  if (cell.dataset.state !== state) {
    cell.dataset.state = state;
    cell.replaceChildren(...stateElements(arn, state));
  }
  if (!pause) return;
  setText(cell.querySelector('.reason'), `${pause.reason}: ${pause.detail}`);
  setText(cell.querySelector('.advice'), `What to do: ${pause.advice}`);
  const next =
    pause.until > at
      ? `tried again in ${duration(Math.ceil((pause.until - at) / 1_000) * 1_000)}`
      : 'being tried again';
  setText(cell.querySelector('.since'), `For ${duration(Math.floor((at - pause.since) / 1_000) * 1_000)}, ${next}`);
}

const ORPHANED =
  'No configured account owns this topic, so what waits for it stays. Configure its region and account_id again, and reload.';

function stateElements(arn, state) {
  if (state === 'open') return [make('span', { class: 'chip', data: { state: 'ready' } }, 'Open')];
  if (state === 'orphaned')
    return [
      make('span', { class: 'chip', data: { state: 'not-ready' } }, 'Nobody sends'),
      make('span', { class: 'advice' }, ORPHANED),
    ];
  const button = make('button', { type: 'button', class: 'small' }, 'Try now');
  button.setAttribute('aria-label', `Try ${topicName(arn)} now`);
  button.addEventListener('click', () => tryTopic(arn));
  return [
    make('span', { class: 'chip', data: { state: 'not-ready' } }, 'Paused'),
    make('span', { class: 'reason' }),
    make('span', { class: 'advice' }),
    make('span', {}, make('span', { class: 'quiet since' }), ' ', button),
  ];
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

function showSources({ at, sources: list }) {
  sources.querySelector('.empty').hidden = list.length > 0;
  sources.querySelector('table').hidden = list.length === 0;
  keepRows(sources.querySelector('tbody'), list, {
    key: ({ source }) => source,
    create: ({ source }) => {
      const row = makeRow(SOURCE_COLUMNS);
      row.cells[0].append(make('strong', {}, source));
      return row;
    },
    update: (row, { heardAt, last, holes, missing, epoch, earlier }) => {
      const [, heard, position, hole, queue] = row.cells;
      setText(heard, ago(heardAt, at));
      heard.title = moment(heardAt);
      setText(position, count(last));
      setText(hole, holes === 0 ? 'none' : `${plural(holes, 'hole')}: ${plural(missing, 'event')} lost`);
      hole.classList.toggle('bad', holes > 0);
      setText(queue, earlier === 0 ? epoch : `${epoch}, after ${plural(earlier, 'earlier one')}`);
    },
  });
}
