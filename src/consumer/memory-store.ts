/** Claims and states in this process's memory: for one consumer, and for tests. */
import type { ClaimStore } from './dedupe.ts';
import type { StateStore } from './presence.ts';

export interface MemoryStoreOptions {
  /** Most events remembered; beyond it the oldest are forgotten. */
  readonly maxEvents?: number;
  readonly now?: () => number;
}

interface Claim {
  readonly owner: string;
  readonly done: boolean;
  readonly until: number;
}

/** A store for `dedupe` and `presenceState`. States are kept for as long as the process lives. */
export function memoryStore({ maxEvents = 100_000, now = Date.now }: MemoryStoreOptions = {}): ClaimStore & StateStore {
  // A Map iterates in the order of insertion: the first key is the oldest.
  const claims = new Map<string, Claim>();
  const states = new Map<string, { value: string; version: number }>();
  const put = (id: string, claim: Claim) => {
    claims.delete(id);
    claims.set(id, claim);
    for (const oldest of claims.keys()) {
      if (claims.size <= maxEvents) break;
      claims.delete(oldest);
    }
  };
  return {
    async claim(id, owner, leaseMs) {
      const held = claims.get(id);
      if (held && held.until > now()) return held.done ? 'done' : 'busy';
      put(id, { owner, done: false, until: now() + leaseMs });
      return 'claimed';
    },
    async done(id, owner, keepMs) {
      put(id, { owner, done: true, until: now() + keepMs });
    },
    async release(id, owner) {
      const held = claims.get(id);
      if (held?.owner === owner && !held.done) claims.delete(id);
    },
    async read(key) {
      return states.get(key);
    },
    async write(key, value, version) {
      if ((states.get(key)?.version ?? 0) !== version) return false;
      states.set(key, { value, version: version + 1 });
      return true;
    },
  };
}
