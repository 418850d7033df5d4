/** A lock per key: users of one key take turns in their order of arrival. */
export function createTurns(): (key: string) => Promise<() => void> {
  /** The last user of each key: resolved when it has left. */
  const last = new Map<string, Promise<void>>();
  /** @returns the function with which the user leaves */
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
