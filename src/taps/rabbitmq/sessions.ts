/**
 * Counts each user's available sessions from MongooseIM's events: true adds one, false removes one, down to zero.
 * Counting by full JID is right for both orders in which MongooseIM can publish that a session takes over another's
 * resource (true false, false true); the last event of a full JID would not be.
 */

/** Available sessions of each full JID: more than one only while a session takes over another's resource. */
export type SessionCount = readonly [jid: string, count: number];

export class Sessions {
  readonly #counts = new Map<string, number>();
  /** The sum of each user's counts. */
  readonly #users = new Map<string, number>();

  /** Number of available full JIDs. */
  get size(): number {
    return this.#counts.size;
  }

  /** Counts one event; returns the user's new number of sessions. */
  change(jid: string, present: boolean): number {
    this.set(jid, Math.max(this.count(jid) + (present ? 1 : -1), 0));
    return this.ofUser(jid);
  }

  count(jid: string): number {
    return this.#counts.get(jid) ?? 0;
  }

  /** A user's number of sessions, by any JID of the user. */
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
