/** One opened dead letter. Its content is fetched only on request, because each view is logged. */
import { ask } from './api.js';
import { make, moment, setText } from './dom.js';
import { count, printableLines } from './format.js';

const dialog = document.querySelector('#letter');
const content = dialog.querySelector('pre');
const button = (name) => dialog.querySelector(`button[name="${name}"]`);

/**
 * @param act called with `replay` or `delete` and the letter's number; returns functions to open a letter and to clear
 * it
 */
export function createLetter(act) {
  let opened;
  for (const action of ['replay', 'delete'])
    button(action).addEventListener('click', () => {
      dialog.close();
      act(action, opened.id);
    });
  button('show').addEventListener('click', async () => {
    if (!content.hidden) {
      showContent(undefined);
      return;
    }
    const asked = opened;
    let text;
    try {
      const letter = await ask(`dead-letters/${asked.id}`);
      text = JSON.stringify(readable(letter.content), null, 2);
    } catch (error) {
      text = `Not shown: ${error.message}`;
    }
    // Meanwhile the user may have opened another letter or logged out.
    if (opened === asked) showContent(text);
  });
  const open = (letter) => {
    opened = letter;
    setText(dialog.querySelector('h2'), `Dead letter ${letter.id}`);
    const rows = fields(letter).map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value)));
    dialog.querySelector('dl').replaceChildren(...rows);
    showContent(undefined);
    dialog.showModal();
  };
  const forget = () => {
    opened = undefined;
    dialog.close();
    dialog.querySelector('dl').replaceChildren();
    showContent(undefined);
  };
  // Other parts name a letter only by its number.
  document.addEventListener('open-letter', async ({ detail: id }) => {
    const { letters } = await ask(`dead-letters/find?after=${id - 1}&limit=1`).catch(() => ({ letters: [] }));
    if (letters[0]?.id === id) open(letters[0]);
  });
  return { open, forget };
}

const fields = ({ reason, detail, topic, eventId, attempts, diedAt }) => [
  ['Reason', reason],
  ['What was wrong', detail],
  ['Topic', topic ?? 'none'],
  ['Event', eventId],
  ['Tries', count(attempts)],
  ['Since', moment(diedAt)],
];

function showContent(text) {
  content.textContent = printableLines(text ?? '');
  content.hidden = text === undefined;
  button('show').setAttribute('aria-expanded', String(!content.hidden));
  setText(button('show'), content.hidden ? 'Show content' : 'Hide content');
}

/** Parses the notification's message, JSON in a string, for readability. */
function readable(content) {
  const message = content.notification?.message;
  if (typeof message !== 'string') return content;
  try {
    return { ...content, notification: { ...content.notification, message: JSON.parse(message) } };
  } catch {
    return content; // A plugin may have produced a message that is not JSON: shown unchanged.
  }
}
