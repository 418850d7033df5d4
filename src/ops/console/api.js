/** How the page asks the daemon. */

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
