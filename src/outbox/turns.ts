/** Lets users of one key in one after the other, in the order in which they came; those of different keys side by side. */
export function createTurns(): (key: string) => Promise<() => void> {
  /** The last user of each key: resolved when it has left. */
  const last = new Map<string, Promise<void>>();
  /** @returns what the user calls to leave */
  return async (key) => {
    const before = last.get(key);
    const { promise: left, resolve } = Promise.withResolvers<void>();
    last.set(key, left);
    await before;
    return () => {
      if (last.get(key) === left) last.delete(key);
      resolve();
    };
  };
}
