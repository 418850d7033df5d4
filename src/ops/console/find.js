/** Finds events by user, room or id, and shows what became of each. */
import { ask } from './api.js';
import { make, moment, now, setText, topicName } from './dom.js';
import { count, countOf, seconds } from './format.js';

const section = document.querySelector('#find');
const form = section.querySelector('form');
const result = section.querySelector('.result');
const list = section.querySelector('.found');
const covers = section.querySelector('.covers');
/** Start of a link to an event. */
const LINK = '#find=';

/** A link to the events found by `what`. */
export const linkTo = (what) => `${LINK}${encodeURIComponent(what)}`;

/** Warns if the record can't be written: events delivered meanwhile can't be found later. */
export function showRecord(record) {
  const line = section.querySelector('.problem');
  line.hidden = !record?.problem;
  if (record?.problem) setText(line, `Deliveries are not recorded: ${record.problem}. Publishing is not affected.`);
}

/** Returns functions to search for the page's `#find=…`, and to clear the results. */
export function createFind() {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const what = form.elements.what.value.trim();
    if (what === '') return;
    // The link can be shared; searching for the same thing again refreshes the results.
    if (location.hash === linkTo(what)) find(what);
    else location.hash = linkTo(what);
  });
  form.elements.since.addEventListener('change', () => {
    if (asked !== undefined) find(asked);
  });
  addEventListener('hashchange', follow);
  return {
    begin: follow,
    forget() {
      asked = undefined;
      form.reset();
      for (const element of [list, result, covers]) element.replaceChildren();
    },
  };
}

let asked;

function follow() {
  if (!location.hash.startsWith(LINK)) return;
  let what;
  try {
    what = decodeURIComponent(location.hash.slice(LINK.length)).trim();
  } catch {
    return; // The link was truncated.
  }
  if (what === '') return;
  form.elements.what.value = what;
  section.scrollIntoView();
  find(what);
}

async function find(what) {
  asked = what;
  setText(result, 'Looking …');
  const since = Number(form.elements.since.value);
  const query = new URLSearchParams({ what, limit: 100, ...(since > 0 && { from: Math.round(now() - since) }) });
  let found;
  try {
    found = await ask(`find?${query}`);
  } catch (error) {
    if (asked === what) setText(result, `Search failed: ${error.message}`);
    return;
  }
  // Meanwhile the user may have searched for something else or logged out.
  if (asked !== what) return;
  show(found);
}

function show({ asked: { text, limit }, findings, more, record, looked }) {
  const events = [...Map.groupBy(findings, ({ eventId }) => eventId)];
  list.replaceChildren(...events.map(([eventId, of]) => eventOf(eventId, of)));
  if (events.length === 0) setText(result, `Found nothing about ${text}.`);
  else
    setText(
      result,
      `${countOf(events.length, 'event')} of ${text}${more ? `: the newest ${limit} findings, there may be more` : ''}.`,
    );
  setText(covers, coverage(record, looked));
}

function eventOf(eventId, findings) {
  const [{ names, eventAt }] = findings;
  const happened = eventAt === undefined ? '' : `happened ${moment(eventAt)}`;
  return make(
    'li',
    {},
    make('p', {}, make('strong', {}, namesText(names)), ' ', make('span', { class: 'quiet' }, happened)),
    make('ul', {}, ...findings.map(findingOf)),
    make('p', { class: 'quiet small' }, 'Event ', make('a', { href: linkTo(eventId) }, eventId)),
  );
}

/** Sender, recipient and the stanza's id. */
const namesText = ([from = '', to, stanza]) =>
  [from, to && ` → ${to}`, stanza && `, stanza ${stanza}`].filter(Boolean).join('');

/** Texts of the reasons for skipping an event. */
const SKIPPED = {
  'no-topic': 'no topic is configured for it',
  'host-has-no-sns': 'its host publishes nothing',
  'not-first-session': 'the user had a session already',
  'sessions-left': 'the user has other sessions',
  filtered: 'the plugin filtered it',
};

function findingOf(finding) {
  const { what, at } = finding;
  const [state, ...lines] = { delivered, waiting, skipped, dead }[what](finding);
  const chip = make('span', { class: 'chip', data: { state: state[0] } }, state[1]);
  return make(
    'li',
    {},
    chip,
    ' ',
    moment(at),
    ...lines.map((line) => (typeof line === 'string' ? make('span', { class: 'line' }, line) : line)),
  );
}

function delivered({ topic, messageId, requestId }) {
  const ids = [messageId && `MessageId ${messageId}`, requestId && `request ${requestId}`].filter(Boolean);
  return [['ready', 'Delivered'], `to ${topicName(topic)}`, ...ids];
}

function waiting({ topic, before, at, behind }) {
  const wait = `for ${topicName(topic)}, ${seconds(now() - at)} so far, ${before === 0 ? 'next in its turn' : `${count(before)} before it`}`;
  if (!behind || behind.state === 'open') return [['waiting', 'Waiting'], wait];
  const why = `the topic is ${behind.state}: ${behind.reason}`;
  return [['waiting', 'Waiting'], wait, why, ...(behind.advice ? [`What to do: ${behind.advice}`] : [])];
}

const skipped = ({ reason }) => [['', 'Skipped'], SKIPPED[reason] ?? reason];

function dead({ topic, reason, deadLetter, replaying }) {
  const where = topic === undefined ? reason : `${reason}, for ${topicName(topic)}`;
  if (deadLetter === undefined) return [['', 'Was a dead letter'], where, 'replayed or deleted since'];
  const open = make('button', { type: 'button', class: 'small' }, `Open dead letter ${deadLetter}`);
  open.addEventListener('click', () => document.dispatchEvent(new CustomEvent('open-letter', { detail: deadLetter })));
  return [
    ['not-ready', 'Dead'],
    replaying ? `${where}; its replay waits` : where,
    make('span', { class: 'line' }, open),
  ];
}

/** Describes what was searched: events outside it may still have been published. */
function coverage({ on, since, problem, lost, unreadable, elsewhere }, looked) {
  const waits = `${countOf(looked, 'notification')} that ${looked === 1 ? 'waits' : 'wait'}, `;
  const parts = [`Searched ${elsewhere ? '' : waits}the dead letters, and `];
  if (!on) parts.push('nothing else: what is delivered and skipped is not recorded (trace.keep is off).');
  else if (since === undefined) parts.push('nothing else: nothing is recorded yet.');
  else parts.push(`what was delivered and skipped in the last ${seconds(now() - since)}.`);
  if (elsewhere)
    parts.push(" What waits is in RabbitMQ and can't be searched; other daemons know what they delivered.");
  if (problem) parts.push(` The record can't be written: ${problem}.`);
  if (lost > 0) parts.push(` ${countOf(lost, 'record')} could not be written.`);
  if (unreadable > 0) parts.push(` ${countOf(unreadable, 'block')} of about a thousand records could not be read.`);
  return parts.join('');
}
