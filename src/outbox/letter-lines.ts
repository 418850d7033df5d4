/** Dead letters as JSON lines: any number, with one page in memory at a time. */
import { json } from '../format.js';
import type { DeadLetterFilter, DeadLetterStore } from './dead-letters.ts';

/** How many are read at a time; one letter may have a quarter of a megabyte. */
const PAGE = 50;

/**
 * Returns all matches with their content, oldest first; excludes those that arrive meanwhile.
 * @param onPage called with the size of each page
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
