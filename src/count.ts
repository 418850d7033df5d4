/** A number and what it counts: `1 event`, `2 events`, `0 events`. */
export const countOf = (number: number, one: string, many = `${one}s`): string =>
  `${number} ${number === 1 ? one : many}`;
