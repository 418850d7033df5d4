/**
 * One stream for all tabs of a browser, which limits connections per address to six: the tab that holds the lock
 * follows the daemon and forwards its messages.
 *
 * Maintained invariants:
 * - A hidden tab neither leads nor follows.
 * - One visible tab leads. If it closes, the browser gives its lock to the next; if it hangs or is frozen, another tab
 *   takes the lock because of its silence.
 * - Without locks (plain HTTP beyond loopback) each tab has its own stream.
 */
import { openStream } from './stream.js';

/** Tabs of other releases, with another protocol, use another name. */
const NAME = 'xmpp-event-pusher-live-1';
const ALIVE_MS = 1_000;
/** After this silence the leading tab hangs; random spread keeps tabs from reacting all at once. */
const DEAD_MS = 4_000;
const SPREAD_MS = 2_000;
/** How often a tab repeats its request, so that the leader forgets crashed tabs. */
const REPEAT_MS = 10_000;
const FORGET_MS = 30_000;
/** How many of the latest lines a new tab gets. */
const KEPT = 200;

const locks = navigator.locks;
const me = `${Date.now()} ${Math.random()}`;
const keyOf = ({ bodies, match }) => JSON.stringify([bodies, match]);

/**
 * Follows the daemon while the tab is visible.
 * @param {{ bodies: boolean, match: string }} wish which notifications
 * @param {Record<'hello' | 'tick' | 'notifications' | 'lost' | 'silent' | 'hidden', (data?) => void>} on
 * @returns {{ wish(next): void, stop(): void }}
 */
export function followTogether(wish, on) {
  const channel = locks ? new BroadcastChannel(NAME) : undefined;
  let wanted = wish;
  /** Releases the lock; undefined while another tab has it. */
  let abdicate;
  let waiting;
  let watch;
  let repeating;
  let seen = false;

  const hear = (name, data) => {
    if (name === 'notifications' && data.of !== keyOf(wanted)) return;
    on[name](data);
  };
  const say = (message) => channel?.postMessage({ from: me, ...message });
  const sayWish = () => say({ kind: 'wish', wish: wanted });

  const lead = () => {
    const leader = createLeader(say, hear, () => wanted);
    abdicate = () => {
      abdicate = undefined;
      leader.end();
    };
    onMessage = leader.take;
    rewish = leader.rewish;
    clearTimeout(watch);
  };
  let onMessage = () => {};
  let rewish = sayWish;
  const followLeader = () => {
    rewish = sayWish;
    onMessage = ({ kind, name, data, to, allowed }) => {
      if (to !== undefined && to !== me) return;
      if (kind === 'who') sayWish();
      if (kind === 'heard') hear(name, data);
      if (kind === 'heard' || kind === 'alive') watchLeader();
      if (allowed === false) document.dispatchEvent(new Event('logged-out'));
    };
    watchLeader();
    sayWish();
  };
  const watchLeader = () => {
    clearTimeout(watch);
    watch = setTimeout(() => queue({ steal: true }), DEAD_MS + Math.random() * SPREAD_MS);
  };

  /** Waits for the lock, or takes it from a silent tab. */
  const queue = async ({ steal }) => {
    waiting?.abort();
    const mine = new AbortController();
    waiting = mine;
    try {
      await locks.request(NAME, steal ? { steal } : { signal: mine.signal }, async () => {
        if (!seen || waiting !== mine) return;
        lead();
        await new Promise((resolve) => mine.signal.addEventListener('abort', resolve));
      });
    } catch {
      // Another tab took the lock because this one was silent (frozen or busy), or this tab no longer waits.
      if (waiting !== mine || !seen) return;
      abdicate?.();
      followLeader();
      queue({ steal: false });
    }
  };

  const join = () => {
    if (seen) return;
    seen = true;
    if (!locks) {
      lead();
      return;
    }
    followLeader();
    repeating = setInterval(() => rewish(), REPEAT_MS);
    queue({ steal: false });
  };
  const leave = () => {
    if (!seen) return;
    seen = false;
    clearTimeout(watch);
    clearInterval(repeating);
    if (!abdicate) say({ kind: 'gone' });
    abdicate?.();
    onMessage = () => {};
    waiting?.abort();
    waiting = undefined;
  };
  const turn = () => {
    if (!document.hidden) {
      join();
      return;
    }
    leave();
    on.hidden();
  };
  channel?.addEventListener('message', ({ data }) => onMessage(data));
  document.addEventListener('visibilitychange', turn);
  // The browser may keep a page that was left, for going back.
  addEventListener('pagehide', leave);
  addEventListener('pageshow', turn);
  turn();
  return {
    wish(next) {
      wanted = next;
      rewish();
    },
    stop() {
      document.removeEventListener('visibilitychange', turn);
      removeEventListener('pagehide', leave);
      removeEventListener('pageshow', turn);
      leave();
      channel?.close();
    },
  };
}

/** The leading tab: follows the daemon for all tabs. */
function createLeader(say, hear, mine) {
  /** The requests of other tabs, and when each was last repeated. */
  const tabs = new Map();
  /** The latest lines of each request, for new tabs. */
  const kept = new Map();
  let hello;
  const tell = (name, data) => {
    if (name === 'hello') hello = data;
    if (name === 'tick') hello &&= { ...hello, state: data.state };
    if (name === 'notifications') keep(data);
    hear(name, data);
    say({ kind: 'heard', name, data });
  };
  const keep = ({ of, list, missed, passed = 0 }) => {
    const before = kept.get(of) ?? { list: [], missed: 0, passed: 0 };
    kept.set(of, {
      of,
      list: [...before.list, ...list].slice(-KEPT),
      missed: before.missed + missed,
      passed: before.passed + passed,
    });
  };
  const stream = openStream(tell);
  const want = () => {
    const now = performance.now();
    for (const [id, { at }] of tabs) if (now - at > FORGET_MS) tabs.delete(id);
    const wishes = new Map([mine(), ...[...tabs.values()].map(({ wish }) => wish)].map((wish) => [keyOf(wish), wish]));
    for (const key of kept.keys()) if (!wishes.has(key)) kept.delete(key);
    stream.want(wishes);
  };
  const alive = setInterval(() => say({ kind: 'alive' }), ALIVE_MS);
  say({ kind: 'who' });
  want();
  let before = keyOf(mine());
  return {
    take({ kind, from, wish }) {
      if (kind === 'gone') tabs.delete(from);
      if (kind === 'wish') {
        const known = tabs.get(from);
        tabs.set(from, { wish, at: performance.now() });
        if (known && keyOf(known.wish) === keyOf(wish)) return;
        if (!known && hello) say({ kind: 'heard', name: 'hello', data: hello, to: from });
        const lines = kept.get(keyOf(wish));
        if (lines) say({ kind: 'heard', name: 'notifications', data: lines, to: from });
      }
      want();
    },
    rewish() {
      const key = keyOf(mine());
      const lines = key === before ? undefined : kept.get(key);
      before = key;
      if (lines) hear('notifications', lines);
      want();
    },
    end() {
      clearInterval(alive);
      stream.end();
    },
  };
}
