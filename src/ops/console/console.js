/** The page: logs in if necessary, follows the live feed, and passes its data to the parts. */
import { forgetAge, markFresh, markOld } from './age.js';
import { ask } from './api.js';
import { createDeadLetters } from './dead-letters.js';
import { now, setClock, setText } from './dom.js';
import { createFind } from './find.js';
import { createHistory } from './history.js';
import { showHealth, showState } from './status.js';
import { followTogether } from './tabs.js';
import { createTail } from './tail.js';

const main = document.querySelector('#main');
const login = document.querySelector('#login');
const entry = document.querySelector('#entry');
const logout = document.querySelector('#logout');
const sections = document.querySelector('#sections');

/** Dead letters can change while their number stays the same: reload them at least after this many ticks. */
const LETTERS_EVERY = 15;

const ranges = [...document.querySelectorAll('input[name="range"]')];

const letters = createDeadLetters();
const found = createFind();
const forgetHistory = createHistory();
const tail = createTail((wish) => following?.wish(wish));
/** The plots' code, loaded after the first figures, which do not need it. */
let plots;
/** The samples so far, oldest first. */
let samples = [];
let fitted = false;
let following;
let ticks = 0;

/** @param hello the first figures, if the page already has them */
function open(needsLogin, hello) {
  for (const element of [main, sections]) element.hidden = false;
  entry.hidden = true;
  logout.hidden = !needsLogin;
  if (hello) begin(hello);
  found.begin();
  following = followTogether(
    { bodies: false, match: '' },
    {
      hello(first) {
        begin(first);
        loadSamples();
      },
      tick({ sample, state }) {
        setClock(state.at);
        addSamples([sample]);
        show(state);
      },
      notifications: (lines) => tail.add(lines),
      lost: () => markOld('Connection lost'),
      silent: () => markOld('No answer'),
      hidden: () => markOld('Asleep'),
    },
  );
  loadPlots();
}

function begin({ version, samples: few = [], state }) {
  setClock(state.at);
  setText(document.querySelector('#version'), version);
  addSamples(few);
  show(state);
}

function show(state) {
  markFresh(state.at);
  showState(state, samples);
  // Compare with the loaded number, not the last tick's: a replay may fail again between two ticks, with the same
  // number.
  const changed = state.outbox.deadLetters !== letters.loaded();
  if (changed || letters.replaying() || ticks++ % LETTERS_EVERY === 0) letters.load();
}

/** As long as the daemon keeps samples, in milliseconds. */
const KEPT_MS = 3_600_000;

/** Adds samples; skips known ones. */
function addSamples(more) {
  const [only] = more;
  if (more.length === 1 && only.at > (samples.at(-1)?.at ?? 0)) {
    samples.push(only);
    while (samples[0].at < only.at - KEPT_MS) samples.shift();
    plots?.draw(samples);
    return;
  }
  const all = new Map([...samples, ...more].map((sample) => [sample.at, sample]));
  const last = more.at(-1)?.at ?? 0;
  samples = [...all.values()].filter(({ at }) => at >= last - KEPT_MS).sort((a, b) => a.at - b.at);
  plots?.draw(samples);
}

/** Loads the last hour, from before the page was opened or while it was disconnected. */
async function loadSamples() {
  const columns = await ask('samples').catch(() => undefined);
  if (!columns || !following) return;
  const names = Object.keys(columns);
  addSamples(columns.at.map((_, place) => Object.fromEntries(names.map((name) => [name, columns[name][place]]))));
  fitRange();
}

async function loadPlots() {
  if (plots) return;
  const { createPlots } = await import('./plots.js');
  // Created when they become visible, because a plot needs its width.
  if (plots || main.hidden) return;
  plots = createPlots(document.querySelector('#plots'));
  for (const input of ranges) input.addEventListener('change', () => plots.show(Number(input.value)));
  plots.show(Number(ranges.find(({ checked }) => checked).value));
  plots.draw(samples);
}

/** Selects the shortest range that holds all samples of a daemon that has just started. */
function fitRange() {
  if (fitted) return;
  fitted = true;
  const seconds = samples.length === 0 ? 0 : (now() - samples[0].at) / 1_000;
  const input = ranges.find(({ value }) => seconds < Number(value)) ?? ranges.at(-1);
  input.checked = true;
  plots?.show(Number(input.value));
}

function close() {
  following?.stop();
  following = undefined;
  forgetAge();
  for (const element of [main, sections, logout]) element.hidden = true;
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  tail.forget();
  letters.forget();
  found.forget();
  forgetHistory();
  entry.hidden = false;
  showHealth('closed', 'Not logged in');
  login.elements.token.focus();
}

login.addEventListener('submit', async (event) => {
  event.preventDefault();
  const { token } = login.elements;
  const result = login.querySelector('.result');
  setText(result, '');
  try {
    await ask('login', { token: token.value });
    token.value = '';
    open(true);
    main.focus();
  } catch (error) {
    setText(result, `Not logged in: ${error.message}`);
    token.select();
  }
});

logout.addEventListener('click', async () => {
  await ask('logout', {}).catch(() => undefined);
  close();
});

document.addEventListener('logged-out', close);

async function start() {
  const snapshot = document.querySelector('#snapshot');
  const first = JSON.parse(snapshot.textContent);
  snapshot.remove();
  if (first) {
    open(first.login, first.hello);
    return;
  }
  await askSession();
}

async function askSession() {
  try {
    const { login: needsLogin, allowed } = await ask('session');
    if (allowed) open(needsLogin);
    else close();
  } catch (error) {
    showHealth('lost', error.message);
    setTimeout(askSession, 2_000);
  }
}

start();
