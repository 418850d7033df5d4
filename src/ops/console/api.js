/** Requests to the daemon. */

/**
 * Sends a request and returns the JSON answer; dispatches `logged-out` if the session has ended.
 * @param {string} path below `api/`
 * @param {unknown} [body] makes it a POST; default: a GET
 * @throws Error with the daemon's message
 */
export async function ask(path, body) {
  const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(`api/${path}`, body === undefined ? {} : post);
  } catch {
    throw new Error('the daemon is not responding');
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401 && path !== 'login') document.dispatchEvent(new Event('logged-out'));
  throw new Error(answer.error?.message ?? `the daemon answered ${response.status}`);
}
