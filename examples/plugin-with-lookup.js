/**
 * An example plugin in JavaScript that asks another service how users are named, and keeps the answers for a while.
 * A plugin may also be one object like this one, exported as default.
 *
 * An answer that takes more than 5 s, or does not come, turns the event into a dead letter with the reason; replay those
 * when the service is back: `xmpp-event-pusher dead-letters replay --reason plugin`.
 */
const KEPT_MS = 10 * 60_000;
const MOST = 100_000;

/** @type {import('xmpp-event-pusher').SnsPlugin & { accounts: Map<string, { id: Promise<string>, until: number }> }} */
const plugin = {
  accounts: new Map(),

  userGuid(jid) {
    const user = jid.bare().toString();
    const known = this.accounts.get(user);
    if (known && known.until > Date.now()) return known.id;
    // The promise is kept, not its answer: a thousand messages of one user at a time make one request.
    const id = accountOf(user);
    this.accounts.set(user, { id, until: Date.now() + KEPT_MS });
    // What failed is asked again at the next event.
    id.catch(() => this.accounts.delete(user));
    // A map keeps its order: the first is the one that was asked for longest ago.
    if (this.accounts.size > MOST) this.accounts.delete(this.accounts.keys().next().value);
    return id;
  },
};

/** The account of a user, from ACCOUNTS_URL?jid=user, which answers {"id": "…"}. */
async function accountOf(user) {
  const url = new URL(process.env.ACCOUNTS_URL ?? 'http://127.0.0.1:8080/accounts');
  url.searchParams.set('jid', user);
  const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  if (!answer.ok) throw new Error(`${url.origin} answered ${answer.status}`);
  return (await answer.json()).id;
}

export default plugin;
