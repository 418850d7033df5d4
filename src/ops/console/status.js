/** The daemon's health and figures. */
import { showDaemons } from './daemons.js';
import { clock, keepRows, make, moment, setText } from './dom.js';
import { showRecord } from './find.js';
import { bytes, count, countOf, duration, percent, rate, seconds } from './format.js';
import { showSources, showTaps } from './sources.js';
import { causesOf, showProblems, showTopics, slowedTopics } from './topics.js';

const health = document.querySelector('#health');
const figures = document.querySelector('#figures');

/** @param {'ready' | 'warn' | 'not-ready' | 'lost' | 'closed'} state */
export function showHealth(state, text) {
  health.dataset.state = state;
  setText(health, text);
  document.title = state === 'ready' ? 'xmpp-event-pusher' : `${text} – xmpp-event-pusher`;
}

/** @param state the daemon's state @param samples the flow, oldest first */
export function showState(state, samples) {
  const { notReady } = state;
  const slowed = slowedTopics(state.topics);
  const causes = causesOf(notReady, state.topics);
  if (causes.length > 0) showHealth('not-ready', countOf(causes.length, 'problem'));
  else if (slowed) showHealth('warn', slowed);
  else showHealth('ready', 'Ready');
  showProblems(causes);
  showFigures(state, samples);
  showTopics(state);
  showDaemons(state.shared);
  showTaps(state.taps);
  showSources(state);
  showRecord(state.trace);
  showReplay(state.replay);
}

/** Shows the daemon's counts of the last replay: the same in every tab. */
function showReplay(replay) {
  const line = document.querySelector('#letters .replay');
  line.hidden = !replay;
  if (!replay) return;
  const { since, asked, taken, deadAgain, waiting } = replay;
  setText(
    line,
    `Replay of ${countOf(asked, 'dead letter')}, ${moment(since)}: SNS took ${count(taken)}, ${count(deadAgain)} dead again, ${count(waiting)} waiting.`,
  );
}

/** A rate is shown as the mean of the last 10 s, to be readable. */
const STEADY_SAMPLES = 5;
/** The age at which a latency no longer counts as current, in milliseconds. */
const STALE_MS = 10_000;

function showFigures({ at, outbox, topics, trend, notPublished }, samples) {
  const last = samples.slice(-STEADY_SAMPLES);
  const mean = (of) => last.reduce((sum, sample) => sum + of(sample), 0) / Math.max(last.length, 1);
  const waiting = topics.reduce((sum, { depth }) => sum + depth, 0);
  const timed = samples.findLast(({ p50 }) => p50 !== null);
  const fresh = timed && at - timed.at <= STALE_MS;
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
      value: fresh ? duration(timed.p50) : '—',
      note: latencyNote(timed, fresh),
    },
    {
      name: 'Dead letters',
      value: count(outbox.deadLetters),
      note: outbox.deadLetters === 0 ? 'none' : 'see below',
      tone: outbox.deadLetters > 0 ? 'warn' : '',
    },
    {
      name: 'Outbox',
      value: percent(share),
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

/** Texts of the reasons why an event is not published. */
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
  return `${trend && `${trend}; `}the oldest for ${seconds(at - oldestAt)}`;
}

/** An old latency is not current: during an outage there is none. */
function latencyNote(timed, fresh) {
  if (!timed) return 'none taken yet';
  if (fresh) return `99 % within ${duration(timed.p99)}`;
  return `none taken since ${clock(timed.at)}, when it was ${duration(timed.p50)}`;
}
