/** The live feed of the daemon, connected again when it breaks or falls silent. */
import { ask } from './api.js';

const RECONNECT_MS = 2_000;
/** The daemon says something every 2 s: after so long without a word it hangs, or the way to it is dead. */
const SILENT_MS = 6_000;
/** The first word comes over a line that may be slow. */
const FIRST_MS = 20_000;
/** More lines at a time, four times a second, than anyone reads. */
const MOST = 40;

/**
 * Follows the feed. What of the notifications is wanted is said to the daemon beside it, so that a change of that breaks
 * no connection.
 * @param {(name: 'hello' | 'tick' | 'notifications' | 'lost' | 'silent', data?) => void} on
 * @returns {{ want(wishes: Map<string, { bodies: boolean, match: string }>): void, end(): void }}
 */
export function openStream(on) {
  let source;
  let timer;
  let watch;
  /** The daemon's name of this connection, and what it was asked for last. */
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
        // Notifications say nothing about the figures' age.
        if (event !== 'notifications') waitFor(SILENT_MS);
        const told = JSON.parse(data);
        if (event === 'hello') name = told.stream;
        on(event, told);
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
    // An EventSource does not say why it failed; if it was the session, asking tells.
    const session = await ask('session').catch(() => undefined);
    if (session && !session.allowed) document.dispatchEvent(new Event('logged-out'));
  };
  const say = async () => {
    const follow = [...wanted].map(([of, { bodies, match }]) => ({ of, bodies, match, most: MOST }));
    const text = JSON.stringify(follow);
    if (name === undefined || text === asked) return;
    asked = text;
    // Where it fails, the connection has ended as well, and the next one asks again.
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
