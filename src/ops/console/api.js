/** How the page talks to the daemon. */

/**
 * Asks, and answers the JSON; when the session has ended, the page is told by the event `logged-out`.
 * @param {string} path below `api/`
 * @param {unknown} [body] what to post; without one it is a GET
 * @throws Error with what the daemon says
 */
export async function ask(path, body) {
  const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(`api/${path}`, body === undefined ? {} : post);
  } catch {
    throw new Error('the daemon does not answer');
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401 && path !== 'login') document.dispatchEvent(new Event('logged-out'));
  throw new Error(answer.error?.message ?? `the daemon answered ${response.status}`);
}

const RECONNECT_MS = 2_000;
/** The daemon says something every 2 s: after so long without a word it hangs, or the way to it is dead. */
const SILENT_MS = 6_000;
/** The first word is an hour of samples, which a slow line takes its time for. */
const FIRST_MS = 20_000;

/**
 * Follows the live feed, and connects again when it breaks or falls silent; answers what ends that. A hidden page follows
 * nothing: a browser opens six connections to one address, and each page that holds one takes it from all others.
 * @param {{ bodies: boolean, match: string }} options
 * @param {Record<'opened' | 'hello' | 'tick' | 'notifications' | 'lost' | 'silent' | 'hidden', (data?) => void>} on
 */
export function follow({ bodies, match }, on) {
  let source;
  let timer;
  let watch;
  const waitFor = (ms) => {
    clearTimeout(watch);
    watch = setTimeout(silent, ms);
  };
  const connect = () => {
    disconnect();
    if (document.hidden) return;
    // 40 lines at a time, four times a second, is more than anyone reads.
    const query = new URLSearchParams({ tail: bodies ? 'bodies' : 'lines', most: 40, ...(match && { match }) });
    source = new EventSource(`api/live?${query}`);
    for (const name of ['hello', 'tick', 'notifications'])
      source.addEventListener(name, ({ data }) => {
        // Notifications say nothing about the figures' age.
        if (name !== 'notifications') waitFor(SILENT_MS);
        on[name](JSON.parse(data));
      });
    source.addEventListener('open', on.opened);
    source.addEventListener('error', lost);
    waitFor(FIRST_MS);
  };
  const disconnect = () => {
    clearTimeout(timer);
    clearTimeout(watch);
    source?.close();
  };
  const silent = () => {
    on.silent();
    connect();
  };
  const lost = async () => {
    disconnect();
    on.lost();
    timer = setTimeout(connect, RECONNECT_MS);
    // An EventSource does not say why it failed; if it was the session, asking tells.
    const session = await ask('session').catch(() => undefined);
    if (session && !session.allowed) document.dispatchEvent(new Event('logged-out'));
  };
  const turn = () => {
    if (document.hidden) on.hidden();
    connect();
  };
  document.addEventListener('visibilitychange', turn);
  connect();
  return () => {
    document.removeEventListener('visibilitychange', turn);
    disconnect();
  };
}
