/** The daemon's live feed; reconnects when it breaks or falls silent. */
import { ask } from './api.js';

const RECONNECT_MS = 2_000;
/** The daemon sends something every 2 s: after this silence it hangs, or the connection is dead. */
const SILENT_MS = 6_000;
/** The first message may come over a slow connection. */
const FIRST_MS = 20_000;
/** Limit for lines at a time, four times a second: more than anyone reads. */
const MOST = 40;

/**
 * Follows the feed. A separate request tells the daemon which notifications to send, so that changing that does not
 * break the connection.
 * @param {(name: 'hello' | 'tick' | 'notifications' | 'lost' | 'silent', data?) => void} on
 * @returns {{ want(wishes: Map<string, { bodies: boolean, match: string }>): void, end(): void }}
 */
export function openStream(on) {
  let source;
  let timer;
  let watch;
  /** The daemon's name for this connection, and the last request. */
  let name;
  let asked = '';
  let wanted = new Map();

  const waitFor = (ms) => {
    clearTimeout(watch);
    watch = setTimeout(silent, ms);
  };
  const connect = () => {
    disconnect();
    const opened = new EventSource('api/live?tail=off&samples=no');
    source = opened;
    for (const event of ['hello', 'tick', 'notifications'])
      opened.addEventListener(event, ({ data }) => {
        if (opened !== source) return;
        // Notifications do not show that the figures are current.
        if (event !== 'notifications') waitFor(SILENT_MS);
        const message = JSON.parse(data);
        if (event === 'hello') name = message.stream;
        on(event, message);
        if (event === 'hello') say();
      });
    opened.addEventListener('error', lost);
    waitFor(FIRST_MS);
  };
  const disconnect = () => {
    clearTimeout(timer);
    clearTimeout(watch);
    source?.close();
    source = undefined;
    name = undefined;
    asked = '';
  };
  const silent = () => {
    on('silent');
    connect();
  };
  const lost = async () => {
    disconnect();
    on('lost');
    timer = setTimeout(connect, RECONNECT_MS);
    // An EventSource gives no reason for a failure; this request shows whether the session ended.
    const session = await ask('session').catch(() => undefined);
    if (session && !session.allowed) document.dispatchEvent(new Event('logged-out'));
  };
  const say = async () => {
    const follow = [...wanted].map(([of, { bodies, match }]) => ({ of, bodies, match, most: MOST }));
    const text = JSON.stringify(follow);
    if (name === undefined || text === asked) return;
    asked = text;
    // If it fails, the connection has ended too, and the next one repeats the request.
    await ask(`live/${name}`, { follow }).catch(() => {
      if (asked === text) asked = '';
    });
  };
  connect();
  return {
    want(wishes) {
      wanted = wishes;
      say();
    },
    end: disconnect,
  };
}
