/**
 * An example plugin in JavaScript that looks up the names of users at another service and caches them. A plugin may
 * also be a single object like this one, as the default export.
 *
 * If a lookup fails or takes more than 5 s, the event becomes a dead letter with the reason; replay those when the
 * service works again: `xmpp-event-pusher dead-letters replay --reason plugin`.
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
    // Caches the promise, not the answer: a thousand concurrent messages of one user make one request.
    const id = accountOf(user);
    this.accounts.set(user, { id, until: Date.now() + KEPT_MS });
    // A failed request is repeated at the next event.
    id.catch(() => this.accounts.delete(user));
    // A map keeps its order: the first entry is the oldest.
    if (this.accounts.size > MOST) this.accounts.delete(this.accounts.keys().next().value);
    return id;
  },
};

/** Looks up a user's account at ACCOUNTS_URL?jid=user, which answers {"id": "…"}. */
async function accountOf(user) {
  const url = new URL(process.env.ACCOUNTS_URL ?? 'http://127.0.0.1:8080/accounts');
  url.searchParams.set('jid', user);
  const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  if (!answer.ok) throw new Error(`${url.origin} answered ${answer.status}`);
  return (await answer.json()).id;
}

export default plugin;
