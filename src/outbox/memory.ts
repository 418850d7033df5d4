/**
 * An outbox in memory, for tests of host programs and for dry runs. It keeps the port's promises except the first: its
 * content is lost with the process.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PusherError } from '../errors.ts';
import { bytes } from '../format.js';
import type { DeadLetterStore } from './dead-letters.ts';
import { MemoryDeadLetters } from './memory-dead-letters.ts';
import { refuseMaxBytes } from './options.ts';
import {
  type Admission,
  type Backlog,
  type Cursor,
  costOf,
  type Health,
  type Outbox,
  type Settlement,
  type Stored,
} from './outbox.ts';
import { refusedLetter } from './refused-letter.ts';
import {
  advance,
  type Hole,
  latestFirst,
  MOST_HOLES,
  outdated,
  type Position,
  type Reached,
  type SourceState,
  type SourceStore,
  stateOf,
} from './sources.ts';
import { createTurns } from './turns.ts';

export interface MemoryOutboxOptions {
  /** Limit in bytes of notifications and dead letters, above which `commit` rejects. Default: 64 MiB. */
  readonly maxBytes?: number;
  /** Milliseconds since the Unix epoch. */
  readonly now?: () => number;
}

/** The default limit in bytes: 64 MiB. */
const MAX_BYTES = 67_108_864;

/** One topic's backlog. */
interface Waiting {
  /** Unsettled notifications, in order. */
  readonly unsettled: Map<number, Stored & { readonly committedAt: number }>;
  /** Notifications not yet passed to the consumer. */
  pending: Stored[];
  hand: (() => void) | undefined;
}

/** Opens an outbox in memory. */
export function memoryOutbox({ maxBytes = MAX_BYTES, now = Date.now }: MemoryOutboxOptions = {}): Outbox {
  refuseMaxBytes('memoryOutbox', maxBytes);
  return new MemoryOutbox(maxBytes, now);
}

class MemoryOutbox implements Outbox {
  readonly fault = undefined;
  readonly deadLetters: DeadLetterStore;
  readonly #maxBytes: number;
  readonly #now: () => number;
  readonly #letters: MemoryDeadLetters;
  readonly #turns = createTurns();
  readonly #topics = new Map<string, Waiting>();
  readonly #positions = new Map<string, Position>();
  /** Newest first. */
  #holes: Hole[] = [];
  #lastHole = 0;
  readonly sources: SourceStore;
  readonly #listeners = new Set<(topic: string) => void>();
  #lastSeq = 0;
  #bytes = 0;
  #closed = false;

