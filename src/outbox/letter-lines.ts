/** Dead letters as JSON lines: of any number, one page in memory at a time. */
import { json } from '../format.js';
import type { DeadLetterFilter, DeadLetterStore } from './dead-letters.ts';

/** How many are read at a time. A letter may have a quarter of a megabyte. */
const PAGE = 50;

/**
 * All that match, oldest first, with what they contain; what comes meanwhile is left out.
 * @param onPage called with how many each page has
 */
export async function* linesOfLetters(
  store: Pick<DeadLetterStore, 'find' | 'counts'>,
  filter: DeadLetterFilter,
  onPage: (count: number) => void = () => undefined,
): AsyncGenerator<string> {
  const newest = (await store.counts()).reduce((most, { newestId }) => Math.max(most, newestId), 0);
  const upToId = Math.min(newest, filter.upToId ?? newest);
  for (let after = 0; ; ) {
    const letters = await store.find({ ...filter, upToId }, PAGE, after);
    const last = letters.at(-1);
    if (!last) return;
    onPage(letters.length);
    yield letters.map((letter) => `${json(letter)}\n`).join('');
    after = last.id;
  }
}
