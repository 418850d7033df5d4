/** The order of dead letters, the same in every store. Pure. */

/** Compares numbers by size, texts by characters; missing keys come first. */
export function compareKeys(a: string | number | null | undefined, b: string | number | null | undefined): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [first, second] = [a ?? '', b ?? ''];
  return first === second ? 0 : first < second ? -1 : 1;
}

/** Merges two sorted lists. */
export function mergeSorted<T>(first: readonly T[], second: readonly T[], order: (a: T, b: T) => number): T[] {
  const merged: T[] = [];
  let [a, b] = [0, 0];
  while (a < first.length && b < second.length)
    merged.push(order(first[a] as T, second[b] as T) <= 0 ? (first[a++] as T) : (second[b++] as T));
  while (a < first.length) merged.push(first[a++] as T);
  while (b < second.length) merged.push(second[b++] as T);
  return merged;
}
