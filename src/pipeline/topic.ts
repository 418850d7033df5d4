/**
 * One topic of a publisher: its backlog, what of it waits in lanes, and what keeps it from being sent.
 *
 * Maintained invariant: what it holds in memory is bounded by the credit that its backlog was given.
 */
import { type Backlog, costOf, type Outbox, type Stored } from '../outbox/outbox.ts';
import type { Throttling } from './condition.ts';
import { type Entry, Lanes } from './lanes.ts';
import type { TopicPause } from './pause.ts';

/** What one topic holds in memory at most, in credit: 4,000 notifications or 16 MiB, enough to fill every slot from many lanes. */
const WINDOW = 4_000;
/** Of how many more, which wait behind others of their lane, the numbers are held: 8 bytes each. */
const MOST_PARKED = 1_000_000;
/** Credit is given in such portions, so that what is read from disk is read in bulk. */
const PORTION = 1_000;
/**
 * With so many requests of a topic under way, a batch that is not full waits a moment for more: a request costs the same
 * whether it holds one notification or ten. At low load nothing waits.
 */
const BUSY_REQUESTS = 4;
const GATHER_MS = 2;

interface TopicSetup {
  readonly name: string;
  readonly outbox: Outbox;
  readonly pause: TopicPause;
  /** Most notifications in a batch. */
  readonly maxEntries: () => number;
  /** Called when there may be more to send, or less. */
  readonly onChange: () => void;
  /** Called when it has waited long enough for a full batch. */
  readonly onGathered: () => void;
}

export class Topic {
  readonly name: string;
  readonly backlog: Backlog;
  readonly lanes = new Lanes();
  readonly pause: TopicPause;
  /** Halves of batches that the sink refused as a whole. */
  readonly halves: (readonly Entry[])[] = [];
  /** Requests under way. */
  inFlight = 0;
  throttled: Throttling | undefined;
  /** The last request of which the sink took anything. */
  lastTaken = -1;
  readonly #setup: TopicSetup;
  /** What the backlog may still hand out. */
  #credit = 0;
  /** While it waits for what would fill a batch, and whether it has waited long enough. */
  #gathering: NodeJS.Timeout | undefined;
  #gathered = false;

  constructor(setup: TopicSetup) {
    this.#setup = setup;
    this.name = setup.name;
    this.pause = setup.pause;
    this.backlog = setup.outbox.backlog(
      setup.name,
      (notifications) => this.#take(notifications),
      (seqs) => this.#recall(seqs),
    );
  }

  /** Lets the backlog hand out more, when enough of what it gave has gone. */
  refill(): void {
    const free = WINDOW - this.lanes.held - this.#credit;
    if (free < PORTION || this.lanes.parked > MOST_PARKED) return;
    this.#credit += free;
    this.backlog.request(free);
  }

  /** Whether it has something to send, and may; it begins to wait where that would fill a batch. */
  maySend(): boolean {
    return (this.halves.length > 0 || this.lanes.ready) && this.pause.allows(this.inFlight) && !this.#gathers();
  }

  /** A request begins: what comes next is gathered anew. */
  begin(): void {
    this.inFlight += 1;
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    this.#gathered = false;
  }

  /** Ends all that would go on by itself. */
  stop(): void {
    this.pause.stop();
    clearTimeout(this.#gathering);
  }

  #take(notifications: readonly Stored[]): void {
    for (const notification of notifications) {
      this.#credit -= costOf(notification.bytes);
      this.lanes.add(notification);
    }
    this.#setup.onChange();
  }

  /** Another daemon sends these; what is under way here ends here. */
  #recall(seqs: ReadonlySet<number>): readonly number[] {
    const forgotten = this.lanes.forget(seqs);
    this.#setup.onChange();
    return forgotten;
  }

  /** Whether it waits for more, so that its next batch is full. */
  #gathers(): boolean {
    if (this.#gathered || this.inFlight < BUSY_REQUESTS || this.halves.length > 0) return false;
    if (this.lanes.readyCount >= this.#setup.maxEntries()) return false;
    this.#gathering ??= setTimeout(() => {
      this.#gathered = true;
      this.#setup.onGathered();
    }, GATHER_MS).unref();
    return true;
  }
}
