/** A row of choices, at most one of them selected, each with its count. */
import { keepRows, make, setText } from './dom.js';
import { count } from './format.js';

/** The maximum shown; search finds the rest. */
const MOST = 12;

/**
 * @param {HTMLElement} parent
 * @param {() => void} changed called when the user selects a choice
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
    /** @param {[value: string, name: string, number: number][]} choices sorted by number, descending */
    show(choices) {
      // A selected choice stays, even if its last item is gone.
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