  constructor(maxBytes: number, now: () => number) {
    this.#maxBytes = maxBytes;
    this.#now = now;
    this.#letters = new MemoryDeadLetters(now);
    const letters = this.#letters;
    this.sources = {
      list: async (limit) => latestFirst(this.#states(), limit),
      holes: async () => this.#holes,
      acknowledge: async (source) => this.#acknowledge(source),
      retire: async (source) => this.#retire(source),
    };
    this.deadLetters = {
      put: (deadLetters) => this.commit({ notifications: [], deadLetters }),
      browse: async (query) => letters.browse(query),
      find: async (filter, limit, afterId) => letters.find(filter, limit, afterId),
      read: async (id) => letters.find({ ids: [id] }, 1)[0],
      counts: async () => letters.counts(),
      toReplay: async (limit) => letters.toReplay(limit),
      requestReplay: async (filter, onProgress) => letters.requestReplay(filter, onProgress),
      purge: async (filter, onProgress) => letters.purge(filter, onProgress),
    };
  }

  async source(name: string, epoch: string): Promise<Cursor> {
    const key = keyOf({ source: name, epoch });
    const release = await this.#turns(key);
    const positions = this.#positions;
    return {
      get last() {
        return positions.get(key)?.last;
      },
      get newestAt() {
        return positions.get(key)?.newestAt;
      },
      commit: async (admission, progress) => {
        await this.commit(admission);
        this.#advance(key, { ...progress, source: name, epoch });
      },
      release,
    };
  }

  async commit({ notifications, deadLetters, replaces = [] }: Admission): Promise<void> {
    if (this.#closed) throw new PusherError('OUTBOX_CLOSED', 'the outbox is closed');
    if (this.#used() >= this.#maxBytes)
      throw new PusherError(
        'OUTBOX_FULL',
        `the outbox is full: it holds ${bytes(this.#used())} of ${bytes(this.#maxBytes)}`,
      );
    const committedAt = this.#now();
    for (const id of replaces) this.#letters.remove(id);
    for (const letter of deadLetters) this.#letters.add(letter);
    const topics = new Set<string>();
    for (const notification of notifications) {
      const { unsettled, pending } = this.#waitingFor(notification.topic);
      const stored = { ...notification, seq: ++this.#lastSeq };
      this.#bytes += notification.bytes;
      unsettled.set(stored.seq, { ...stored, committedAt });
      pending.push(stored);
      topics.add(notification.topic);
    }
    for (const topic of topics) {
      const { hand } = this.#waitingFor(topic);
      if (hand) hand();
      else for (const listener of this.#listeners) listener(topic);
    }
  }

  backlog(topic: string, take: (notifications: readonly Stored[]) => void): Backlog {
    const waiting = this.#waitingFor(topic);
    if (waiting.hand) throw new Error(`the backlog of ${topic} is open already`);
    let credit = 0;
    waiting.pending = [...waiting.unsettled.values()].map(({ committedAt: _, ...stored }) => stored);
    waiting.hand = () => {
      const handed: Stored[] = [];
      for (const next of waiting.pending) {
        if (credit <= 0) break;
        credit -= costOf(next.bytes);
        handed.push(next);
      }
      waiting.pending = waiting.pending.slice(handed.length);
      if (handed.length > 0) take(handed);
    };
    return {
      request: (more) => {
        credit += more;
        void nextTurn().then(() => waiting.hand?.());
      },
      load: async (seqs) => {
        const found = seqs.toSorted((a, b) => a - b).map((seq) => waiting.unsettled.get(seq));
        return found.flatMap((entry) => (entry ? [withoutTime(entry)] : []));
      },
      settle: async (settlements) => {
        if (!this.#closed) for (const settlement of settlements) this.#settle(waiting, settlement);
      },
      close: async () => {
        waiting.hand = undefined;
      },
    };
  }

  topics(): Iterable<string> {
    return this.#topics.keys();
  }

  onTopic(listener: (topic: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  health(): Health {
    const topics = [...this.#topics].map(([topic, { unsettled }]) => ({ topic, depth: unsettled.size }));
    const oldest = [...this.#topics.values()].flatMap(({ unsettled }) => {
      const [first] = unsettled.values();
      return first ? [first.committedAt] : [];
    });
    return {
      topics,
      sources: this.#states(),
      holes: this.#holes,
      deadLetters: this.#letters.size,
      bytes: this.#used(),
      maxBytes: this.#maxBytes,
      oldestAt: oldest.length > 0 ? Math.min(...oldest) : undefined,
      fault: undefined,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #used(): number {
    return this.#bytes + this.#letters.bytes;
  }

  #waitingFor(topic: string): Waiting {
    const known = this.#topics.get(topic);
    if (known) return known;
    const waiting: Waiting = { unsettled: new Map(), pending: [], hand: undefined };
    this.#topics.set(topic, waiting);
    return waiting;
  }

  #settle({ unsettled }: Waiting, { notification, dead }: Settlement): void {
    // A reload that didn't wait for a hanging request settles twice; count it once.
    if (!unsettled.delete(notification.seq)) return;
    this.#bytes -= notification.bytes;
    if (dead) this.#letters.add(refusedLetter(notification, dead));
  }

  #advance(key: string, reached: Reached): void {
    const before = this.#positions.get(key);
    const at = this.#now();
    const { position, hole } = advance(before, reached, at);
    this.#positions.set(key, position);
    if (hole) this.#holes = [{ id: ++this.#lastHole, ...hole }, ...this.#holes].slice(0, MOST_HOLES);
    if (!before) for (const each of outdated(this.#positions.values(), at)) this.#positions.delete(keyOf(each));
  }

  #states(): SourceState[] {
    return [...this.#positions.values()].map(stateOf);
  }

  #acknowledge(source?: string): number {
    const before = this.#holes.length;
    this.#holes = source === undefined ? [] : this.#holes.filter((hole) => hole.source !== source);
    return before - this.#holes.length;
  }

  #retire(source: string): boolean {
    this.#acknowledge(source);
    const found = [...this.#positions.values()].filter((state) => state.source === source);
    for (const each of found) this.#positions.delete(keyOf(each));
    return found.length > 0;
  }
}

const keyOf = ({ source, epoch }: Pick<SourceState, 'source' | 'epoch'>): string => `${source}\n${epoch}`;

const withoutTime = ({ committedAt: _, ...stored }: Stored & { readonly committedAt: number }): Stored => stored;
