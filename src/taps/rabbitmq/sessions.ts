/**
 * How many available sessions each user has, counted from what MongooseIM publishes: true is one more, false one less, and
 * never fewer than none. Counted for each full JID, this is right for both orders in which a session that takes another's
 * resource over can be published (true false, false true); by the last event of a full JID it would not be.
 */

/** How often a full JID is available: more than once only while one session takes another's resource over. */
export type SessionCount = readonly [jid: string, count: number];

export class Sessions {
  readonly #counts = new Map<string, number>();
  /** The sum of each user's counts. */
  readonly #users = new Map<string, number>();

  /** How many full JIDs are available. */
  get size(): number {
    return this.#counts.size;
  }

  /** Counts one event; answers how many sessions the user has then. */
  change(jid: string, present: boolean): number {
    this.set(jid, Math.max(this.count(jid) + (present ? 1 : -1), 0));
    return this.ofUser(jid);
  }

  count(jid: string): number {
    return this.#counts.get(jid) ?? 0;
  }

  /** How many sessions a user has; any of the user's JIDs will do. */
  ofUser(jid: string): number {
    return this.#users.get(userOf(jid)) ?? 0;
  }

  set(jid: string, count: number): void {
    const user = userOf(jid);
    const ofUser = this.ofUser(jid) - this.count(jid) + count;
    setOrDelete(this.#counts, jid, count);
    setOrDelete(this.#users, user, ofUser);
  }

  entries(): IterableIterator<SessionCount> {
    return this.#counts.entries();
  }
}

/** A JID without its resource. */
function userOf(jid: string): string {
  const slash = jid.indexOf('/');
  return slash < 0 ? jid : jid.slice(0, slash);
}

function setOrDelete(map: Map<string, number>, key: string, value: number): void {
  if (value === 0) map.delete(key);
  else map.set(key, value);
}
