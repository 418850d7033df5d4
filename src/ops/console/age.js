/**
 * The age of the displayed figures. A hanging daemon, a killed one and a dead tunnel all leave figures that look
 * current: then the page is greyed out, and each part shows its time.
 */
import { clock, setText } from './dom.js';
import { seconds } from './format.js';
import { showHealth } from './status.js';

const main = document.querySelector('#main');
const notice = document.querySelector('#old');

/** By the page's own clock: a silent daemon can't be asked for its time. */
let freshAt;
/** The daemon's time of the displayed figures. */
let shownAt;
let why;
let timer;

/** The displayed figures are current. @param {number} at the daemon's time */
export function markFresh(at) {
  freshAt = performance.now();
  shownAt = at;
  if (why === undefined) return;
  forgetAge();
}

/** No newer figures arrive. @param {string} reason such as `No answer` */
export function markOld(reason) {
  why = reason;
  showHealth('lost', reason);
  if (shownAt === undefined) return;
  main.classList.add('old');
  const of = `as of ${clock(shownAt)}`;
  for (const title of main.querySelectorAll('h2, .figures dt, figcaption strong')) title.dataset.old = of;
  showNotice();
  clearInterval(timer);
  timer = setInterval(showNotice, 1_000);
}

function showNotice() {
  notice.hidden = false;
  const ago = seconds(performance.now() - freshAt);
  setText(
    notice.querySelector('span'),
    `${why}: the daemon was last heard at ${clock(shownAt)}, ${ago} ago. Everything below is as it was then.`,
  );
}

/** Resets everything to the state before the first figures. */
export function forgetAge() {
  why = undefined;
  clearInterval(timer);
  notice.hidden = true;
  main.classList.remove('old');
  for (const title of main.querySelectorAll('[data-old]')) delete title.dataset.old;
}
