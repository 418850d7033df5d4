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

/**
 * Follows the live feed, and connects again when it breaks; answers what ends that.
 * @param {{ bodies: boolean }} options
 * @param {Record<'opened' | 'hello' | 'tick' | 'notifications' | 'lost', (data?) => void>} on
 */
export function follow({ bodies }, on) {
  let source;
  let timer;
  const connect = () => {
    // 40 lines at a time, four times a second, is more than anyone reads.
    source = new EventSource(`api/live?tail=${bodies ? 'bodies' : 'lines'}&most=40`);
    for (const name of ['hello', 'tick', 'notifications'])
      source.addEventListener(name, ({ data }) => on[name](JSON.parse(data)));
    source.addEventListener('open', on.opened);
    source.addEventListener('error', lost);
  };
  const lost = async () => {
    source.close();
    on.lost();
    timer = setTimeout(connect, RECONNECT_MS);
    // An EventSource does not say why it failed; if it was the session, asking tells.
    const session = await ask('session').catch(() => undefined);
    if (session && !session.allowed) document.dispatchEvent(new Event('logged-out'));
  };
  connect();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
