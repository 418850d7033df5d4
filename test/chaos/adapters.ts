/**
 * Adapters that follow the tap protocol: each numbers its events, has one open batch, and resends it until it is
 * acknowledged. Event `seq` of a source is always the same, so none needs to be stored.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'undici';
import { SECRET } from '../support/daemon.ts';
import { pick, randomOf, whole } from './random.ts';

export const EPOCH = 'e1';
/** Words by which the endpoint recognizes messages to refuse: only the entry, or the whole request. */
export const REFUSED = 'refused-by-plan';
export const POISONED = 'poisoned-by-plan';

/** The defect of a planted event. */
export type Flaw = 'too-large' | 'malformed' | 'refused' | 'poisoned';

export const FLAWS: readonly Flaw[] = ['too-large', 'malformed', 'refused', 'poisoned'];

const USERS = 40;
const ROOMS = 8;
/** One message in so many has up to SNS's maximum length: so some batches are full by bytes, not by count. */
const LONG_EVERY = 500;
const LONG = 250_000;
/** The length of messages that fill a disk. */
const BULK = 10_000;
const MALFORMED: readonly unknown[] = [
  null,
  42,
  'presence',
  { kind: 'iq' },
  { kind: 'presence', at: 1, host: 'localhost', jid: '@@', present: true },
  { kind: 'message', at: 1, host: 'localhost', type: 'chat', from: 'a@localhost/x', to: 'b@localhost' },
  { kind: 'message', at: 1, host: 'localhost', type: 'chat', from: 'a@localhost/x', to: 'b@localhost', body: '\u0000' },
];

export interface Adapter {
  readonly source: string;
  /** Its number of events. */
  readonly total: number;
  /** Planted events by number. */
  readonly flaws: ReadonlyMap<number, Flaw>;
  /** The last acknowledged number. */
  readonly acknowledged: number;
  /** The daemon's refusals so far, by error code. */
  readonly refusals: ReadonlyMap<string, number>;
  /** Settles when all events are acknowledged or the signal aborts; rejects if the daemon violates the protocol. */
  run(signal: AbortSignal): Promise<void>;
  /** Ends the adapter's events with the last one that it has tried to send. */
  finish(): void;
}

export interface AdapterOptions {
  readonly tapUrl: string;
  readonly source: string;
  /** By default it generates large events until `finish`. */
  readonly total?: number;
  readonly seed: number;
  /** Planted events by number. */
  readonly flaws?: ReadonlyMap<number, Flaw>;
}

export const eventId = (source: string, seq: number): string => `${source}/${EPOCH}/${seq}`;

export function createAdapter({ tapUrl, source, seed, flaws = new Map(), ...options }: AdapterOptions): Adapter {
  const url = new URL(tapUrl);
  const refusals = new Map<string, number>();
  const bulk = options.total === undefined;
  let total = options.total ?? Number.POSITIVE_INFINITY;
  let acknowledged = 0;
  let offered = 0;

  const post = async (client: Client, first: number, size: number): Promise<boolean> => {
    const events = Array.from({ length: size }, (_, index) =>
      eventOf(seed, source, first + index, flaws.get(first + index), bulk),
    );
    const answer = await client.request({
      method: 'POST',
      path: url.pathname,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${SECRET}` },
      body: JSON.stringify({ source, epoch: EPOCH, first_seq: first, events }),
    });
    const text = await answer.body.text();
    if (answer.statusCode === 503) {
      const { code } = (JSON.parse(text) as { error: { code: string } }).error;
      refusals.set(code, (refusals.get(code) ?? 0) + 1);
      return false;
    }
    if (answer.statusCode !== 200) throw new Error(`${source}: HTTP ${answer.statusCode} for ${first}: ${text}`);
    const receipt = JSON.parse(text) as { accepted: number; duplicates: number; rejected: unknown[] };
    const counted = receipt.accepted + receipt.duplicates + receipt.rejected.length;
    if (counted !== size) throw new Error(`${source}: ${size} events from ${first} on, answered ${text}`);
    return true;
  };

  return {
    source,
    get total() {
      return total;
    },
    flaws,
    get acknowledged() {
      return acknowledged;
    },
    refusals,
    async run(signal) {
      const client = new Client(url.origin, { headersTimeout: 60_000 });
      const random = randomOf(seed, source);
      try {
        while (acknowledged < total && !signal.aborted) {
          // A resent batch may have another size, as with an adapter that has new events meanwhile.
          const size = Math.min(1 + whole(random, 100), total - acknowledged);
          offered = Math.max(offered, acknowledged + size);
          const kept = await post(client, acknowledged + 1, size).catch(ifDaemonIsAway);
          if (kept) acknowledged += size;
          else await sleep(20 + whole(random, 80));
        }
      } finally {
        await client.destroy();
      }
    },
    finish() {
      total = offered;
    },
  };
}

/** Ignores errors of a daemon that was killed or has not started yet. */
function ifDaemonIsAway(error: unknown): false {
  const { code = '' } = error as { code?: string };
  if (/^(UND_ERR_SOCKET|ECONNREFUSED|ECONNRESET|EPIPE)$/.test(code)) return false;
  throw error;
}

/** Event `seq` of a source. */
export function eventOf(seed: number, source: string, seq: number, flaw: Flaw | undefined, bulk = false): unknown {
  const random = randomOf(seed, `${source} ${seq}`);
  if (flaw === 'malformed') return pick(random, MALFORMED);
  const node = source.split('@')[1];
  const user = (number: number, rest = '') => `${nameOf(number)}${rest}@localhost`;
  const from = `${user(whole(random, USERS), `.${node}`)}/phone`;
  const common = { at: Date.now(), host: 'localhost' };
  const kind = flaw || bulk ? 1 + whole(random, 3) : whole(random, 4);
  if (kind === 0) return { kind: 'presence', ...common, jid: from, present: random() < 0.5 };
  // Only one node writes to a room, so that the order of its messages is known.
  const to = kind === 3 ? `room${whole(random, ROOMS)}.${node}@rooms.localhost` : user(whole(random, USERS));
  const length = whole(random, LONG_EVERY) === 0 ? whole(random, LONG) : whole(random, 400);
  const text = 'x'.repeat(flaw === 'too-large' ? 262_200 : bulk ? BULK : length);
  const word = flaw === 'refused' ? REFUSED : flaw === 'poisoned' ? POISONED : 'hello';
  return { kind: 'message', ...common, type: kind === 3 ? 'groupchat' : 'chat', from, to, body: `${word} & <${text}>` };
}

/** Some names have characters that a MessageGroupId can't have, some are too long for one. */
function nameOf(number: number): string {
  if (number % 10 === 1) return `jürgen${number}`;
  return number % 10 === 2 ? `user${number}${'y'.repeat(130)}` : `user${number}`;
}

/** Draws which of the sources' first `total` events are planted: `each` of every flaw. */
export function plantFlaws(
  seed: number,
  sources: readonly string[],
  total: number,
  each: number,
): ReadonlyMap<string, ReadonlyMap<number, Flaw>> {
  const random = randomOf(seed, 'flaws');
  const planted = new Map(sources.map((source) => [source, new Map<number, Flaw>()]));
  for (const flaw of FLAWS) {
    for (let count = 0; count < each; ) {
      const flaws = planted.get(pick(random, sources))!;
      const seq = 1 + whole(random, total);
      if (flaws.has(seq)) continue;
      flaws.set(seq, flaw);
      count += 1;
    }
  }
  return planted;
}
