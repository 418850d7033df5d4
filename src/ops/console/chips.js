/** A row of choices of which one may be chosen, each with how many there are. */
import { keepRows, make, setText } from './dom.js';
import { count } from './format.js';

/** So many are shown; the rest is found by searching. */
const MOST = 12;

/**
 * @param {HTMLElement} parent
 * @param {() => void} changed called when a person chooses
 */
export function createChips(parent, changed) {
  let chosen;
  const mark = () => {
    for (const chip of parent.children) chip.setAttribute('aria-pressed', String(chip.dataset.key === chosen));
  };
  return {
    chosen: () => chosen,
    forget() {
      chosen = undefined;
      parent.replaceChildren();
    },
    /** @param {[value: string, name: string, number: number][]} choices most first */
    show(choices) {
      // A choice stays while it is chosen, also when the last of its kind has gone.
      const own = choices.find(([value]) => value === chosen) ?? [chosen, chosen?.split(':').at(-1), 0];
      const few = choices.slice(0, MOST);
      const shown = chosen === undefined || few.some(([value]) => value === chosen) ? few : [own, ...few];
      keepRows(parent, shown, {
        key: ([value]) => value,
        create: ([value, name]) => {
          const chip = make('button', { type: 'button', class: 'small' }, name, ' ', make('b', {}));
          chip.addEventListener('click', () => {
            chosen = chosen === value ? undefined : value;
            mark();
            changed();
          });
          return chip;
        },
        update: (chip, [, , number]) => setText(chip.querySelector('b'), count(number)),
      });
      mark();
    },
  };
}
