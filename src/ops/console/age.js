/**
 * How old what the page shows is. A daemon that hangs, a killed one and a dead tunnel all leave figures behind that look
 * like those of now: then the page greys, and each part says of when it is.
 */
import { clock, setText } from './dom.js';
import { seconds } from './format.js';
import { showHealth } from './status.js';

const main = document.querySelector('#main');
const notice = document.querySelector('#old');

/** The page's own clock: the daemon's can't be asked when it is silent. */
let freshAt;
/** The daemon's time of what is shown. */
let shownAt;
let why;
let timer;

/** What is shown is of now. @param {number} at the daemon's time */
export function markFresh(at) {
  freshAt = performance.now();
  shownAt = at;
  if (why === undefined) return;
  forgetAge();
}

/** Nothing newer comes. @param {string} reason such as `No answer` */
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

/** As before anything was shown. */
export function forgetAge() {
  why = undefined;
  clearInterval(timer);
  notice.hidden = true;
  main.classList.remove('old');
  for (const title of main.querySelectorAll('[data-old]')) delete title.dataset.old;
}
