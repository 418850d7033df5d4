/** The order of dead letters, the same in every store. Pure. */

/** Numbers by their size, texts by their characters; what has none comes first. */
export function compareKeys(a: string | number | null | undefined, b: string | number | null | undefined): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [first, second] = [a ?? '', b ?? ''];
  return first === second ? 0 : first < second ? -1 : 1;
}
