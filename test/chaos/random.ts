/** Randomness that a seed replays: each choice has a name, so that one choice's draws do not affect another's. */

/** Uniform in [0, 1): the next number of a stream. */
export type Random = () => number;

/** The stream with this name. */
export function randomOf(seed: number, name: string): Random {
  // FNV-1a of the name, then mulberry32: small, and good enough for faults.
  let state = seed ^ 0x811c9dc5;
  for (let index = 0; index < name.length; index++) state = Math.imul(state ^ name.charCodeAt(index), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A whole number from 0 to `below` - 1. */
export const whole = (random: Random, below: number): number => Math.floor(random() * below);

export const pick = <T>(random: Random, list: readonly T[]): T => list[whole(random, list.length)] as T;
