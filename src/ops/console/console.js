/** The page: logs in where that is needed, follows the live feed, and hands what it tells to the parts. */
import { forgetAge, markFresh, markOld } from './age.js';
import { ask, follow } from './api.js';
import { createDeadLetters } from './dead-letters.js';
import { now, setClock, setText } from './dom.js';
import { createPlots } from './plots.js';
import { showHealth, showState } from './status.js';
import { createTail } from './tail.js';

const main = document.querySelector('#main');
const login = document.querySelector('#login');
const logout = document.querySelector('#logout');
const sections = document.querySelector('#sections');

/** Dead letters can change without their number doing so: they are asked for again after so many ticks at the latest. */
const LETTERS_EVERY = 15;

const ranges = [...document.querySelectorAll('input[name="range"]')];

let parts;
let fitted = false;
let stopFollowing = () => {};

function open(needsLogin) {
  for (const element of [main, sections]) element.hidden = false;
  login.hidden = true;
  logout.hidden = !needsLogin;
  // Made when they are seen: a plot needs to know how wide it is.
  parts ??= createParts();
  start({ bodies: false, match: '' });
}

function createParts() {
  const plots = createPlots(document.querySelector('#plots'));
  const tail = createTail(start);
  for (const input of ranges) input.addEventListener('change', () => plots.show(Number(input.value)));
  return { plots, tail, letters: createDeadLetters() };
}

function start({ bodies, match }) {
  const { plots, tail, letters } = parts;
  let ticks = 0;
  const show = (state) => {
    markFresh(state.at);
    showState(state, plots.samples());
    // What it has loaded, not what the last tick said: a replay may be refused again between two ticks, and count the same.
    const changed = state.outbox.deadLetters !== letters.loaded();
    if (changed || letters.replaying() || ticks++ % LETTERS_EVERY === 0) letters.load();
  };
  stopFollowing();
  stopFollowing = follow(
    { bodies, match },
    {
      hello({ version, samples, state }) {
        setClock(state.at);
        setText(document.querySelector('#version'), version);
        plots.reset(samples);
        fitRange(samples);
        show(state);
      },
      tick({ sample, state }) {
        setClock(state.at);
        plots.add(sample);
        show(state);
      },
      notifications: (lines) => tail.add(lines),
      // The last few notifications come again with every connection.
      opened: () => tail.reset(),
      lost: () => markOld('Connection lost'),
      silent: () => markOld('No answer'),
      hidden: () => markOld('Asleep'),
    },
  );
}

/** A daemon that was just started has little to show: then the shortest range that holds it is chosen. */
function fitRange(samples) {
  if (fitted) return;
  fitted = true;
  const seconds = samples.length === 0 ? 0 : (now() - samples[0].at) / 1_000;
  const input = ranges.find(({ value }) => seconds < Number(value)) ?? ranges.at(-1);
  input.checked = true;
  parts.plots.show(Number(input.value));
}

function close() {
  stopFollowing();
  forgetAge();
  for (const element of [main, sections, logout]) element.hidden = true;
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  parts?.tail.forget();
  parts?.letters.forget();
  login.hidden = false;
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

async function begin() {
  try {
    const { login: needsLogin, allowed } = await ask('session');
    if (allowed) open(needsLogin);
    else close();
  } catch (error) {
    showHealth('lost', error.message);
    setTimeout(begin, 2_000);
  }
}

begin();
